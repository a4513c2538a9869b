"""Neurons whose potentials are hidden, measured from spikes and dL/dc of one step and of two.

dL/dc of a single step is the slope as a function of the current. Its inverse gives the potential of
the last of two steps, and the regression is the same as for potentials that are shown, but for
their scale.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize

from refsnn.ops import Array
from refsnn.oracle.conventions import Value
from refsnn.oracle.measure.arrays import Deviations, Neurons, constant, factor_to, nice, nice_within
from refsnn.oracle.measure.combine import combined, needed
from refsnn.oracle.measure.slopes import Samples, slope_states
from refsnn.oracle.measure.spikes import bounds, threshold_states
from refsnn.oracle.measure.steps import (
    Step,
    input_states,
    leak_states,
    reset_states,
    start_states,
    step_of,
)
from refsnn.oracle.slopes import FAMILIES


class Curve(NamedTuple):
    """dL/dc of one step as a function of its current c: factor * family(c - center)."""

    center: float
    family: str
    shape: float
    factor: float
    at: str = "u_pre - v_th"  # where the slope is taken
    threshold: float = math.nan

    def value(self, c: Array) -> Array:
        """Return the curve at currents."""
        return self.factor * FAMILIES[self.family].slope(c - self.center, self.shape, 1.0)

    def current(self, value: Array, fired: Array, near: float) -> Array:
        """Return the current at which the curve has a value, on the side that the spike tells.

        NaN where the curve is too flat to tell.
        """
        side = np.where(fired > 0, 1.0, -1.0)
        low, high = np.zeros_like(value), np.full_like(value, 50.0)
        sign = 1.0 if self.factor > 0 else -1.0
        for _ in range(200):  # the curve falls on both sides
            middle = (low + high) / 2
            above = sign * self.value(self.center + side * middle) > sign * value
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        peak = abs(
            self.factor * float(FAMILIES[self.family].slope(np.zeros(1), self.shape, 1.0)[0])
        )
        clear = (np.abs(value) > max(1e3 * near, 1e-6) * peak) & (high < 49)
        clear &= np.abs(value) < (1 - max(1e3 * near, 1e-6)) * peak
        return np.where(clear, self.center + side * (low + high) / 2, np.nan)


SCALED = ("sigmoid", "atan", "fast_sigmoid", "piecewise_quadratic", "exponential", "gaussian")


def curve_of(c: Array, h: Array, fired: Array, near: float) -> Curve | None:
    """Fit the curve of one step; None if no family does.

    Its center is the threshold; or zero potential, where the slope is not shifted; or the curve
    holds for steps without a spike only, where it is taken after the reset.
    """
    low, high = bounds(c, fired)
    if not (low <= high and math.isfinite(low + high)) or not h.any():
        return None
    slack, silent = max(100 * near, 1e-6), fired <= 0
    middle = (low + high) / 2
    found = fit_curve(c, h, middle, near)
    if found is not None and low - slack <= found.center <= high + slack:
        return found._replace(threshold=found.center)
    found = fit_curve(c, h, 0.0, near)
    if found is not None and abs(found.center) <= slack:
        return found._replace(at="u_pre", threshold=nice_within(low, high))
    if np.ptp(h[~silent]) <= slack * np.abs(h).max():
        found = fit_curve(c[silent], h[silent], middle, near)
        if found is not None and low - slack <= found.center <= high + slack:
            return found._replace(at="u", threshold=found.center)
    return None


def fit_curve(c: Array, h: Array, start: float, near: float) -> Curve | None:
    """Fit every family's center, width and height; return the best, None if none fits."""
    best: tuple[float, Curve] | None = None
    for name in SCALED:

        def error_of(p: Array, name: str = name) -> Array:
            center, shape = p[0], math.exp(min(p[1], 50.0))
            model = FAMILIES[name].slope(c - center, shape, 1.0)
            return np.asarray(factor_to(h, model) * model - h)

        shapes = [math.log(s) for s in (0.3, 1.0, 3.0, 10.0, 30.0)]
        first = min(shapes, key=lambda s: float((error_of(np.array([start, s])) ** 2).sum()))
        found = optimize.least_squares(
            error_of, [start, first], xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale=[0.01, 0.1]
        )
        center, shape = float(found.x[0]), math.exp(min(float(found.x[1]), 50.0))
        model = FAMILIES[name].slope(c - center, shape, 1.0)
        factor = factor_to(h, model)
        residual = float(np.abs(factor * model - h).max() / np.abs(h).max())
        if best is None or residual < best[0]:
            best = residual, Curve(center, name, shape, factor)
    return best[1] if best is not None and best[0] <= 1000 * near else None


class Group(NamedTuple):
    """The cases of equal conventions: those of one effective step and what they show."""

    sweeps: Sequence[Neurons]
    curve: Curve
    step: Step | None  # of potentials in units of currents; None if unknown

    @property
    def shift(self) -> float:
        """Return what is left of the potential before the first step, in units of currents."""
        known = self.step is not None and math.isfinite(self.step.start * self.step.leak)
        return self.step.start * self.step.leak if self.step is not None and known else 0.0


