"""Got against expected: every output of a case, the first divergence, and what kind it is.

Outputs are looked at in the order in which a network computes them: layer by layer, within a
layer step by step (backwards in the backward pass), within a step in the order of Eq. 1 and 2.
"""

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from refsnn.ops import Array, validate
from refsnn.oracle.vectors import PRECISIONS, Case

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
        where = [] if self.step is None else [f"step {self.step}"]
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
    flips: list[Divergence] = field(default_factory=list)  # a first spike that rounding moved
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
        found = [f"{self.case}: {text}" for text in self.problems]
        found += [] if self.first is None else [str(self.first)]
        flips = [flip.words() for flip in self.flips]
        return found + [f"{self.case}: rounding flip, not counted: {text}" for text in flips]


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
    """The outputs' parts in the order of computing; runs of stepped ones go step by step."""
    for group in groups(case, names):
        if quantity(group[0]) not in STEPPED:
            yield from (Place(name, None) for name in group)
            continue
        steps = range(len(case.outputs[group[0]]))
        for t in reversed(steps) if quantity(group[0]) in BACKWARD else steps:
            yield from (Place(name, t) for name in group)


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
    be missing."""
    validate.one_of("precision", precision, PRECISIONS)
    result = Comparison(case.id, case.clauses)
    arrays = usable(case, got, omits, result)
    names = list(arrays)  # in the order of the outputs
    tolerance = {name: case.tolerances[name][precision] for name in names}
    for name in names:
        error = in_tolerances(arrays[name], case.outputs[name], tolerance[name])
        result.tensors[name] = {"error": error, "status": "ok" if error <= 1 else "differs"}
        swapped = turned(name, arrays[name], case.outputs[name]) if error > 1 else []
        if swapped:
            result.problems += swapped
            del arrays[name]
    if not names and not result.problems:
        result.problems.append("no output that could be compared")
    order = list(places(case, list(arrays)))
    for count, place in enumerate(order):
        name, t = place
        part = ... if t is None else t
        near = np.abs(arrays[name][part] - case.outputs[name][part]) <= tolerance[name]
        wrong = np.asarray(~near)  # where a convention makes NaN, too
        if not wrong.any():
            continue
        found = divergence(case, place, arrays[name], wrong, tolerance[name])
        if is_flip(case, arrays, wrong, place, precision):
            result.flips.append(found)  # all that follows may differ
            for later in {p.tensor for p in order[count:]}:
                entry = result.tensors[later]
                entry["status"] = "after a flip" if entry["status"] == "differs" else "ok"
        else:
            result.first = found
        result.agreed = (count + 1 - float(wrong.mean())) / len(order)
        return result
    result.agreed = 1.0
    return result


def divergence(case: Case, place: Place, got: Array, wrong: Array, tolerance: float) -> Divergence:
    name, t = place
    at = np.unravel_index(int(wrong.argmax()), wrong.shape) if wrong.ndim else ()
    index = tuple(int(i) for i in at)
    whole = index if t is None else (t, *index)
    expected, value = float(case.outputs[name][whole]), float(got[whole])
    error = in_tolerances(got[whole], case.outputs[name][whole], tolerance)
    ulps = None
    potential = name.removesuffix("o") + "u_pre"
    if quantity(name) == "o" and potential in case.outputs:
        v_th = float(case.conventions["v_th"])
        distance = float(case.outputs[potential][whole]) - v_th
        ulps = distance / float(np.spacing(np.float32(v_th)))
    return Divergence(case.id, name, t, index, expected, value, error, ulps)


def in_tolerances(got: Array, expected: Array, tolerance: float) -> float:
    """The largest difference; finite, as JSON wants it."""
    with np.errstate(over="ignore"):
        error = np.abs(got - expected).max(initial=0.0) / tolerance
    return float(np.nan_to_num(error, nan=sys.float_info.max))


def is_flip(
    case: Case, got: Mapping[str, Array], wrong: Array, place: Place, precision: str
) -> bool:
    """Whether all spikes that differ here are those of neurons whose potential may lie on either
    side of the threshold within its tolerance, and follow from the potentials that were given."""
    name, t = place
    potential = name.removesuffix("o") + "u_pre"
    if case.exact or quantity(name) != "o" or potential not in case.outputs or t is None:
        return False
    v_th = float(case.conventions["v_th"])
    near = case.tolerances[potential][precision]
    spikes = got[name][t][wrong]
    fits = (np.abs(case.outputs[potential][t][wrong] - v_th) <= near) & (
        spikes == 1 - case.outputs[name][t][wrong]
    )
    if potential in got:
        u_pre = got[potential][t][wrong]
        fits &= (u_pre >= v_th if case.conventions["fire"] == ">=" else u_pre > v_th) == spikes
    return bool(fits.all())


def usable(
    case: Case, got: Mapping[str, Any], omits: Sequence[str], result: Comparison
) -> dict[str, Array]:
    """What can be compared, as float64; the rest is told."""
    arrays = {}
    known = set(case.outputs)
    for name in got:
        if name not in known:
            result.problems.append(f"{name} is not among the outputs")
    for name, expected in case.outputs.items():
        if name not in got:
            if not any(fnmatchcase(name, pattern) for pattern in omits):
                result.problems.append(f"{name} is missing")
            continue
        text, array = checked(got[name], expected)
        if text:
            result.problems.append(f"{name}: {text}")
        elif array is not None:
            arrays[name] = array
    return arrays


def checked(value: Any, expected: Array) -> tuple[str, Array | None]:
    """What is wrong with it, or the array."""
    if isinstance(value, Exception):  # in the place of an array that can't be read
        return str(value), None
    try:
        array = np.asarray(value)
    except ValueError:
        return "got lists of different lengths, want an array", None
    if array.dtype.kind not in "fiub":
        return f"got dtype {array.dtype}, want numbers", None
    if array.shape != expected.shape:
        order = axes_of(array, expected)
        hint = f"; its axes are those of the expected array in the order {order}" if order else ""
        return f"got shape {array.shape}, want {expected.shape}{hint}", None
    array = array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        at = [int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)]
        return f"got {array[tuple(at)]} at index {at}, want finite numbers", None
    return "", array


def turned(name: str, array: Array, expected: Array) -> list[str]:
    """A line where the shape hides that axes are swapped."""
    order = axes_of(array, expected)
    if order is None or order == sorted(order):
        return []
    return [f"{name}: its axes are those of the expected array in the order {order}"]


def axes_of(array: Array, expected: Array) -> list[int] | None:
    """The order of the expected array's axes in which it is this one, if there is any."""
    if array.ndim < 2 or array.ndim > 5 or array.size != expected.size or array.size > 10**6:
        return None
    near = 1e-3 * float(np.abs(expected).max(initial=0.0))
    if not np.isfinite(near):
        return None
    if not np.allclose(np.sort(array, None), np.sort(expected, None), rtol=0, atol=near):
        return None  # other numbers, in whatever order
    for order in itertools.permutations(range(expected.ndim)):
        turned = expected.transpose(order)
        if turned.shape == array.shape and np.allclose(array, turned, rtol=0, atol=near):
            return list(order)
    return None
