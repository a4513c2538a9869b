"""Hidden rounding: failures that are those of a lower precision than the arrays' own."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from refsnn.oracle.compare import compare_case
from refsnn.oracle.comparison import Comparison
from refsnn.oracle.conventions import PRECISIONS
from refsnn.oracle.tolerances import FORWARD, ROUNDOFF, pass_of, tolerance
from refsnn.oracle.vectors import Case

UNCLEAR = "unclear"  # a case that agrees, but shows too little of its own
#: errors that the lower precision's rounding makes, in unit roundoffs of the largest element: at
#: least, and in the forward pass in float16 at most (bfloat16's are 8 times as large)
LEAST, MOST = 0.05, 4.0
#: how much the ratio of given and expected values varies, relative to its distance from 1, if a
#: wrong factor explains it better than rounding
VARIES = 0.1


def agrees_as(case: Case, got: Mapping[str, Any], found: Comparison, omits: Sequence[str]) -> str:
    """Return the lower precision whose rounding explains why a case fails, "" if none does.

    UNCLEAR where that precision cannot judge it, or its errors are smaller than rounding makes.
    """
    if found.first is None or found.problems:
        return ""
    for lower in PRECISIONS[PRECISIONS.index(found.precision) + 1 :]:
        again = compare_case(case, got, lower, omits)
        if again.problems or not again.agrees:
            continue
        forward, errors = roundoffs(case, again)
        if again.unjudged:
            return UNCLEAR
        if is_factor(case, got, found):
            return ""
        if errors < LEAST:
            return UNCLEAR
        if lower != "float16" or forward <= MOST:
            return lower
    return ""


def roundoffs(case: Case, found: Comparison) -> tuple[float, float]:
    """Return the largest errors of the forward pass, and of all, in the precision's roundoffs.

    They are relative to an output's largest element. What is excused does not count.
    """
    errors = {}
    for name, tensor in found.tensors.items():
        scale = case.tolerances[name]["float32"] / pass_of(case.level, name)["float32"]
        error = tensor["error"] * tolerance(case, name, found.precision)
        if tensor["error"] <= 1:
            errors[name] = error / scale / ROUNDOFF[found.precision]
    forward = [error for name, error in errors.items() if pass_of(case.level, name) is FORWARD]
    return max(forward or errors.values(), default=0.0), max(errors.values(), default=0.0)


def is_factor(case: Case, got: Mapping[str, Any], found: Comparison) -> bool:
    """Tell whether what is first wrong is the expected values times a constant."""
    assert found.first is not None
    name, t = found.first.tensor, found.first.step
    part = ... if t is None else t
    expected = np.asarray(case.outputs[name][part], dtype=float)
    given = np.asarray(got[name], dtype=float)[part]
    large = np.abs(expected) > 1e-3 * np.abs(expected).max(initial=0.0)
    off = given[large] / expected[large] - 1
    if off.size < 2:
        return False
    middle = float(np.median(off))
    return middle != 0 and bool(np.abs(off - middle).max() <= VARIES * abs(middle))


def common(found: Iterable[str]) -> str:
    """Return the lowest of what `agrees_as` gave for all failures, "" if one agrees as nothing."""
    given = list(found)
    clear = [precision for precision in given if precision != UNCLEAR]
    return max(clear, key=PRECISIONS.index) if clear and all(given) else ""
