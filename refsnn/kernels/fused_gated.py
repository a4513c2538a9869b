"""Loops of batch norm, residual sum and a neuron with gates in one pass, forward and backward.

They are those of `fused_forward` and `fused_backward` with constants for each channel, and with
the sums that their gradients take.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.lif import LIF
from refsnn.equations.neurons.gated import Constants
from refsnn.equations.surrogate import Array
from refsnn.kernels.fused_backward import add_to, move_sums
from refsnn.kernels.fused_forward import NORMED, current, x_hat
from refsnn.kernels.norm_blocks import SUM, along_period
from refsnn.kernels.simd import LANES
from refsnn.kernels.slopes import slope_at
from refsnn.kernels.threads import begin, take
from refsnn.kernels.vector import load, splat, store, store_mask, where

BY_STEP, OVERALL = 4, 6  # number of sums for each step, and over all steps


class Gates(NamedTuple):
    """A layer's constants along a period, in flat float32 arrays."""

    leak: Array  # (period,)
    clear: Array  # (period,)
    amount: Array  # (period,)
    drop: Array  # (period,)
    gain: Array  # (T period,)
    v_th: Array  # (period,)
    amplitude: Array  # (period,)
    ceiling: Array  # (period,) the highest potential that does not fire
    detached: bool  # no gradient passes through the reset


def gates_of(k: Constants, p: LIF) -> Gates:
    """Return the constants in the form that the loops take."""
    low = np.float32(-np.inf)
    ceiling = np.nextafter(k.v_th, low) if p.fire_at_threshold else k.v_th  # D2
    leak, clear, amount, drop, gain, v_th, amplitude, highest = (
        along_period(np.atleast_2d(x)) for x in (*k, ceiling)
    )
    detached = p.reset_gradient == "detached"
    return Gates(leak, clear, amount, drop, gain, v_th, amplitude, highest, detached)


@njit(cache=True, error_model="numpy")
def potential(gates, u, y, place, k):  # type: ignore[no-untyped-def]
    """Return the vector of potentials before firing, from those after the last step's reset."""
    return u - load(gates.drop, k) + load(gates.gain, place) * y


@njit(cache=True, error_model="numpy")
def carried(gates, u_pre, k):  # type: ignore[no-untyped-def]
    """Return the vector of potentials that reach the next step."""
    left, fired = load(gates.leak, k) * u_pre, u_pre > load(gates.ceiling, k)
    after = left * (splat(1) - load(gates.clear, k)) - load(gates.amount, k)
    return where(fired, after, left)


@njit(nogil=True, cache=True, error_model="numpy")
def forward_tasks(tasks, own, c, skip, norm, skip_norm, sizes, gates, o_seq):  # type: ignore[no-untyped-def]
    """Write the spikes of a task's elements, a strip through all steps after the other."""
    u = np.empty(sizes.strip, np.float32)
    task = begin(tasks, own)
    while task >= 0:
        end = min((task + 1) * sizes.task, sizes.width)
        for first in range(task * sizes.task, end, sizes.strip):
            last = min(first + sizes.strip, end)
            u[:] = 0
            for t in range(sizes.steps):
                k = first % sizes.period
                for m in range(first, last, LANES):
                    y = current(c, skip, norm, skip_norm, sizes, t, m, k)
                    u_pre = potential(gates, load(u, m - first), y, t * sizes.period + k, k)
                    store_mask(o_seq, t * sizes.width + m, u_pre > load(gates.ceiling, k))
                    store(u, m - first, carried(gates, u_pre, k))
                    k = k + LANES if k + LANES < sizes.period else 0
        task = take(tasks, own)


@njit(cache=True, error_model="numpy")
def step_back(gates, slope, u_pre, dy, later, k, total):  # type: ignore[no-untyped-def]
    """Return delta for a vector, from dL/dy and delta[t+1], and add to the constants' sums."""
    one, leak, clear = splat(1), load(gates.leak, k), load(gates.clear, k)
    o = where(u_pre > load(gates.ceiling, k), one, splat(0))
    h = slope_at(slope, u_pre - load(gates.v_th, k))
    whole = load(gates.amplitude, k) * dy
    if not gates.detached:
        whole = whole - later * (leak * clear * u_pre + load(gates.amount, k))
    kept = one - clear * o
    delta = whole * h + later * (leak * kept)
    period = gates.leak.size
    add_to(total, k, later * u_pre * kept)
    add_to(total, k + period, later * leak * u_pre * o)
    add_to(total, k + 2 * period, later * o)
    add_to(total, k + 3 * period, delta)
    add_to(total, k + 4 * period, whole * h)
    add_to(total, k + 5 * period, dy * o)
    return delta


