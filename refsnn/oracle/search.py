"""Search for the deviations from the conventions that explain an implementation's outputs.

It goes level by level: the deviations that explain the neuron are kept while those of the layer are
searched, and so on. A deviation is kept if it moves the first divergence to a later place. As
places are in the order of computing, the conventions that act first are found first.
"""

import itertools
import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from refsnn.files.npy import NUMERIC
from refsnn.ops import SURROGATES
from refsnn.oracle.compare import compare_case
from refsnn.oracle.comparison import Comparison
from refsnn.oracle.conventions import (
    CONVENTIONS,
    FROM_SETTINGS,
    LEVELS,
    PAPER,
    Value,
    words,
)
from refsnn.oracle.declare import profiles
from refsnn.oracle.measure import Measured
from refsnn.oracle.measure.combine import needed
from refsnn.oracle.methods import follows
from refsnn.oracle.order import places
from refsnn.oracle.recompute import SERIES, beginning, recompute
from refsnn.oracle.tolerances import tolerances
from refsnn.oracle.vectors import Case
from refsnn.output import counted

Deviations = dict[str, Value]
Got = Mapping[str, Mapping[str, Any]]  # case id -> output -> array

#: numbers that are tried beside those that were measured
TRIED: dict[str, list[Value]] = {
    "tau": [0.25, 0.5, 0.75, 0.9, 1.0],
    "v_th": [0.5, 1.0],
    "input_delay": [1, 2, 3],
    "refractory": [1, 2, 3],
    "surrogate_shape": [0.25, 0.5, 1.0, 2.0, 4.0],
    "norm_eps": [1e-3, 1e-5],
    "norm_momentum": [0.9, 0.1],
    "tet_lam": [0.0, 1e-3, 0.05],
    "tet_phi": [0.0, 1.0],
    "potential_lam": [0.005, 0.01, 0.5, 1.0, 2.0],
    "teacher_weight": [0.1, 0.5, 0.9, 1.0],
    "teacher_temperature": [1.0, 2.0, 3.0, 20.0],
    "momentum": [0.0],
    "adam_beta1": [0.5],
    "adam_beta2": [0.99],
    "adam_eps": [1e-7, 1e-6],
    "weight_decay": [0.0],
}
ORDER = list(CONVENTIONS)
#: met less often than others that would explain as much
RARE = {"synapse", "input_delay", "refractory"}
BEAM = 6  # explanations that are pursued at a time
DEPTH = 4  # deviations that one level may add
FEW = 3  # failing cases that the search takes at a time; the others confirm


class Fit(NamedTuple):
    """How well some deviations explain the given outputs."""

    deviations: Deviations
    passed: int  # cases that agree
    agreed: float  # sum over cases of the fraction of places before the first divergence
    error: float  # largest error, of the first divergences if there are any, in tolerances
    first: str  # the first divergence, in words
    right: float  # sum over cases of the fraction of outputs that agree

    def nearness(self) -> tuple[Any, ...]:
        """Return a sorting key for incomplete explanations; the smallest is the best.

        Most outputs that agree (to a tenth of a case's), most cases, fewest deviations.
        """
        return (-round(self.right, 1), -self.passed, len(self.deviations), -self.agreed, self.error)

    def rank(self) -> tuple[Any, ...]:
        """Return a sorting key for deviations; the smallest is the best.

        Most that agrees, fewest deviations; then, if everything is explained, fewest rare ones and
        the order of the conventions, else the error.
        """
        order = sorted(ORDER.index(name) for name in self.deviations)
        error = math.log(self.error + 1e-300) if self.first else 0.0
        rare = len(RARE & {*self.deviations})
        return (-self.passed, -round(self.agreed, 9), len(self.deviations), error, rare, order)