def from_gradients(seen: Sequence[Neurons]) -> Iterator[Deviations]:
    """Yield sets of deviations from cases that show spikes and dL/dc, of one step and of two.

    Without potentials their scale is free: each plausible gain of the input gives a set.
    """
    shown = [one for one in seen if one.o is not None and one.dc is not None]
    if shown and not any(one.dc is not None and one.dc.any() for one in shown):
        yield {"surrogate_scale": 0.0}
        return
    delay = int(is_late(shown))
    by_conventions: dict[tuple[Value, ...], list[Neurons]] = {}
    for one in shown:
        by_conventions.setdefault(tuple(one.case.conventions.values()), []).append(one)
    groups = [found for cases in by_conventions.values() if (found := group_of(cases, delay))]
    common: Deviations = {"output": "one step late"} if delay else {}
    if any(one.o is not None and (one.o > 1).any() for one in shown):
        common["spikes"] = "several"
    cases = [one.case for one in seen]
    for reading in readings(groups):
        for gains in plausible_gains(reading):
            for state in combined(parts_of(reading, gains, delay), cases):
                yield needed(common | state, cases)


def is_late(shown: Sequence[Neurons]) -> bool:
    """Tell whether a single step shows nothing, as where spikes are passed on a step late."""
    singles = [one for one in shown if len(one.c) == 1]
    return bool(singles) and not any(
        (one.o is not None and one.o.any()) or (one.dc is not None and one.dc.any())
        for one in singles
    )


def parts_of(
    groups: Sequence[Group], gains: Sequence[float], delay: int
) -> dict[str, list[Deviations]]:
    """Return each part's conventions, where a group's currents are multiplied by its gain."""
    pairs = list(zip(groups, gains, strict=True))
    steps = [(g.sweeps[0], scaled(g.step, gain)) for g, gain in pairs if g.step is not None]
    parts: dict[str, list[Deviations]] = {}
    if steps:
        parts["leak"] = list(leak_states(steps))
        parts["reset"] = list(reset_states(steps))
        parts["input"] = list(input_states(steps))
        parts["start"] = list(start_states(steps))
    limits, samples = [], []
    for group, gain in pairs:
        for one in group.sweeps:
            c, h, fired = single(one, delay)
            limits.append((one, gain * (c + group.shift), fired))
            clear = fired <= 0 if group.curve.at == "u" else np.isfinite(h)
            x = gain * (c - group.curve.center)
            samples.append(Samples(one.case, x[clear], h[clear] / gain, one.near))
    parts["threshold"] = list(threshold_states(limits))
    v_th = constant([gain * (g.curve.threshold + g.shift) for g, gain in pairs], 1e-6)
    if v_th is not None and v_th > 0:  # the curve tells it more exactly
        parts["threshold"] += [{"v_th": v_th}, {"v_th": v_th, "fire_at_threshold": True}]
    at: Deviations = {"surrogate_at": groups[0].curve.at}
    parts["slope"] = [state | at for state in slope_states(samples)]
    return parts


def single(one: Neurons, delay: int) -> tuple[Array, Array, Array]:
    """Return the currents, dL/dc per dL/do and spikes of the only step that reaches the loss."""
    assert one.o is not None
    assert one.dc is not None
    do = one.do[delay]
    clear = np.abs(do) > 1e-3
    return one.c[0][clear], one.dc[0][clear] / do[clear], one.o[delay][clear]


def group_of(members: Sequence[Neurons], delay: int) -> Group | None:
    """Measure cases of equal conventions: the curve of one step, and the step to the next."""
    sweeps = [one for one in members if len(one.c) == 1 + delay]
    if not sweeps:
        return None
    near = max(one.near for one in members)
    shown = [single(one, delay) for one in sweeps]
    c, h, fired = (np.concatenate(part) for part in zip(*shown, strict=True))
    curve = curve_of(c, h, fired, near) or flat_curve(c, h, fired, near)
    if curve is None:
        return None
    step = None
    for one in members:
        if len(one.c) == 2 + delay:
            step = second_step(one, curve, delay, near)
    return Group(sweeps, curve, step)


def second_step(one: Neurons, curve: Curve, delay: int, near: float) -> Step | None:
    """Return the step that leads to the potentials of two steps' cases, None if none fits."""
    assert one.o is not None
    assert one.dc is not None
    do, fired = one.do[1 + delay], one.o[1 + delay]
    clear = np.abs(do) > 1e-3
    currents = curve.current(one.dc[1] / np.where(clear, do, np.inf), fired, near)
    if curve.at == "u":
        currents = np.where(fired > 0, np.nan, currents)
    if curve.at == "u_pre":  # the spike does not tell the side
        currents = np.full_like(currents, np.nan)
    known = np.stack([np.ones_like(clear), np.isfinite(currents)])
    u_pre = np.stack([one.c[0], np.nan_to_num(currents)])
    step, residual = step_of(u_pre, one.o[delay:], one.c[:2], known)
    if residual > 1000 * max(near, 1e-7) or not math.isfinite(step.leak):
        return leak_between(one, curve.threshold, delay)
    return step


