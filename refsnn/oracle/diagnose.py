"""Search for the conventions that reproduce an implementation's outputs, or come nearest."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from refsnn.oracle import evidence
from refsnn.oracle.comparison import Comparison
from refsnn.oracle.conventions import CONVENTIONS, LEVELS
from refsnn.oracle.measure import measure
from refsnn.oracle.search import Deviations, Fit, Got, Search, is_open, upto_level
from refsnn.oracle.texts import diagnosis_text
from refsnn.oracle.vectors import Case

#: kinds of outputs in words
KINDS = {
    "grad": "gradients of parameters",
    "new": "running statistics",
    "first": "parameters after one iteration",
    "last": "parameters after the last iteration",
}


SECONDS = 120.0  # the commands' default time limit of a search


class Diagnosis(NamedTuple):
    """The conventions that reproduce the outputs, or the nearest ones."""

    matches: list[Fit]  # conventions that reproduce everything, the best first
    nearest: list[Fit]  # if there are none, those that come nearest
    problems: list[str]  # arrays that can't be compared and are left out
    cases: int  # the number of cases compared
    agree: list[str]  # kinds of outputs that agree in all cases under the best conventions
    differ: list[str]  # kinds of outputs that do not
    absent: list[str]  # kinds of outputs that were not given
    undecided: list[Deviations]  # would match as well, where there is no deviation
    stopped: float | None = None  # the time limit in seconds, if it ended the search
    profile: str = ""  # the library whose defaults the best conventions are
    measured: tuple[str, ...] = ()  # if there are no matches, what was measured, in words
    contradictions: tuple[str, ...] = ()  # outputs that contradict each other, in words

    def __str__(self) -> str:
        return diagnosis_text(self)


def diagnose(
    cases: Iterable[Case],
    got: Got,
    precision: str | None = None,
    seconds: float = math.inf,
    watch: Callable[[str], None] = lambda text: None,
) -> Diagnosis:
    """Search for the conventions that reproduce an implementation's outputs.

    `got` holds the outputs of some of the cases; the other cases are ignored. After `seconds` the
    search stops with the best found so far; `watch` is called with a description of each attempt.
    ValueError where `got` holds none of the cases.
    """
    search, fits = Search(got, precision, seconds, watch), [Fit({}, 0, 0.0, 0.0, "", 0.0)]
    named = [case for case in cases if case.id in got]
    given = [case for case in named if search.compare(case, {}).tensors]
    if not given:
        problems = [f"{case.id}: {search.compare(case, {}).problems[0]}" for case in named]
        what = f"got {', '.join(got) or 'nothing'}, want outputs of the vectors' cases"
        raise ValueError(f"actual: {problems[0] if problems else what}")
    search.measured = measure(given, got)
    for level in LEVELS:
        if search.stopped:
            break
        upto = [case for case in given if case.level in upto_level(level)]
        if any(case.level == level for case in upto):
            fits = search.explain(level, upto, [fit.deviations for fit in fits])
            if fits[0].passed < len(upto):  # higher levels contain this one
                break
    complete = [fit for fit in fits if fit.passed == len(given)]
    # the nearest conventions must be nearer than no deviation at all
    fits = search.best([{}, *(fit.deviations for fit in fits)], upto)
    nearest = [] if complete else sorted(fits, key=Fit.nearness)[:3]
    if nearest and not explains_a_case(search, given, nearest[0].deviations):
        nearest = [fit for fit in fits if not fit.deviations]
    best = [*complete, *nearest][0].deviations
    results = [search.compare(case, best, whole=True) for case in named]
    if nearest:  # count the cases of all levels, not only those searched
        passed = sum(found.agrees for found in results if found.tensors)
        firsts = [str(found.first) for found in results if found.first is not None]
        first = nearest[0].first or next(iter(firsts), "")
        nearest[0] = nearest[0]._replace(passed=passed, first=first)
    problems = [f"{found.case}: {text}" for found in results for text in found.problems]
    also_matching = undecided(search, given) if complete and not best else []
    if complete and best and "fire_at_threshold" not in best:
        ties = best | {"fire_at_threshold": True}
        if search.in_time(ties, given) and search.compare_all(ties, given):
            also_matching = [ties]
    stopped = seconds if search.stopped else None
    found = search.measured
    return Diagnosis(
        complete,
        nearest,
        problems,
        len(given),
        *kinds(results),
        also_matching,
        stopped,
        search.profile,
        () if complete else tuple(found.facts),
        () if complete else tuple(found.contradictions),
    )


def explains_a_case(search: Search, given: Sequence[Case], state: Deviations) -> bool:
    """Tell whether deviations explain a case wholly that fails without them."""
    return bool(state) and any(
        search.compare(case, state).agrees and not search.compare(case, {}).agrees for case in given
    )


def undecided(search: Search, given: Sequence[Case]) -> list[Deviations]:
    """Return the single deviations that would match as well, where there is no deviation.

    The cases cannot distinguish them. Conventions that show only at higher levels are left out.
    """
    cases = sorted(given, key=lambda case: LEVELS.index(case.level))  # where most show first
    states: list[Deviations] = [
        {name: value}
        for name, convention in CONVENTIONS.items()
        for value in convention.values
        if convention.level in upto_level(cases[-1].level)
        and value != "spikes kept"  # which the paper's reset does not read
        and is_open(name, value, cases)
    ]
    return [
        state
        for state in states
        if search.in_time(state, cases) and all(search.compare(c, state).agrees for c in cases)
    ]


def kinds(results: Sequence[Comparison]) -> tuple[list[str], list[str], list[str]]:
    """Return the kinds of outputs that agree in all cases, that differ, and that are missing."""
    ok: dict[str, bool] = {}
    for result in results:
        for name, tensor in result.tensors.items():
            kind = evidence.kind(name)
            ok[kind] = ok.get(kind, True) and tensor["status"] == "ok"
    absent = [k for k in evidence.kinds(n for r in results for n in r.omitted) if k not in ok]
    found = [k for k, right in ok.items() if right], [k for k, right in ok.items() if not right]
    agree, differ, missing = ([KINDS.get(k, k) for k in names] for names in (*found, absent))
    return agree, differ, missing
