"""Got against expected: every output of a case, the first divergence, and what kind it is.

Outputs are looked at in the order in which a network computes them: layer by layer, within a
layer step by step (backwards in the backward pass), within a step in the order of Eq. 1 and 2.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from refsnn.ops import Array, validate
from refsnn.oracle.cases import SERIES, recompute
from refsnn.oracle.comparable import comparable, in_tolerances
from refsnn.oracle.conventions import PAPER, PRECISIONS
from refsnn.oracle.vectors import Case

SHOWN = 3  # of what may be hundreds
#: quantities of a layer that are computed step by step
STEPPED = ("u_pre", "o", "u", "du_pre", "dc")
BACKWARD = ("du_pre", "dc")


@dataclass(frozen=True)
class Divergence:
    """The first element that is out of tolerance. `step` is None where there is no time axis;
    `ulps`, of a spike, is how far above the threshold the expected u_pre is, in float32's ulps."""

    case: str
    tensor: str
    step: int | None
    index: tuple[int, ...]
    expected: float
    got: float
    error: float  # in tolerances
    ulps: float | None = None

    def __str__(self) -> str:
        return f"{self.case}: {self.words()}"

    def words(self) -> str:
        unit = "iteration" if self.case.startswith("training/") else "step"
        where = [] if self.step is None else [f"{unit} {self.step}"]
        where += [f"index {list(self.index)}"] if self.index else []
        text = f"{self.tensor} at {', '.join(where)}" if where else self.tensor
        text += f": expected {self.expected:.9g}, got {self.got:.9g} ({self.error:.3g} tolerances)"
        if self.ulps is not None:
            text += f"; expected u_pre is {where_of(self.ulps)}"
        return text


@dataclass
class Comparison:
    """What became of one case."""

    case: str
    clauses: tuple[str, ...]
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)  # error, status
    problems: list[str] = field(default_factory=list)  # arrays that can't be compared
    first: Divergence | None = None
    flips: list[Divergence] = field(default_factory=list)  # spikes that rounding moved
    agreed: float = 0.0  # the share of places, in order, before the first divergence

    @property
    def agrees(self) -> bool:
        """All that can be compared."""
        return self.first is None

    @property
    def passed(self) -> bool:
        return self.agrees and not self.problems

    def lines(self) -> list[str]:
        """One a problem, then the first divergence, then the flips."""
        found = [*self.problems, *([] if self.first is None else [self.first.words()])]
        found += [f"rounding flip, not counted: {text}" for text in self.flip_words()]
        return [f"{self.case}: {text}" for text in found]

    def flip_words(self) -> list[str]:
        """A few of them, and how many more there are; in a large network there may be many."""
        more = len(self.flips) - SHOWN
        words = [flip.words() for flip in self.flips[:SHOWN]]
        return [*words, f"{more} more"] if more > 0 else words


class Place(NamedTuple):
    tensor: str
    step: int | None


def where_of(ulps: float) -> str:
    if ulps == 0:
        return "on the threshold"
    return f"{abs(ulps):.3g} float32 ulps {'above' if ulps > 0 else 'below'} the threshold"


def quantity(name: str) -> str:
    return name.rpartition(".")[2]


def places(case: Case, names: Sequence[str]) -> Iterator[Place]:
    """The outputs' parts in the order of computing; runs of stepped ones go step by step, a
    training goes iteration by iteration."""
    if case.level == "training":
        yield from iterations(case, names)
        return
    for group in groups(case, names):
        if quantity(group[0]) not in STEPPED:
            yield from (Place(name, None) for name in group)
            continue
        steps = range(len(case.outputs[group[0]]))
        for t in reversed(steps) if quantity(group[0]) in BACKWARD else steps:
            yield from (Place(name, t) for name in group)


def iterations(case: Case, names: Sequence[str]) -> Iterator[Place]:
    series = [name for name in names if name in SERIES]
    first = [name for name in names if name.startswith("first.")]
    for i in range(max((len(case.outputs[name]) for name in series), default=1)):
        yield from (Place(name, i) for name in series)
        if i == 0:
            yield from (Place(name, None) for name in first)
    yield from (Place(name, None) for name in names if name not in {*series, *first})