def flat_curve(c: Array, h: Array, fired: Array, near: float) -> Curve | None:
    """Fit a rectangle as the curve of one step; None if it is none."""
    height = float(np.abs(h).max(initial=0.0))
    inside = np.abs(h) > height / 2
    if height == 0 or not inside.any() or np.ptp(h[inside]) > 100 * near * height:
        return None
    left, right = c[inside].min(), c[inside].max()
    low = c[~inside & (c < left)].max(initial=-np.inf)
    high = c[~inside & (c > right)].min(initial=np.inf)
    limits = bounds(c, fired)
    center = max((low + right) / 2, limits[0]), min((left + high) / 2, limits[1])
    if np.any(inside & (c < left)) or not center[0] <= center[1] or not math.isfinite(high - low):
        return None
    width = nice_within(float(right - left), float(high - low))
    if right - left <= 1 / height <= high - low:
        width = 1 / height
    threshold = nice_within(*map(float, center))
    return Curve(threshold, "rectangular", width, height * width, threshold=threshold)


def leak_between(one: Neurons, center: float, delay: int) -> Step | None:
    """Return the step with a leak between those that the spikes of the second step allow."""
    assert one.o is not None
    c0, c1 = one.c[0], one.c[1]
    usable = (one.o[delay] == 0) & (np.abs(c0) > 1e-3)
    leaks = (center - c1[usable]) / c0[usable]  # the leak at which the second step is on threshold
    above = (one.o[1 + delay][usable] > 0) == (c0[usable] > 0)
    low, high = leaks[above].max(initial=0.0), leaks[~above].min(initial=1.0)
    if low > high:
        return None
    return Step(nice_within(low, high), 1.0, 0.0, math.nan, math.nan, math.nan, 0.0)


def scaled(step: Step, gain: float) -> Step:
    """Return the step of potentials that are `gain` times as large as currents."""
    return step._replace(
        gain=step.gain * gain,
        gain_fired=step.gain_fired * gain,
        constant=step.constant * gain,
        constant_fired=step.constant_fired * gain,
        start=step.start * gain,
    )


def readings(groups: Sequence[Group]) -> Iterator[Sequence[Group]]:
    """Yield the readings of two steps: as they are, from a start of their own, with a synapse.

    Two steps cannot tell a synapse from a leak, nor the start from a reset, so all are given.
    """
    if not groups:
        return
    yield groups
    if any(group.step is None for group in groups):
        return
    for change in (own_start, synapse, synapse_of_soft_reset):
        changed = [g._replace(step=change(g.curve, g.step)) for g in groups if g.step is not None]
        if all(g.step is not None and 0 <= g.step.leak <= 1 for g in changed):
            yield changed


def own_start(curve: Curve, step: Step) -> Step | None:
    """Read the constant after silence as what a potential before the first step leaves."""
    if abs(step.constant) < 1e-6 or not 0 < step.leak < 1:
        return None
    shift = -step.constant / (1 - step.leak)
    return step._replace(
        constant=0.0, constant_fired=step.constant_fired + shift, start=shift / step.leak
    )


def synapse(curve: Curve, step: Step) -> Step | None:
    """Read the leak after a spike as a synapse's."""
    if not abs(step.leak_fired) > 1e-6:
        return None
    alpha = nice(step.leak_fired, 1e-6)
    return step._replace(leak=step.leak - alpha, leak_fired=0.0, synapse=alpha)


def synapse_of_soft_reset(curve: Curve, step: Step) -> Step | None:
    """Read what a soft reset by v_th leaves unexplained as a synapse."""
    leak = -step.constant_fired / curve.center
    if not 1e-6 < leak < step.leak - 1e-6 or not math.isclose(
        step.leak, step.leak_fired, rel_tol=1e-4
    ):
        return None
    alpha = nice(step.leak - leak, 1e-6)
    return step._replace(leak=step.leak - alpha, leak_fired=step.leak - alpha, synapse=alpha)


def plausible_gains(groups: Sequence[Group]) -> list[list[float]]:
    """Return, for each group, the gains that are usual: 1, 1 - leak, leak, and that of v_th."""
    laws: list[Callable[[Group, float], float]] = [
        lambda group, leak: 1.0,
        lambda group, leak: nice(1 - leak, 1e-6),
        lambda group, leak: nice(leak, 1e-6),
        lambda group, leak: nice(v_th_of(group) / group.curve.threshold, 1e-3),
        lambda group, leak: nice(1 / group.curve.threshold, 1e-3),
    ]
    found: list[list[float]] = []
    for law in laws:
        gains = [law(g, math.nan if g.step is None else g.step.leak) for g in groups]
        if all(math.isfinite(g) and 1e-3 < g < 1e3 for g in gains) and gains not in found:
            found.append(gains)
    return found


def v_th_of(group: Group) -> float:
    """Return the threshold that the cases ask for."""
    return float(group.sweeps[0].case.conventions["v_th"])