@dataclass
class Search:
    """The given outputs, and the comparisons made so far."""

    got: Got
    precision: str | None  # None: that of each case's arrays
    seconds: float = math.inf  # time limit
    watch: Callable[[str], None] = lambda text: None  # called with a description of each attempt
    measured: Measured = field(default_factory=Measured)
    profile: str = ""  # the library whose defaults explain the neuron
    seen: dict[Any, Comparison] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)
    stopped: bool = False  # the time limit left something untried

    def key(self, case: Case, state: Deviations, whole: bool) -> tuple[Any, Deviations]:
        """Return a key for a comparison, and the deviations that change the case."""
        changed = {name: v for name, v in state.items() if case.conventions[name] != v}
        return (case.id, frozenset(changed.items()), whole), changed

    def in_time(self, state: Deviations, cases: Sequence[Case]) -> bool:
        """Tell whether there is time to try these deviations, or they were tried already."""
        known = time.monotonic() - self.start < self.seconds or all(
            self.key(case, state, False)[0] in self.seen for case in cases
        )
        self.stopped |= not known
        return known

    def compare(self, case: Case, state: Deviations, whole: bool = False) -> Comparison:
        """Compare the given outputs with the case computed under the deviations.

        A training is compared up to its first iteration only if that diverges, unless `whole` asks
        for all.
        """
        key, changed = self.key(case, state, whole)
        if key not in self.seen:
            found = None
            if case.level == "training" and changed and not whole:
                found = self.compare_beginning(case, changed)
            if found is None:
                got = self.got[case.id]
                found = self.compare_to(case, changed, got)
            self.seen[key] = found
        return self.seen[key]

    def compare_to(self, case: Case, changed: Deviations, got: Mapping[str, Any]) -> Comparison:
        """Compare outputs with the case computed under changed conventions."""
        if changed:
            case = within_reach(recompute(case, changed), got, case)
        return compare_case(case, got, self.precision, omits=("*",), swaps=False)

    def compare_beginning(self, case: Case, changed: Deviations) -> Comparison | None:
        """Compare the first iteration of a training; None if it agrees."""
        start = beginning(case)
        got = {
            name: value[: len(start.outputs[name])] if name in SERIES else value
            for name, value in self.got[case.id].items()
            if name in start.outputs
            and isinstance(value, np.ndarray)
            and value.shape == case.outputs[name].shape
        }
        found = self.compare_to(start, changed, got)
        if found.first is None:
            return None
        all_given = [name for name in case.outputs if name in self.got[case.id]]
        places_in, all_places = (
            len(list(places(start, list(got)))),
            len(list(places(case, all_given))),
        )
        return replace(found, agreed=found.agreed * places_in / all_places)

    def judge(self, state: Deviations, cases: Sequence[Case]) -> Fit:
        """Return how well the deviations explain the cases."""
        tried = words(state) if state else "no deviation"
        self.watch(f"{counted(len(self.seen), 'comparison')}: {tried}")
        results = [self.compare(case, state) for case in cases]
        passed = sum(result.agrees for result in results)
        divergences = [result.first for result in results if result.first is not None]
        if divergences:
            error, first = max(found.error for found in divergences), str(divergences[0])
        else:
            errors = [tensor["error"] for result in results for tensor in result.tensors.values()]
            error, first = max(errors, default=0.0), ""
        agreed = sum(result.agreed for result in results)
        return Fit(state, passed, agreed, error, first, sum(map(right, results)))

    def best(self, states: Iterable[Deviations], cases: Sequence[Case]) -> list[Fit]:
        """Return the fits of the states, each state once, the best first.

        States for which there is no time are left out, but at least one is tried.
        """
        new = {frozenset(state.items()): state for state in states}
        fits = [self.judge(state, cases) for state in new.values() if self.in_time(state, cases)]
        if not fits:
            fits = [self.judge(state, cases) for state in [*new.values()][:1]]
        return sorted(fits, key=Fit.rank)

    def explain(self, level: str, upto: list[Case], starts: list[Deviations]) -> list[Fit]:
        """Return the best explanations of the cases up to this level.

        They extend `starts`, which explain the lower levels.
        """
        given = {case.level for case in upto} - {level}
        # a convention is settled by the cases of its level, or of the next level that was given
        open_levels = [
            name for name in upto_level(level) if given.isdisjoint(LEVELS[LEVELS.index(name) :])
        ]
        attempts = [(open_levels, 1), (open_levels, DEPTH)]
        if given:  # the cases of a lower level may not show every deviation
            attempts.append((list(upto_level(level)), 1))
        here = [case for case in upto if case.level == level]
        lifs = all(model_of(case) == "lif" for case in upto)
        if level == "neuron" and lifs and not self.compare_all({}, here):
            few = self.few(here, {}, [])
            for facts in profiles().values():
                state = needed(PAPER | facts["conventions"], upto)
                if self.compare_all(state, few) and self.compare_all(state, upto):
                    self.profile = str(facts["summary"])
                    named = needed(facts["conventions"], upto)
                    return [self.judge(self.pruned(state, upto, keep=named), upto)]
        measured = self.measured_at(level, starts, here)
        for levels, depth in attempts:
            if depth > 1:  # one deviation alone comes first, as numbers of other scales explain all
                starts = [*starts, *measured]
            names = names_of(levels, self.measured.numbers)
            fits = self.best(self.grow(names, here, starts, depth), upto)
            if fits[0].passed == len(upto):
                states = [self.pruned(f.deviations, upto) for f in fits if f.passed == len(upto)]
                best, *others = self.best(states, upto)
                others = [fit for fit in others if fit.rank()[:3] == best.rank()[:3]]
                return [best, *(f for f in others if not is_same(f.deviations, best.deviations))]
            starts = [fit.deviations for fit in fits]
        return fits[:BEAM]

    def compare_all(self, state: Deviations, cases: Sequence[Case]) -> bool:
        """Tell whether the deviations explain all the cases."""
        return all(self.compare(case, state).agrees for case in cases)

    def measured_at(
        self, level: str, starts: list[Deviations], cases: list[Case]
    ) -> list[Deviations]:
        """Return the measured deviations that show up to this level, the most promising first.

        They are added to the best of `starts`, and judged by a few cases.
        """
        levels = upto_level(level)
        states = [
            starts[0] | {k: v for k, v in state.items() if CONVENTIONS[k].level in levels}
            for state in self.measured.states
        ]
        some = self.few(cases, {}, [])
        fits = self.best(states, some) if states and some else []
        return [fit.deviations for fit in fits[: 2 * BEAM]]

    def pruned(
        self, state: Deviations, cases: Sequence[Case], keep: Container[str] = ()
    ) -> Deviations:
        """Leave out the deviations without which everything is explained too, but those to keep."""
        for name in reversed(ORDER):
            less = {k: v for k, v in state.items() if k != name}
            if name in state and name not in keep and self.compare_all(less, cases):
                state = less
        return state

    def grow(
        self,
        names: Mapping[str, Sequence[Value]],
        cases: list[Case],
        starts: list[Deviations],
        depth: int,
    ) -> list[Deviations]:
        """Return the best explanations, found on a few failing cases at a time.

        The search ends when the cases looked at cannot be explained.
        """
        some, states = list[Case](), [fit.deviations for fit in self.best(starts, cases)]
        while new := self.few(cases, states[0], some):
            some += new
            beam = self.widen(names, some, states, depth)
            states = [fit.deviations for fit in beam]
            if beam[0].passed < len(some):
                break
        return states

    def few(self, cases: Sequence[Case], state: Deviations, taken: Sequence[Case]) -> list[Case]:
        """Return a few of the cases that fail, the smallest first."""
        left = [
            case for case in cases if case not in taken and not self.compare(case, state).agrees
        ]
        return sorted(left, key=lambda case: sum(a.size for a in case.outputs.values()))[:FEW]

    def widen(
        self,
        names: Mapping[str, Sequence[Value]],
        cases: list[Case],
        starts: list[Deviations],
        depth: int,
    ) -> list[Fit]:
        """Return the best explanations with up to `depth` further deviations."""
        beam, found, reached = self.best(starts, cases)[:BEAM], list[Fit](), list[Any]()
        for _ in range(depth):
            found += beam
            reached.append(beam[0].rank()[:2])
            if beam[0].passed == len(cases) or reached[-3:].count(reached[-1]) == 3:
                break
            first = [c for c in cases if not self.compare(c, beam[0].deviations).agrees][:1]
            wider = [s for fit in beam for s in extended(fit.deviations, names, cases)]
            if not wider:
                break
            promising = self.best(wider, first)[: 4 * BEAM]
            beam = self.best((fit.deviations for fit in promising), cases)[:BEAM]
        return self.best((fit.deviations for fit in (*found, *beam)), cases)[:BEAM]


