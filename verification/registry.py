"""Registry of the checks, and running of one: Hypothesis draws cases, the recorder judges them."""

import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, assume
from hypothesis.errors import HypothesisWarning
from hypothesis.strategies import SearchStrategy, just

from verification.record import NOT_REACHED, Failed, Recorder, Rejected, Row

#: what a check compares with, or argues from
EVIDENCE = {
    "oracle": "naive loops or exact fractions, written from the paper alone",
    "forward mode": "dual numbers pushed through the spiking network",
    "differences": "finite differences of the smooth network",
    "adjoint": "<J v, w> = <v, J^T w>, and linearity of every backward",
    "structure": "properties that the paper's claims imply",
    "twin": "Numba kernels against NumPy equations",
    "float32": "kernels for float32 only against NumPy equations, mostly in float64",
    "peer": "the same in PyTorch",
}


@dataclass(frozen=True)
class Check:
    name: str
    evidence: str
    clauses: tuple[str, ...]
    function: Callable[[Any, Recorder], None]
    cases: SearchStrategy[Any]
    quick: int  # draws in a quick run
    full: int


CHECKS: list[Check] = []


def check(
    name: str,
    evidence: str,
    clauses: str,
    cases: SearchStrategy[Any] | None = None,
    quick: int = 1,
    full: int = 1,
) -> Callable[[Callable[[Any, Recorder], None]], Callable[[Any, Recorder], None]]:
    """Register `function(case, record)` as a check of `clauses`, on `quick` or `full` draws.

    Without `cases` it runs once, with None.
    """
    assert evidence in EVIDENCE

    def register(function: Callable[[Any, Recorder], None]) -> Callable[[Any, Recorder], None]:
        drawn = just(None) if cases is None else cases
        CHECKS.append(Check(name, evidence, tuple(clauses.split()), function, drawn, quick, full))
        return function

    return register


def run_check(one: Check, seed: int, quick: bool, shrink: bool) -> list[Row]:
    """Run a check until its first failure, and return a row for each of its clauses.

    With `shrink`, a failing case is simplified.
    """
    record = Recorder(one.name, one.evidence, one.clauses)

    @hypothesis.seed(seed ^ zlib.crc32(one.name.encode()))
    @hypothesis.settings(
        max_examples=one.quick if quick else one.full,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )
    @hypothesis.given(one.cases)
    def run(case: Any) -> None:
        record.start_case()
        try:
            one.function(case, record)
        except Rejected:
            assume(False)
        record.end_case()

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # about long reprs of cases
            run()
    except Failed as failure:
        blamed, *others = failure.clauses
        mark(record.rows[blamed], failure.text)
        for name in others:
            mark(record.rows[name], f"{NOT_REACHED}: see [{blamed}]")
    except hypothesis.errors.Unsatisfiable:
        mark(record.rows[one.clauses[0]], "every draw was rejected")
    except Exception as error:  # any exception of the code under test is a failure
        mark(record.rows[one.clauses[0]], f"raised {type(error).__name__}: {error}".splitlines()[0])
    rows = list(record.rows.values())
    judged, rejected = max(row.cases for row in rows), rows[0].rejected
    if rejected > 2 * judged + 10 and all(row.passed for row in rows):
        mark(rows[0], f"{rejected} draws were rejected, {judged} judged")
    stopped = any(not row.passed for row in rows)
    for row in rows:
        if row.cases == 0 and row.passed and (stopped or not quick):
            mark(row, NOT_REACHED if stopped else "no case was compared")
    return [row for row in rows if row.cases or not row.passed]  # a few draws may miss a clause


def mark(row: Row, failure: str) -> None:
    row.passed, row.failure = False, failure