def groups(case: Case, names: Sequence[str]) -> list[list[str]]:
    """Neighbours that belong to one layer and pass."""

    def key(name: str) -> Any:
        kind = quantity(name)
        if kind in STEPPED:
            return name.removesuffix(kind), kind in BACKWARD
        return name

    return [list(group) for _, group in itertools.groupby(names, key)]


def compare_case(
    case: Case, got: Mapping[str, Any], precision: str = "float64", omits: Sequence[str] = (),
) -> Comparison:  # fmt: skip
    """`got` by the outputs' names, in PyTorch's order; those that match a pattern of `omits` may
    be missing.

    A spike that rounding may have moved is no divergence: all that comes after it is compared
    with the case recomputed from that spike.
    """
    validate.one_of("precision", precision, PRECISIONS)
    arrays, problems = comparable(case, got, precision, omits)
    result, decided = Comparison(case.id, case.clauses, problems=problems), dict[str, Array]()
    while True:
        found = first_wrong(case, arrays, precision)
        if found is None:
            result.agreed = 1.0
            break
        place, wrong, result.agreed = found
        flips = wrong & may_round(case, arrays, place, precision)
        result.flips += [divergence(case, place, arrays, precision, at) for at in indices(flips)]
        if (wrong & ~flips).any():
            at = indices(wrong & ~flips)[0]
            result.first = divergence(case, place, arrays, precision, at)
            break
        spikes = decided.setdefault(place.tensor, np.full_like(arrays[place.tensor], np.nan))
        spikes[place.step][flips] = arrays[place.tensor][place.step][flips]
        case = replace(recompute(case, decided=decided), tolerances=case.tolerances)
    for name, array in arrays.items():
        error = in_tolerances(array, case.outputs[name], case.tolerances[name][precision])
        result.tensors[name] = {"error": error, "status": "ok" if error <= 1 else "differs"}
    return result


def first_wrong(
    case: Case, got: Mapping[str, Array], precision: str
) -> tuple[Place, Array, float] | None:
    """The first place in the order of computing at which something is out of tolerance; which of
    its elements are; and the share of all places that agree up to and within it."""
    order = list(places(case, list(got)))
    for count, place in enumerate(order):
        name, t = place
        part = ... if t is None else t
        near = (
            np.abs(got[name][part] - case.outputs[name][part]) <= (case.tolerances[name][precision])
        )
        wrong = np.asarray(~near)  # where a convention makes NaN, too
        if wrong.any():
            return place, wrong, (count + 1 - float(wrong.mean())) / len(order)
    return None


def indices(mask: Array) -> list[tuple[int, ...]]:
    return [tuple(map(int, at)) for at in np.argwhere(mask)]


def divergence(
    case: Case, place: Place, got: Mapping[str, Array], precision: str, index: tuple[int, ...]
) -> Divergence:
    name, t = place
    whole = index if t is None else (t, *index)
    expected, value = float(case.outputs[name][whole]), float(got[name][whole])
    tolerance = case.tolerances[name][precision]
    error = in_tolerances(got[name][whole], case.outputs[name][whole], tolerance)
    ulps = None
    potential = name.removesuffix("o") + "u_pre"
    if quantity(name) == "o" and potential in case.outputs:
        v_th = float(case.conventions["v_th"])
        distance = float(case.outputs[potential][whole]) - v_th
        ulps = distance / float(np.spacing(np.float32(v_th)))
    return Divergence(case.id, name, t, index, expected, value, error, ulps)


def may_round(case: Case, got: Mapping[str, Array], place: Place, precision: str) -> Any:
    """Which spikes of this place may be either, since their potential may lie on either side of
    the threshold within its tolerance, and follow from the potentials that were given."""
    name, t = place
    potential = name.removesuffix("o") + "u_pre"
    if (
        case.exact or quantity(name) != "o" or potential not in case.outputs
        or case.conventions["output"] != PAPER["output"]  # o is of another step
    ):  # fmt: skip
        return False
    v_th = float(case.conventions["v_th"])
    near = case.tolerances[potential][precision]
    spikes = got[name][t]
    fits = (np.abs(case.outputs[potential][t] - v_th) <= near) & np.isin(spikes, (0, 1))
    if potential in got:
        u_pre = got[potential][t]
        fits &= (u_pre >= v_th if case.conventions["fire"] == ">=" else u_pre > v_th) == spikes
    return fits
