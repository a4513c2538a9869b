"""Loops of the fused backward pass of batch norm, residual sum and LIF."""

from typing import NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.batchnorm import NormGrads, NormInput
from refsnn.equations.surrogate import Array
from refsnn.kernels.fused_forward import NORMED, after_spike, current, x_hat
from refsnn.kernels.norm_blocks import (
    SUM,
    Affine,
    Sizes,
    along_period,
    constants_of,
    period_of,
    sequence,
    tasks_of,
    unflat,
)
from refsnn.kernels.simd import LANES
from refsnn.kernels.slopes import slope_at
from refsnn.kernels.threads import begin, share, take
from refsnn.kernels.vector import load, splat, store, where


class Sums(NamedTuple):
    """Sums over pixels, (T, C) each, from which a batch norm's gradients are computed."""

    delta: Array
    product: Array  # delta x_hat


@njit(cache=True, error_model="numpy")
def step_back(neuron, slope, u_pre, do, du):  # type: ignore[no-untyped-def]
    """Return delta of Eq. 3 for a vector, from do and du = tau delta[t+1]."""
    h = slope_at(slope, u_pre - splat(neuron.v_th))
    one, resets = splat(1), u_pre
    bracket = where(u_pre > splat(neuron.ceiling), splat(0), one)
    if neuron.subtract:
        bracket, resets = one, splat(neuron.amount)
    if not neuron.detach:
        bracket = bracket - resets * h
    return do * h + du * bracket


@njit(cache=True, error_model="numpy")
def add_to(total, at, value):  # type: ignore[no-untyped-def]
    """Add a vector to total[at:]."""
    store(total, at, load(total, at) + value)


@njit(cache=True, error_model="numpy")
def move_sums(total, sums):  # type: ignore[no-untyped-def]
    """Add the sums in float32 to those in float64, and begin again."""
    for k in range(total.size):
        sums[k] += total[k]
        total[k] = 0


@njit(nogil=True, cache=True, error_model="numpy")
def backward_tasks(  # type: ignore[no-untyped-def]
    tasks, own, do_seq, c, skip, norm, skip_norm, sizes, neuron, slope, delta_seq, sums
):
    """Write delta (Eq. 3), and each task's sums of delta, delta x_hat and delta x_hat_skip.

    The sums are (task, 3 T period), float64.
    """
    tau, ceiling = splat(neuron.tau), splat(neuron.ceiling)
    steps, strip, each = sizes.steps, sizes.strip, sizes.steps * sizes.period
    u, u_pre_seq = np.empty(strip, np.float32), np.empty(steps * strip, np.float32)
    total = np.zeros(3 * each, np.float32)
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
                    u_pre = tau * load(u, m - first) + y  # Eq. (1)
                    store(u_pre_seq, t * strip + m - first, u_pre)
                    kept = where(u_pre > ceiling, after_spike(neuron, u_pre), u_pre)
                    store(u, m - first, kept)
                    k = k + LANES if k + LANES < sizes.period else 0
            du = u  # tau delta[t+1]
            du[:] = 0
            for t in range(steps - 1, -1, -1):
                k = first % sizes.period
                for m in range(first, last, LANES):
                    at, place = t * sizes.width + m, t * sizes.period + k
                    u_pre = load(u_pre_seq, t * strip + m - first)
                    delta = step_back(neuron, slope, u_pre, load(do_seq, at), load(du, m - first))
                    store(du, m - first, tau * delta)
                    store(delta_seq, at, delta)
                    add_to(total, place, delta)
                    product = delta * x_hat(c.data, t * c.row + m, norm, t, k)
                    add_to(total, each + place, product)
                    if skip.kind == NORMED:
                        product = delta * x_hat(skip.numbers, at, skip_norm, t, k)
                        add_to(total, 2 * each + place, product)
                    k = k + LANES if k + LANES < sizes.period else 0
            summed += last - first
            if summed >= SUM * sizes.period or last == end:
                move_sums(total, sums[task])
                summed = 0
        task = take(tasks, own)


class Tilt(NamedTuple):
    """The factors of dx = delta factor - level - x_hat tilt, along a period."""

    factor: Array  # (period,), or (T period,) per step
    level: Array  # like factor
    tilt: Array  # like factor
    row: int  # from one step's factors to the next, 0 if all steps have the same


@njit(nogil=True, cache=True, error_model="numpy")
def through_statistics(tasks, own, delta_seq, c, norm, tilt, sizes, dc_seq):  # type: ignore[no-untyped-def]
    """Write dc (T M,), the gradient at a batch norm's input, by the formula of `Tilt`."""
    task = begin(tasks, own)
    while task >= 0:
        first, end = task * sizes.task, min((task + 1) * sizes.task, sizes.width)
        for t in range(sizes.steps):
            k = first % sizes.period
            for m in range(first, end, LANES):
                at, place = t * sizes.width + m, t * tilt.row + k
                straight = load(delta_seq, at) * load(tilt.factor, place) - load(tilt.level, place)
                along = x_hat(c.data, t * c.row + m, norm, t, k) * load(tilt.tilt, place)
                store(dc_seq, at, straight - along)
                k = k + LANES if k + LANES < sizes.period else 0
        task = take(tasks, own)


def tilt_of(affine: Affine, sums: Sums, groups: int, count: int) -> Tilt:
    """Return the factors for statistics over `groups` of `count` pixels each; 0: running ones."""
    weight, inv_std = affine.weight.astype(float), affine.inv_std.astype(float)
    channels = weight.shape[1]
    level = tilt = np.zeros((1, channels))
    if groups:
        level, tilt = (
            inv_std * weight * x.reshape(groups, -1, channels).sum(axis=1) / count
            if len(weight) == 1
            else inv_std * (weight * x).reshape(groups, -1, channels).sum(axis=1) / count
            for x in sums
        )
    factor = weight * inv_std
    rows = [np.broadcast_to(x, factor.shape) for x in (factor, level, tilt)]
    factor, level, tilt = map(along_period, rows)
    return Tilt(factor, level, tilt, period_of(channels) if len(rows[0]) > 1 else 0)


def norm_gradients(
    delta_seq: Array,
    norm_input: NormInput,
    affine: Affine,
    sums: Sums,
    groups: int,
    sizes: Sizes,
    scale: float,
    out: Array,
) -> NormGrads:
    """Compute what `equations.batchnorm.batchnorm_backward` does, from sums, into `out`.

    `groups` is the number of statistics over the steps; 0 if the running ones were used.
    """
    x_seq = norm_input.x_seq
    count = x_seq.size // sizes.channels // max(groups, 1)
    share(
        through_statistics,
        tasks_of(sizes),
        delta_seq,
        sequence(x_seq, sizes.width),
        constants_of(affine),
        tilt_of(affine, sums, groups, count),
        sizes,
        out,
    )
    dgamma, dbeta = sums.product, sums.delta  # (T, C)
    if norm_input.gamma.ndim == 1:
        dgamma, dbeta = dgamma.sum(axis=0), dbeta.sum(axis=0)
    dgamma = dgamma * scale
    return NormGrads(
        unflat(out, x_seq.shape), dgamma.astype(x_seq.dtype), dbeta.astype(x_seq.dtype)
    )
