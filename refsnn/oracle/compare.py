"""Comparison of an implementation's outputs of a case with the expected ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refsnn.ops import Array, validate
from refsnn.oracle.comparable import comparable, in_tolerances, precision_of
from refsnn.oracle.comparison import Comparison, Divergence
from refsnn.oracle.conventions import PAPER, PRECISIONS
from refsnn.oracle.halves import is_exact, jumps, unfit
from refsnn.oracle.order import BACKWARD, Place, places, quantity
from refsnn.oracle.recompute import recompute
from refsnn.oracle.tolerances import tolerance
from refsnn.oracle.vectors import Case

UNLIKE = 1000  # tolerances apart, two outputs can't be mistaken for each other by chance


def compare_case(
    case: Case,
    got: Mapping[str, Any],
    precision: str | None = None,
    omits: Sequence[str] = (),
    swaps: bool = True,
) -> Comparison:
    """Compare outputs `got`, by name and in PyTorch's axis order, with the case's.

    Outputs that match a pattern of `omits` may be missing. `precision` selects the tolerances
    (default: that of the arrays). `swaps` looks for the values of outputs that differ among the
    other outputs; it takes time. A spike that rounding may have flipped is not a divergence:
    everything after it is compared with the case recomputed from that spike. Neither is what a
    half precision cannot show.
    """
    precision = precision or precision_of(got)
    validate.one_of("precision", precision, PRECISIONS)
    arrays, problems = comparable(case, got, precision, omits)
    result = Comparison(case.id, case.clauses, precision, tuple(case.outputs))
    reason = unfit(case, precision)
    if reason:
        result.unjudged = f"not judged in {precision}: {reason}"
        return result
    result.problems, result.unusable = list(problems.values()), list(problems)
    result.missing = [name for name in problems if name in case.outputs and name not in got]
    result.omitted = [name for name in case.outputs if name not in {*got, *problems}]
    shown = list(arrays)
    arrays = with_spikes(case, arrays, result.omitted, precision)
    decided: dict[str, Array] = {}
    while True:
        excused = jumps(case, arrays, precision)
        found = first_wrong(case, arrays, precision, excused)
        if found is None:
            result.agreed = 1.0
            break
        place, wrong, result.agreed = found
        flips = wrong & may_round(case, arrays, place, precision)
        if (wrong & ~flips).any():
            result.first = divergence(case, place, arrays, precision, first_index(wrong & ~flips))
        result.flips += [
            divergence(case, place, arrays, precision, index) for index in indices(flips)
        ]
        if result.first is not None:
            break
        spikes = decided.setdefault(place.tensor, np.full_like(arrays[place.tensor], np.nan))
        assert np.isnan(spikes[place.step][flips]).all()  # no spike flips twice
        spikes[place.step][flips] = arrays[place.tensor][place.step][flips]
        case = replace(recompute(case, decided=decided), tolerances=case.tolerances)
    for name in shown:
        result.tensors[name] = verdict(case, arrays, name, precision, excused, swaps)
    if result.agrees and any(t["status"] == "not judged" for t in result.tensors.values()):
        why = "potentials are rounded across the rectangle's edge"
        result.unjudged = f"not judged in {precision}: gradients, as {why}"
    return result


def verdict(
    case: Case,
    arrays: Mapping[str, Array],
    name: str,
    precision: str,
    excused: Mapping[str, Array],
    swaps: bool,
) -> dict[str, Any]:
    """Return an output's error in tolerances, its status, and with `swaps` which other it is."""
    got, expected, near = arrays[name], case.outputs[name], tolerance(case, name, precision)
    found: dict[str, Any] = {"error": in_tolerances(got, expected, near), "status": "ok"}
    if found["error"] <= 1:
        return found
    if (wrong_at(got, expected, near) & ~excused.get(name, np.False_)).any():
        found["status"] = "differs"
        other = mistaken_for(got, name, case, precision) if swaps else None
        return found | ({} if other is None else {"is": other})
    if case.level not in ("surrogate", "neuron"):
        found["status"] = "not judged"
    return found


def wrong_at(got: Array, expected: Array, near: float) -> Array:
    """Return a mask of what is out of tolerance."""
    return np.asarray(~(np.abs(got - expected) <= near))  # NaN is wrong too


