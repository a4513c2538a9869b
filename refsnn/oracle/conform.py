"""Another implementation run through the cases: what passed, what failed and where first."""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import Any

from refsnn.oracle.actual import precision_of
from refsnn.oracle.compare import SHOWN, Comparison, compare_case
from refsnn.oracle.isolate import Answer, Isolated
from refsnn.oracle.vectors import Case

STATUSES = ("passed", "failed", "unsupported", "expected")
ENDINGS = {
    "raised": "raised", "garbage": "gave no arrays", "hung": "hung", "died": "died",
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What came of one case. `status` is one of STATUSES; `expected`: it failed, as was said."""

    case: str
    level: str
    clauses: tuple[str, ...]
    status: str
    ending: str  # done | unsupported | raised | garbage | hung | died
    message: str  # the first divergence, or what else went wrong; the reason of `unsupported`
    reason: str = ""  # why it was expected to fail
    flips: int = 0  # spikes that rounding excuses
    flipped: tuple[str, ...] = ()  # a few of them in words
    first: dict[str, Any] | None = None  # the first divergence, field by field
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)  # each output's error
    problems: tuple[str, ...] = ()
    printed: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """All results; `stale` says of each expected failure that isn't one why."""

    adapter: str
    precision: str
    omits: tuple[str, ...]
    results: tuple[Result, ...]
    stale: tuple[str, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)  # cases that can't be read, and why
    seconds: float = field(default=0.0, compare=False)

    def count(self, status: str) -> int:
        return sum(r.status == status for r in self.results)

    @property
    def passed(self) -> bool:
        """Nothing failed unexpectedly, no expectation is stale, all could be read, and something
        was run at all."""
        run = len(self.results) - self.count("unsupported")
        return run > 0 and not (self.count("failed") or self.stale or self.damaged)

    def to_dict(self) -> dict[str, Any]:
        counts = {status: self.count(status) for status in STATUSES}
        return {"passed": self.passed, "counts": counts, **asdict(self)}


def conform(
    isolated: Isolated, cases: Iterable[Case], *,
    expected: Mapping[str, str] | None = None, known: Iterable[str] | None = None,
    precision: str | None = None, omits: Sequence[str] = (), declared_only: bool = False,
    watch: Callable[[str], None] = lambda text: None,
    keep: Callable[[Case, Mapping[str, Any]], None] = lambda case, arrays: None,
    damaged: Mapping[str, str] | None = None,
) -> Report:  # fmt: skip
    """Runs the cases, each after the other, through the adapter in its process.

    `expected`: patterns of case ids, and why these fail; `known`: the ids that patterns may match
    (default: those that are run); `precision` overrides what the adapter declares, or else what
    its arrays are of; `omits` adds to it; with `declared_only` cases of levels that it doesn't
    declare are left out, not unsupported; `watch` is told each case's id before it runs, `keep`
    gets what came of it; `damaged` are further cases, which can't be read, and why. ValueError
    where no adapter can be made.
    """
    start = perf_counter()
    ready = isolated.start()
    expected = expected or {}
    precision, seen = precision or ready["precision"], set()
    omits = (*ready["omits"], *omits)
    results = []
    for case in cases:
        if declared_only and case.level not in ready["levels"]:
            continue
        watch(case.id)
        if case.level not in ready["levels"]:
            answer = Answer("unsupported", f"it declares no level {case.level}", {}, "")
            seconds = 0.0
        else:
            begin = perf_counter()
            answer = isolated.run(case)
            seconds = perf_counter() - begin
        if answer.status == "done":
            keep(case, answer.arrays)
        of_case = precision or precision_of({case.id: answer.arrays})
        seen.add(of_case)
        results.append(judge(case, answer, of_case, omits, expected, seconds))
    stale = find_stale(expected, results, known)
    took = perf_counter() - start
    used = precision or min(seen, default="float64")  # float32 where any array was of it
    return Report(ready["name"], used, omits, tuple(results), tuple(stale), damaged or {}, took)


def judge(
    case: Case, answer: Answer, precision: str, omits: Sequence[str],
    expected: Mapping[str, str], seconds: float,
) -> Result:  # fmt: skip
    status, found = "failed", None
    if answer.status == "unsupported":
        status, message = "unsupported", answer.message
    elif answer.status == "done":
        found = compare_case(case, answer.arrays, precision, omits)
        status, message = ("passed", "") if found.passed else ("failed", tell(found))
    else:
        message = f"{ENDINGS[answer.status]}: {answer.message}"
    reason = next((r for p, r in expected.items() if fnmatchcase(case.id, p)), "")
    if status == "failed" and reason:
        status = "expected"
    result = Result(
        case.id, case.level, case.clauses, status, answer.status, message,
        reason if status == "expected" else "", printed=answer.printed, seconds=seconds,
    )  # fmt: skip
    if found is None:
        return result
    return replace(
        result, flips=len(found.flips), flipped=tuple(found.flip_words()),
        tensors=found.tensors, problems=tuple(found.problems),
        first=None if found.first is None else asdict(found.first),
    )  # fmt: skip


def tell(found: Comparison) -> str:
    """The first divergence, and what could not be compared, on a line."""
    first = [] if found.first is None else [str(found.first).removeprefix(f"{found.case}: ")]
    more = len(found.problems) - SHOWN
    rest = [f"{more} more such problems"] if more > 0 else []
    return "; ".join([*first, *found.problems[:SHOWN], *rest])


def find_stale(
    expected: Mapping[str, str], results: Sequence[Result], known: Iterable[str] | None
) -> list[str]:
    """A line for each expected failure that passed, or of which there is no case."""
    ids = {r.case for r in results} | set(known or ())
    lines = []
    for pattern, reason in expected.items():
        matched = [r for r in results if fnmatchcase(r.case, pattern)]
        passed = [r.case for r in matched if r.status == "passed"]
        if passed:
            lines.append(f"{pattern}: expected to fail ({reason}), but passed: {few(passed)}")
        elif matched and all(r.status == "unsupported" for r in matched):
            lines.append(f"{pattern}: expected to fail ({reason}), but is unsupported")
        elif not any(fnmatchcase(name, pattern) for name in ids):
            lines.append(f"{pattern}: expected to fail ({reason}), but there is no such case")
    return lines


def few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def read_expected(path: Path) -> dict[str, str]:
    """Patterns of case ids -> why they fail, from the table [cases] of a TOML file."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"expected-failures: got {path}, want TOML: {error}") from None
    surplus = sorted(content.keys() - {"cases"})
    cases = content.get("cases")
    if surplus or not isinstance(cases, dict):
        raise ValueError(
            f"expected-failures: got {path} with {few(surplus) or 'no table [cases]'}, "
            "want one table, [cases]"
        )
    for pattern, reason in cases.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(
                f"expected-failures: got {reason!r} for {pattern!r} in {path}, want a reason"
            )
    return cases
