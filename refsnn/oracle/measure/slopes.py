"""The surrogate's slope as a function of the distance from the threshold, fitted to families."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import optimize

from refsnn.ops import Array
from refsnn.oracle.measure.arrays import (
    Deviations,
    Got,
    Neurons,
    constant,
    factor_to,
    near_of,
    nice,
    nice_within,
    same,
    usable,
)
from refsnn.oracle.measure.spikes import Timing
from refsnn.oracle.slopes import FAMILIES, is_own
from refsnn.oracle.variant_neuron import delay_of, gain_of, slope
from refsnn.oracle.vectors import Case

FEW = 256  # samples of each kind in `few_of`
NEARLY = 0.05  # residual of a few samples, with which a family is fitted to all of them


class Samples(NamedTuple):
    """Values of the slope at distances from the threshold, of one case."""

    case: Case
    x: Array
    h: Array
    near: float


def few_of(x: Array, h: Array) -> Array:
    """Return the indices of some samples: all over the range of x, and those of the highest h."""
    spread, highest = np.argsort(x)[:: max(1, len(x) // FEW)], np.argsort(-np.abs(h))[:FEW]
    return np.union1d(spread, highest)


def fitted(name: str, x: Array, h: Array, v_th: float, few: Array) -> tuple[float, float, float]:
    """Fit a family's parameter and a factor; return (parameter, factor, residual).

    The fit is to the samples `few` first, and to all where these come near.
    """
    family = FAMILIES[name]
    largest = float(np.abs(h).max())

    def factor_of(shape: float) -> tuple[float, float]:
        model = family.slope(x, shape, v_th)
        factor = factor_to(h, model)
        return factor, float(np.abs(factor * model - h).max()) / largest

    def errors(log_shape: float, at: Array | slice) -> Array:
        model = family.slope(x[at], math.exp(min(log_shape, 50.0)), v_th)
        return np.asarray((factor_to(h[at], model) * model - h[at]) / largest)

    def fit(start: float, at: Array | slice) -> float:
        found = optimize.least_squares(
            lambda p: errors(p[0], at), [start], xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        return float(found.x[0])

    if name in ("tanh", "tanh_literal", "triangular", "straight_through"):
        return 1.0, *factor_of(1.0)  # the parameter is a factor itself, or not used
    if name == "rectangular":
        edge = np.abs(x[h > largest / 2]).max(initial=0.0), np.abs(x[h == 0]).min(initial=np.inf)
        shape = 2 * nice_within(*edge) if edge[0] <= edge[1] < np.inf else np.nan
        if 2 * edge[0] <= 1 / largest <= 2 * edge[1]:
            shape = 1 / largest  # the height tells it exactly
        if not shape > 0:
            return np.nan, np.nan, np.inf
        inside = np.abs(np.abs(x) - shape / 2) > 1e-9  # whether the edge is inside differs
        if not inside.any():
            return np.nan, np.nan, np.inf
        x, h = x[inside], h[inside]
        return shape, *factor_of(shape)
    grid = np.linspace(math.log(1e-2), math.log(400), 60)
    log_shape = fit(min(grid, key=lambda start: float((errors(start, few) ** 2).sum())), few)
    if factor_of(math.exp(log_shape))[1] < NEARLY:
        log_shape = fit(log_shape, slice(None))
    return math.exp(log_shape), *factor_of(math.exp(log_shape))


def slope_states(samples: list[Samples]) -> Iterator[Deviations]:
    """Yield the surrogates, with their numbers, that have the measured slopes."""
    if not samples:
        return
    near = max(s.near for s in samples)
    peak = max(float(np.abs(s.h).max(initial=0.0)) for s in samples)
    if peak == 0:
        yield {"surrogate_scale": 0.0}
        return
    ratios = [ratio(s) for s in samples]
    known = [r for r in ratios if r is not None]
    if known and all(math.isfinite(r) for r in known):
        factor = constant(known, near)
        if factor is not None:
            yield {} if same(factor, 1.0, near) else {"surrogate_scale": factor}
            return
    for name in ("without 1/a", "without k", "without any"):
        known = [r for s in samples if (r := ratio(s, {"surrogate_scale": name})) is not None]
        if known and all(same(r, 1.0, near) and math.isfinite(r) for r in known):
            yield {"surrogate_scale": name}
    for unit in ("1", "v_th"):
        scales = [v_th_of(s) if unit == "v_th" else 1.0 for s in samples]
        x = np.concatenate([s.x / scale for s, scale in zip(samples, scales, strict=True)])
        h = np.concatenate([s.h * scale for s, scale in zip(samples, scales, strict=True)])
        few = few_of(x, h)
        for name in FAMILIES:
            v_ths = {v_th_of(s) for s in samples} if name == "triangular" and unit == "1" else {1.0}
            for v_th in v_ths:
                shape, factor, residual = fitted(name, x, h, v_th, few)
                if residual <= 100 * near:
                    for state in described(name, shape, x, h, factor, near):
                        yield state | {"surrogate_unit": unit}


def v_th_of(s: Samples) -> float:
    """Return the threshold that the case asks for."""
    return float(s.case.conventions["v_th"])


def described(
    name: str, shape: float, x: Array, h: Array, factor: float, near: float
) -> Iterator[Deviations]:
    """Yield a fitted slope as conventions, with nice numbers."""
    loose, near = max(near * 100, 1e-7), max(near, 1e-9)
    if name in ("tanh", "tanh_literal", "triangular") and factor > 0:
        yield {"surrogate": name, "surrogate_shape": nice(factor, near)}
        return
    rounded = nice(shape, loose)
    if rounded != shape:  # the factor that goes with it
        model = FAMILIES[name].slope(x, rounded, 1.0)
        again = factor_to(h, model)
        if np.abs(again * model - h).max() <= 100 * near * np.abs(h).max():
            shape, factor = rounded, again
    factor = nice(factor, near)
    state: Deviations = {"surrogate": name, "surrogate_shape": shape}
    if name == "straight_through":
        state = {"surrogate": name}
    if name == "rectangular" and same(factor, shape, near):
        yield state | {"surrogate_scale": "without 1/a"}
    yield state if same(factor, 1.0, near) else state | {"surrogate_scale": factor}


def ratio(s: Samples, deviations: Deviations | None = None) -> float | None:
    """Return the constant ratio of a slope to the expected one, NaN if it is not constant.

    None if the expected slope is zero at all samples.
    """
    conventions = s.case.conventions | (deviations or {})
    want = slope(s.x, conventions)
    near = 100 * s.near * float(np.abs(want).max(initial=0.0))
    big = np.abs(want) > max(near, 1e-12)
    if not big.any():
        return None if (np.abs(s.h) <= near).all() else math.nan
    found = factor_to(s.h, want)
    return found if (np.abs(found * want - s.h) <= near * max(abs(found), 1e-3)).all() else math.nan


def samples_of(
    seen: Neurons, x_seq: Array, spikes: Array | None, gain: float, timing: Timing
) -> Samples | None:
    """Return the slopes of the last step whose spikes reach the loss, where nothing follows."""
    t = len(seen.c) - 1 - timing.delay
    if t < timing.input_delay:
        return None
    do = seen.do[t + timing.delay]
    if seen.delta is not None:
        delta = seen.delta[t]
    elif seen.dc is not None and abs(gain) > 1e-6:
        delta = seen.dc[t - timing.input_delay] / gain
    else:
        return None
    clear = np.abs(do) > 1e-3 * np.abs(do).max(initial=0.0)
    if timing.refractory and spikes is not None:
        clear &= ~spikes[max(t - timing.refractory, 0) : t].any(0)
    if timing.late_reset and spikes is not None and t:
        clear &= spikes[t - 1] == 0  # else the input did not arrive
    return Samples(seen.case, x_seq[t][clear], delta[clear] / do[clear], seen.near)


def expected_samples(seen: Iterable[Neurons]) -> Iterator[Samples]:
    """Yield the slopes at the expected potentials, where they are hidden.

    That is for slopes of the user's own, which no family tells from dL/dc.
    """
    for one in seen:
        asked = one.case.conventions
        if one.u_pre is not None or not is_own(asked["surrogate"]):
            continue
        at = str(asked["surrogate_at"])
        potential = one.case.outputs["u" if at == "u" else "u_pre"]
        times = Timing(delay_of(asked), int(asked["refractory"]), int(asked["input_delay"]))
        spikes = one.case.outputs["o"] > 0
        x_seq = potential - (0.0 if at == "u_pre" else float(asked["v_th"]))
        sample = samples_of(one, x_seq, spikes, gain_of(asked), times)
        if sample is not None:
            yield sample


def level_surrogate(
    cases: Iterable[Case], got: Got, threshold: Deviations, at: str
) -> Iterator[Samples]:
    """Yield the slopes of the cases of level surrogate, with the measured threshold."""
    for case in cases:
        if case.level == "surrogate" and "h" in (arrays := usable(case, got[case.id])):
            v_th = float(threshold.get("v_th", case.conventions["v_th"]))
            x = case.inputs["u_pre"] - (0.0 if at == "u_pre" else v_th)
            yield Samples(case, x, arrays["h"], near_of(got[case.id]))