def mistaken_for(array: Array, name: str, case: Case, precision: str) -> str | None:
    """Return the name of another output whose values these are, None if there is none."""
    for other, expected in case.outputs.items():
        near, own = tolerance(case, other, precision), case.outputs[name]
        if (
            expected.shape == array.shape
            and in_tolerances(array, expected, near) <= 1
            and in_tolerances(own, expected, near) > UNLIKE
            and expected.any()
        ):
            return other
    return None


def with_spikes(
    case: Case, got: dict[str, Array], omitted: Sequence[str], precision: str
) -> dict[str, Array]:
    """Add the spikes that follow from the potentials where an implementation omits them.

    Without them, the consequences of a flip would look like errors of logic.
    """
    spikes = {}
    for name in omitted:
        potential = name.removesuffix("o") + "u_pre"
        if can_round(case, name, precision) and potential in got:
            spikes[name] = fires(case, got[potential]).astype(float)
    return {name: {**got, **spikes}[name] for name in case.outputs if name in {**got, **spikes}}


def fires(case: Case, u_pre: Array) -> Array:
    """Return where potentials fire under the case's conventions."""
    v_th = float(case.conventions["v_th"])
    fired: Array = u_pre >= v_th if case.conventions["fire_at_threshold"] else u_pre > v_th
    return fired


def first_wrong(
    case: Case, got: Mapping[str, Array], precision: str, excused: Mapping[str, Array]
) -> tuple[Place, Array, float] | None:
    """Find the first place in the order of computing that is out of tolerance and not excused.

    Returns the place, a mask of its wrong elements, and the fraction of all places that agree
    before it; None if everything agrees.
    """
    order = list(places(case, list(got)))
    for count, place in enumerate(order):
        name, t = place
        part = ... if t is None else t
        near = tolerance(case, name, precision)
        wrong = wrong_at(got[name][part], case.outputs[name][part], near)
        if name in excused:
            wrong = wrong & ~excused[name][part]
        if wrong.any():
            return place, wrong, (count + 1 - float(wrong.mean())) / len(order)
    return None


def first_index(mask: Array) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(int(mask.argmax()), mask.shape)))


def indices(mask: Array) -> list[tuple[int, ...]]:
    return [tuple(map(int, index)) for index in np.argwhere(mask)]


def divergence(
    case: Case, place: Place, got: Mapping[str, Array], precision: str, index: tuple[int, ...]
) -> Divergence:
    """Describe one element of a place that is out of tolerance."""
    name, t = place
    whole = index if t is None else (t, *index)
    expected, value = float(case.outputs[name][whole]), float(got[name][whole])
    near = tolerance(case, name, precision)
    error = in_tolerances(got[name][whole], case.outputs[name][whole], near)
    ulps = None
    potential = name.removesuffix("o") + "u_pre"
    plain = case.conventions["neuron_model"] in ("lif", "plif", "real_spike")  # u_pre > v_th
    if quantity(name) == "o" and potential in case.outputs and plain:
        v_th = float(case.conventions["v_th"])
        distance = float(case.outputs[potential][whole]) - v_th
        ulps = distance / float(np.spacing(np.float32(v_th)))
    start = len(case.outputs[name]) - 1 if quantity(name) in BACKWARD else 0
    return Divergence(case.id, name, t, index, expected, value, error, ulps, t in (None, start))


def can_round(case: Case, name: str, precision: str) -> bool:
    """Tell whether the output holds spikes of potentials that are subject to rounding."""
    potential = name.removesuffix("o") + "u_pre"
    return (
        quantity(name) == "o"
        and case.conventions["neuron_model"] == "lif"  # others are not computed from given spikes
        and potential in case.outputs
        and not is_exact(case, potential, precision)
        and case.conventions["output"]
        == PAPER["output"]  # else the spikes are those of another step
    )


def may_round(case: Case, got: Mapping[str, Array], place: Place, precision: str) -> Any:
    """Return a mask of the spikes at a place that rounding may explain.

    Their potential lies within its tolerance of the threshold, and they agree with the potential
    that was given, if it was.
    """
    name, t = place
    if not can_round(case, name, precision):
        return False
    potential = name.removesuffix("o") + "u_pre"
    v_th = float(case.conventions["v_th"])
    near = tolerance(case, potential, precision)
    spikes = got[name][t]
    fits = (np.abs(case.outputs[potential][t] - v_th) <= near) & np.isin(spikes, (0, 1))
    if potential in got:
        fits &= fires(case, got[potential][t]) == spikes
    return fits
