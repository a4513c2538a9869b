"""The oracle from Python: `cases`, `compare`, `diagnose` and `conform`, which `refsnn` offers."""

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refsnn.ops import validate
from refsnn.oracle import catalogue, worker
from refsnn.oracle.compare import compare_case
from refsnn.oracle.comparison import Comparison
from refsnn.oracle.conform import Report
from refsnn.oracle.conform import conform as run_conform
from refsnn.oracle.conventions import LEVELS
from refsnn.oracle.declare import Declaration, declared, meant
from refsnn.oracle.diagnose import SECONDS, Diagnosis
from refsnn.oracle.diagnose import diagnose as run_diagnose
from refsnn.oracle.isolate import Answer, Isolated
from refsnn.oracle.vectors import Case

Outputs = Mapping[str, Any]  # arrays by the names of the case's outputs


class InProcess:
    """Run cases through an object in this process, where nothing stops one that hangs."""

    def __init__(self, implementation: Any) -> None:
        self.implementation = implementation
        try:
            name = getattr(implementation, "__name__", type(implementation).__name__)
            self.adapter = worker.as_adapter(implementation, name)
            self.declared = worker.describe(self.adapter, name)
        except worker.Refused as error:
            raise TypeError(f"implementation: {error}") from None

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *error: object) -> None:
        """Leave nothing to clean up."""

    def start(self) -> dict[str, Any]:
        """Return what the object declares."""
        return self.declared

    def renew(self, process: bool = True) -> bool:
        """Make a new object, where a class was given; return whether one was."""
        if not isinstance(self.implementation, type):
            return False
        self.adapter = worker.as_adapter(self.implementation, self.implementation.__name__)
        return True

    def run(self, case: Case) -> Answer:
        """Run one case; the object sees inputs of its own, and no expected values."""
        with contextlib.redirect_stdout(sys.stderr):
            answer, arrays = worker.run_adapter(
                self.adapter, lambda: worker.without_values(case), (Exception, SystemExit)
            )
        return Answer(answer["status"], answer["message"], arrays, "")


def cases(
    level: str | Sequence[str] = LEVELS,
    *,
    pattern: str | Sequence[str] = "*",
    vectors: Path | str | None = None,
    conventions: Declaration | None = None,
) -> list[Case]:
    """Return the test cases of one or several levels whose ids match a pattern.

    The levels are surrogate, neuron, layer, block, network and training; an id is LEVEL/NAME, such
    as neuron/tie, and patterns are those of `fnmatch`. `vectors` is a folder that `refsnn vectors
    generate` wrote; by default the cases are computed, under the `conventions` that are declared:
    a profile such as "spikingjelly", a TOML file, a dict, or a list of these. Its `surrogate` may
    be a slope of your own: "module:function" or a function of an array x = u_pre - v_th, or a table
    of x and h, as an array (n, 2) or a file .csv or .npy. A case has `inputs`,
    `conventions`, `settings` and the expected `outputs`, with arrays in PyTorch's axis order.
    """
    levels, patterns = as_tuple("level", level), as_tuple("pattern", pattern)
    for name in levels:
        validate.one_of("level", name, LEVELS)
    folder = None if vectors is None else Path(vectors)
    makers = catalogue.catalogue(folder, declared(conventions))
    return [makers[name]() for name in catalogue.choose(makers, levels, patterns)]


all_cases = cases  # for functions with an argument of that name


def as_tuple(name: str, value: Any) -> tuple[str, ...]:
    """Return one text, or several, as a tuple; TypeError for anything else."""
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, tuple | list) or not all(isinstance(text, str) for text in given):
        raise TypeError(f"{name}: got {validate.shown(value)}, want a text or a list of texts")
    return tuple(given)


def require_cases(name: str, cases: Any) -> list[Case]:
    """Return cases as a list; TypeError says how to get them from their ids."""
    given = list(cases) if isinstance(cases, Iterable) and not isinstance(cases, str) else [cases]
    for case in given:
        if not isinstance(case, Case):
            hint = f": refsnn.cases(pattern={case!r})" if isinstance(case, str) else ""
            raise TypeError(f"{name}: got {validate.shown(case)}, want a case{hint}")
    return given


