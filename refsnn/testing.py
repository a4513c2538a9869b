"""Test an implementation with pytest: each case of the oracle is a test of its own.

`pytest.mark.parametrize("case", cases("neuron"))` makes the tests, and in each of them
`check(case, Mine)` runs the case.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from refsnn.oracle import functions
from refsnn.oracle.conventions import LEVELS
from refsnn.oracle.vectors import Case


def cases(
    level: str | Sequence[str] = LEVELS,
    *,
    pattern: str | Sequence[str] = "*",
    vectors: Path | str | None = None,
) -> list[Any]:
    """Return the cases that `refsnn.cases` gives as pytest's parameters, with their ids."""
    import pytest

    given = functions.cases(level, pattern=pattern, vectors=vectors)
    return [pytest.param(case, id=case.id) for case in given]


def check(
    case: Case, implementation: Any, *, omit: str | Sequence[str] = (), precision: str | None = None
) -> None:
    """Run a case through an implementation; AssertionError says where it first goes wrong.

    `implementation` is what `refsnn.conform` takes. The test is skipped if it raises
    `refsnn.Unsupported` or does not declare the case's level. Outputs that match a pattern of
    `omit` need not be returned; a pattern that matches none of this case's is for other cases.
    """
    __tracebackhide__ = True
    import pytest

    functions.require_cases("case", [case])
    omits = [
        pattern
        for pattern in functions.as_tuple("omit", omit)
        if any(fnmatchcase(name, pattern) for name in case.outputs)
    ]
    report = functions.conform(implementation, [case], omit=omits, precision=precision)
    (result,) = report.results
    if result.status == "unsupported":
        pytest.skip(f"{case.id}: {result.message}")
    if result.status == "failed":
        raise AssertionError(f"{case.id}: {result.message}")