def right(found: Comparison) -> float:
    """Return the fraction of a case's outputs that agree."""
    ok = [tensor["status"] == "ok" for tensor in found.tensors.values()]
    return sum(ok) / max(len(ok), 1)


def within_reach(case: Case, got: Mapping[str, Any], asked: Case) -> Case:
    """Return the case with tolerances no larger than the given outputs' own.

    Expected values that overflow would otherwise excuse any error. They are no smaller than those
    of the case as it is `asked`, whose size rounding has where outputs are tiny.
    """
    arrays = {
        name: value
        for name, value in got.items()
        if name in case.outputs
        and isinstance(value, np.ndarray)
        and value.shape == case.outputs[name].shape
        and value.dtype.kind in NUMERIC
        and np.isfinite(value).all()
    }
    own = tolerances(case.level, arrays)
    return replace(
        case,
        tolerances={
            name: {
                p: max(min(most, own.get(name, tolerance)[p]), asked.tolerances[name][p] / 10)
                for p, most in tolerance.items()
            }
            for name, tolerance in case.tolerances.items()
        },
    )


def extended(
    state: Deviations, names: Mapping[str, Sequence[Value]], cases: Sequence[Case]
) -> Iterator[Deviations]:
    """Yield the deviations with one more added."""
    for name, values in names.items():
        for value in values:
            if name not in state and is_open(name, value, cases):
                yield state | {name: value}
    if "surrogate" in names and "surrogate" not in state:  # together with its shape
        yield from (state | shape for shape in shapes())