@njit(nogil=True, cache=True, error_model="numpy")
def backward_tasks(  # type: ignore[no-untyped-def]
    tasks, own, dy_seq, c, skip, norm, skip_norm, sizes, gates, slope, through_seq, sums
):
    """Write gain delta, the gradient at the currents, and each task's sums.

    They are (task, BY_STEP T period + OVERALL period), float64: for each step those of gain delta,
    gain delta x_hat, gain delta x_hat_skip and delta c; then those of `step_back`.
    """
    steps, strip, each = sizes.steps, sizes.strip, sizes.steps * sizes.period
    u, u_pre_seq = np.empty(strip, np.float32), np.empty(steps * strip, np.float32)
    total = np.zeros(BY_STEP * each + OVERALL * sizes.period, np.float32)
    overall = total[BY_STEP * each :]
    task = begin(tasks, own)
    while task >= 0:
        end, summed = min((task + 1) * sizes.task, sizes.width), 0
        sums[task] = 0
        for first in range(task * sizes.task, end, strip):
            last = min(first + strip, end)
            u[:] = 0
            for t in range(steps):
                k = first % sizes.period
                for m in range(first, last, LANES):
                    y = current(c, skip, norm, skip_norm, sizes, t, m, k)
                    u_pre = potential(gates, load(u, m - first), y, t * sizes.period + k, k)
                    store(u_pre_seq, t * strip + m - first, u_pre)
                    store(u, m - first, carried(gates, u_pre, k))
                    k = k + LANES if k + LANES < sizes.period else 0
            later = u  # delta[t+1]
            later[:] = 0
            for t in range(steps - 1, -1, -1):
                k = first % sizes.period
                for m in range(first, last, LANES):
                    at, place = t * sizes.width + m, t * sizes.period + k
                    u_pre = load(u_pre_seq, t * strip + m - first)
                    dy, delta = load(dy_seq, at), load(later, m - first)
                    delta = step_back(gates, slope, u_pre, dy, delta, k, overall)
                    store(later, m - first, delta)
                    through = load(gates.gain, place) * delta
                    store(through_seq, at, through)
                    add_to(total, place, through)
                    product = through * x_hat(c.data, t * c.row + m, norm, t, k)
                    add_to(total, each + place, product)
                    if skip.kind == NORMED:
                        product = through * x_hat(skip.numbers, at, skip_norm, t, k)
                        add_to(total, 2 * each + place, product)
                    y = current(c, skip, norm, skip_norm, sizes, t, m, k)
                    add_to(total, 3 * each + place, delta * y)
                    k = k + LANES if k + LANES < sizes.period else 0
            summed += last - first
            if summed >= SUM * sizes.period or last == end:
                move_sums(total, sums[task])
                summed = 0
        task = take(tasks, own)


class GatedSums(NamedTuple):
    """The sums over tasks and pixels, in float64."""

    through: Array  # (T, C)
    product: Array  # (T, C) gain delta x_hat
    skip_product: Array  # (T, C)
    constants: Constants  # the gradients with respect to them


def read_sums(sums: Any, steps: int, period: int, channels: int, dtype: Any) -> GatedSums:
    """Return the sums of `backward_tasks` by name."""
    over_tasks = sums.sum(axis=0)
    by_step, overall = np.split(over_tasks, [BY_STEP * steps * period])
    through, product, skip_product, gain = by_step.reshape(4, steps, -1, channels).sum(axis=2)
    leak, clear, amount, drop, v_th, amplitude = overall.reshape(6, -1, channels).sum(axis=1)
    d = Constants(leak, -clear, -amount, -drop, gain, -v_th, amplitude)
    return GatedSums(through, product, skip_product, Constants(*(x.astype(dtype) for x in d)))
