"""Running another implementation through the cases, and judging its outputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np

from refsnn.files.documents import read_toml
from refsnn.oracle import evidence, hidden
from refsnn.oracle.compare import compare_case
from refsnn.oracle.conventions import Conventions
from refsnn.oracle.isolate import Answer
from refsnn.oracle.report import STATUSES
from refsnn.oracle.texts import listed, report_text
from refsnn.oracle.vectors import Case

#: schema of a file of expected failures: a reason that is not empty for each pattern
EXPECTED = {
    "type": "object",
    "required": ["cases"],
    "additionalProperties": False,
    "properties": {
        "cases": {"type": "object", "additionalProperties": {"type": "string", "pattern": r"\S"}},
    },
}
ENDINGS = {
    "raised": "raised",
    "garbage": "gave no arrays",
    "hung": "hung",
    "died": "died",
}


REPEATS = 2  # failed cases that are run again by a fresh adapter


class Runner(Protocol):
    """A runner of cases: `Isolated`, or an object in this process."""

    def start(self) -> dict[str, Any]:
        """Return what the adapter declares; ValueError if it cannot be made."""

    def run(self, case: Case) -> Answer:
        """Run one case."""

    def renew(self, process: bool = True) -> bool:
        """Forget all that earlier runs left, by a new process or only by a new object.

        Return whether that is possible.
        """


@dataclass(frozen=True)
class Result:
    """The result of one case. `status` is one of STATUSES; "expected" is an expected failure."""

    case: str
    level: str
    clauses: dict[str, str]  # clause -> one of STATUSES or "not judged"
    status: str
    ending: str  # done | unsupported | raised | garbage | hung | died
    message: str  # first divergence, another error, or why the case is unsupported
    reason: str = ""  # why the case was expected to fail
    precision: str | None = None  # the precision whose tolerances were used
    agrees_as: str = ""  # the lower precision whose rounding explains why it failed, or "unclear"
    flips: int = 0  # spikes that rounding may explain
    flipped: tuple[str, ...] = ()  # the first few of them in words
    omitted: tuple[str, ...] = ()  # outputs not returned that need not be
    first: dict[str, Any] | None = None  # the first divergence, field by field
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)  # each output's error
    problems: tuple[str, ...] = ()
    printed: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """All results; `stale` has a line for each expected failure that did not happen."""

    adapter: str
    precision: str | None  # as asked for or declared
    omits: tuple[str, ...]
    results: tuple[Result, ...]
    stale: tuple[str, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)  # case that can't be read -> why
    unsteady: str = ""  # how equal runs differ: by state that is kept, or at random
    conventions: Mapping[str, Any] = field(default_factory=dict)  # declared, not the paper's
    has_ties: bool = False  # whether a potential of some case lies exactly on the threshold
    seconds: float = field(default=0.0, compare=False)

    def __str__(self) -> str:
        return report_text(self)

    def __bool__(self) -> bool:
        return self.passed

    def count(self, status: str) -> int:
        return sum(r.status == status for r in self.results)

    @property
    def agrees_as(self) -> str:
        """Return the lower precision whose rounding explains all failures, "" if none does."""
        return hidden.common(r.agrees_as for r in self.results if r.status == "failed")

    @property
    def passed(self) -> bool:
        """Tell whether the implementation passed.

        At least one case was run, no failure was unexpected, no expected failure is stale, and all
        cases could be read.
        """
        run = len(self.results) - self.count("unsupported")
        return run > 0 and not (self.count("failed") or self.stale or self.damaged)

    def to_dict(self) -> dict[str, Any]:
        counts = {status: self.count(status) for status in STATUSES}
        return {
            "passed": self.passed,
            "counts": counts,
            "agrees_as": self.agrees_as,
            **asdict(self),
        }


def conform(
    isolated: Runner,
    cases: Iterable[Case],
    *,
    expected: Mapping[str, str] | None = None,
    known: Iterable[str] | None = None,
    precision: str | None = None,
    omits: Sequence[str] = (),
    declared_only: bool = False,
    watch: Callable[[str], None] = lambda text: None,
    keep: Callable[[Case, Mapping[str, Any]], None] = lambda case, arrays: None,
    damaged: Mapping[str, str] | None = None,
    ready: Mapping[str, Any] | None = None,
    conventions: Conventions | None = None,
) -> Report:
    """Run the cases one after the other through the adapter in its process.

    `expected` maps patterns of case ids to reasons why these cases fail; `known` are the ids that
    the patterns may match (default: those that are run). `precision` overrides what the adapter
    declares; by default it is that of its arrays. `omits` adds to the outputs that the adapter
    omits. With `declared_only`, cases of levels that it does not declare are left out, else they
    count as unsupported. `watch` is called with each case's id before it runs, `keep` with each
    case and its arrays. `damaged` maps further cases that cannot be read to the reasons. `ready` is
    what the adapter declares, where it was started already, and `conventions` those under which the
    cases were made, in place of the paper's. The first
    cases that fail are run again by a fresh adapter: if one passes then, the adapter keeps state
    between runs, and each later case gets a fresh one. ValueError if the adapter cannot be made.
    """
    start = perf_counter()
    ready = isolated.start() if ready is None else ready
    expected = expected or {}
    precision = precision or ready["precision"]
    omits = (*ready["omits"], *omits)
    results: list[Result] = []
    before: Case | None = None
    repeats, unsteady = REPEATS, Unsteady()
    has_ties = False
    for case in cases:
        has_ties |= "THRESHOLD_TIE" in case.flags
        if declared_only and case.level not in ready["levels"]:
            continue
        watch(case.id)
        if unsteady.text:
            isolated.renew(unsteady.process)
        if case.level not in ready["levels"]:
            answer = Answer("unsupported", f"it declares no level {case.level}", {}, "")
            seconds = 0.0
        else:
            begin = perf_counter()
            answer = isolated.run(case)
            seconds = perf_counter() - begin
        result = judge(case, answer, precision, omits, expected, seconds)
        wrong = answer.status in ("done", "raised") and result.status == "failed"
        if wrong and before and repeats and not unsteady.text and isolated.renew():
            repeats -= 1
            answer, unsteady = run_again(isolated, case, before, answer, precision, omits)
        before = case if answer.status in ("done", "unsupported") else None
        if answer.status == "done":
            keep(case, answer.arrays)
        results.append(result)
    stale = find_stale(expected, results, known)
    return Report(
        ready["name"],
        precision,
        omits,
        tuple(results),
        tuple(stale),
        damaged or {},
        unsteady.text,
        conventions or {},
        has_ties,
        seconds=perf_counter() - start,
    )


class Unsteady(NamedTuple):
    """How equal runs differ."""

    text: str = ""  # in words; "" if they do not
    process: bool = True  # whether it takes a new process, not only a new object, to be alone


def run_again(
    isolated: Runner,
    case: Case,
    before: Case,
    answer: Answer,
    precision: str | None,
    omits: Sequence[str],
) -> tuple[Answer, Unsteady]:
    """Run a case that failed after another by a fresh adapter.

    Return the fresh answer, and how it differs from the first: by state that is kept, or at random.
    """
    alone = isolated.run(case)
    if alone.status != "done" or equal(alone, answer):
        return answer, Unsteady()
    isolated.renew()
    if not equal(isolated.run(case), alone):
        return alone, Unsteady(f"random: {case.id} gives other numbers in each fresh process")
    how = f"gives other numbers after {before.id} than alone"
    if compare_case(case, alone.arrays, precision, omits).passed:
        ends = "raises" if answer.status == "raised" else "fails"
        how = f"{ends} after {before.id}, passes alone"
    isolated.run(before)
    isolated.renew(process=False)
    same_object = not equal(isolated.run(case), alone)
    return alone, Unsteady(f"state is kept between runs: {case.id} {how}", same_object)


def equal(one: Answer, other: Answer) -> bool:
    """Tell whether two answers hold the same arrays."""
    return one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(value, other.arrays[name], equal_nan=value.dtype.kind in "fc")
        for name, value in one.arrays.items()
    )


def judge(
    case: Case,
    answer: Answer,
    precision: str | None,
    omits: Sequence[str],
    expected: Mapping[str, str],
    seconds: float,
) -> Result:
    """Compare an answer with the case and return the result."""
    reason = next((r for p, r in expected.items() if fnmatchcase(case.id, p)), "")
    result = Result(
        case.id,
        case.level,
        {},
        "failed",
        answer.status,
        "",
        printed=answer.printed,
        seconds=seconds,
    )
    if answer.status == "done":
        found = compare_case(case, answer.arrays, precision, omits)
        found.agrees_as = hidden.agrees_as(case, answer.arrays, found, omits)
        wrong = not found.agrees or found.problems
        result = replace(
            result,
            status="failed" if wrong else "unsupported" if found.unjudged else "passed",
            message="; ".join(found.faults()) or found.unjudged,
            clauses=evidence.judge(found),
            precision=found.precision,
            agrees_as=found.agrees_as,
            flips=len(found.flips),
            flipped=tuple(found.excused()),
            omitted=tuple(found.omitted),
            tensors=found.tensors,
            problems=tuple(found.problems),
            first=None if found.first is None else asdict(found.first),
        )
    elif answer.status == "unsupported":
        result = replace(result, status="unsupported", message=answer.message)
    else:
        result = replace(result, message=f"{ENDINGS[answer.status]}: {answer.message}")
    if result.status == "failed" and reason:
        result = replace(result, status="expected", reason=reason)
    clauses = result.clauses or dict.fromkeys(case.clauses, result.status)
    if result.status == "expected":
        clauses = {k: "expected" if v == "failed" else v for k, v in clauses.items()}
    return replace(result, clauses=clauses)


def find_stale(
    expected: Mapping[str, str], results: Sequence[Result], known: Iterable[str] | None
) -> list[str]:
    """Return a line for each expected failure that passed or matches no case."""
    ids = {r.case for r in results} | set(known or ())
    lines = []
    for pattern, reason in expected.items():
        matched = [r for r in results if fnmatchcase(r.case, pattern)]
        passed = [r.case for r in matched if r.status == "passed"]
        if passed:
            lines.append(f"{pattern}: expected to fail ({reason}), but passed: {listed(passed)}")
        elif matched and all(r.status == "unsupported" for r in matched):
            lines.append(f"{pattern}: expected to fail ({reason}), but is unsupported")
        elif not any(fnmatchcase(name, pattern) for name in ids):
            lines.append(f"{pattern}: expected to fail ({reason}), but there is no such case")
    return lines


def read_expected(path: Path) -> dict[str, str]:
    """Return a TOML file's table [cases]: patterns of case ids -> why these cases fail."""
    cases: dict[str, str] = read_toml(path, EXPECTED)["cases"]
    return cases