def require_mapping(name: str, value: Any, content: str) -> None:
    """Check that a value is a mapping; TypeError says of what."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: got {type(value).__name__}, want a dict of {content}")


def compare(
    case: Case, outputs: Outputs, *, precision: str | None = None, omit: Sequence[str] = ()
) -> Comparison:
    """Compare the outputs of an implementation, by name, with those of a case.

    The result is true if all agree within tolerance (`passed`), `first` is the first divergence
    in the order of computing, and `str` describes both. Outputs that match a pattern of `omit` may
    be missing. `precision`, float32 or float64, selects the tolerances, by default as the arrays
    have it.
    """
    require_cases("case", [case])
    require_mapping("outputs", outputs, "arrays by the outputs' names")
    omits = as_tuple("omit", omit)
    catalogue.check_patterns(omits, [case])
    return compare_case(case, outputs, precision, omits)


def diagnose(
    outputs: Mapping[str, Outputs],
    *,
    vectors: Path | str | None = None,
    precision: str | None = None,
    seconds: float = SECONDS,
    conventions: Declaration | None = None,
) -> Diagnosis:
    """Find the conventions that reproduce what an implementation computed, by the cases' ids.

    `conventions` are those that the cases were made under, as in `cases`.
    The result's `matches` are sets of conventions that explain all outputs, best first; where there
    are none, `nearest` come nearest. `str` describes them. The search ends after so many `seconds`.
    """
    require_mapping("outputs", outputs, "outputs by case id")
    if not validate.number("seconds", seconds) > 0:
        raise ValueError(f"seconds: got {seconds!r}, want more than 0")
    folder = None if vectors is None else Path(vectors)
    makers = catalogue.catalogue(folder, declared(conventions))
    for name in outputs:
        require_mapping(f"outputs: {name}", outputs[name], "arrays by the outputs' names")
        if name not in makers:
            raise ValueError(f"outputs: got {name!r}{validate.nearest(name, makers)}")
    given = [makers[name]() for name in outputs]
    return run_diagnose(given, dict(outputs), precision, seconds)


def conform(
    implementation: Any,
    cases: Iterable[Case] | None = None,
    *,
    omit: Sequence[str] = (),
    precision: str | None = None,
    expected: Mapping[str, str] | None = None,
    timeout: float = 60,
    conventions: Declaration | None = None,
) -> Report:
    """Run an implementation through the cases, by default all of the levels that it declares.

    `implementation` is an object with `run(case)`, which returns the outputs by name or raises
    `refsnn.Unsupported`, a class of such objects, a function of a case, a PyTorch module that is a
    neuron, or what makes one, or the name `module:object` of any of these. A named one runs in a
    process of its own, for at most `timeout` seconds per case, so that one that hangs or dies is
    reported; an object runs in this process.

    `conventions` declares what it is meant to compute, as in `cases`; by default it is the
    implementation's own attribute of that name, or else the paper's.

    The result is true if every case passed (`passed`); `str` is the report with a table by
    level and by clause. `expected` maps patterns of ids to reasons why these cases fail, `omit`
    are patterns of outputs that are not returned.
    """
    options: dict[str, Any] = {
        "omits": as_tuple("omit", omit),
        "precision": precision,
        "expected": expected,
        "declared_only": cases is None,
    }
    require_mapping("expected", {} if expected is None else expected, "reasons by case id")
    named = isinstance(implementation, str)
    runner = Isolated(implementation, timeout=timeout) if named else InProcess(implementation)
    with runner:
        options["ready"] = ready = runner.start()
        if cases is None:
            own = ready["conventions"]
            if conventions is not None:
                own = meant(conventions, ready["has_own_numbers"])
            options["conventions"] = own
            given = all_cases(ready["levels"], conventions=own)
        else:
            given = require_cases("cases", cases)
        catalogue.check_patterns(options["omits"], given)
        return run_conform(runner, given, **options)