def is_open(name: str, value: Value, cases: Sequence[Case]) -> bool:
    """Tell whether a value is another than some case asks for, and the cases can be so computed.

    A number that was declared is in the settings too, so that "as given" says nothing else.
    """
    if name == "recurrence" and not all("v" in c.inputs for c in cases if c.level != "surrogate"):
        return False
    if name in FROM_SETTINGS and value == "as given":
        return False
    return any(
        case.conventions[name] != value and follows(case.conventions, case.level, name, value)
        for case in cases
    )


def model_of(case: Case) -> str:
    """Return the model of a case's neurons; a surrogate alone has none, and none matters to it."""
    return "lif" if case.level == "surrogate" else str(case.conventions["neuron_model"])


def is_same(state: Deviations, best: Deviations) -> bool:
    """Tell whether deviations are the best ones by definition, whatever the inputs are.

    With a soft reset whose amount has no gradient, ∂u/∂u_pre is 1 as where the gradient is
    ignored; and a factor of 1 may be left out.
    """
    differ = {name for name in {*state, *best} if state.get(name) != best.get(name)}
    ways = {state.get("reset_gradient"), best.get("reset_gradient")}
    if differ == {"reset_gradient"} and ways == {"detached", "ignored"}:
        return str(best.get("reset", "")).startswith("subtract")
    return differ == {"surrogate_scale"} and best.get("surrogate_shape") == 1


def shapes() -> Iterator[Deviations]:
    """Yield every surrogate with every shape and scale, as deviations."""
    for kind, shape in itertools.product(SURROGATES, TRIED["surrogate_shape"]):
        for scale in ("as given", "without 1/a" if kind == "rectangular" else "without k"):
            made = {"surrogate": kind, "surrogate_shape": shape, "surrogate_scale": scale}
            yield {k: v for k, v in made.items() if v != "as given"}


def upto_level(level: str) -> Sequence[str]:
    """Return the levels up to this one."""
    return LEVELS[: LEVELS.index(level) + 1]


def names_of(
    levels: Sequence[str], measured: Mapping[str, Sequence[Value]] | None = None
) -> dict[str, Sequence[Value]]:
    """Return the conventions that show first at these levels, with the values to try."""
    return {
        name: list(
            dict.fromkeys([*c.values, *TRIED.get(name, ()), *(measured or {}).get(name, ())])
        )
        for name, c in CONVENTIONS.items()
        if c.level in levels
    }
