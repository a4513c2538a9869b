"""Loops of the fused backward pass of batch norm, residual sum and LIF.

Every loop is a function of few arrays, as the compiler does not vectorise loops of many.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.batchnorm import NormGrads
from refsnn.equations.surrogate import Array
from refsnn.kernels.fused_forward import NORMED, load_currents
from refsnn.kernels.layout import Span
from refsnn.kernels.norm_blocks import SHARE, Normed, along_block, tasks_of
from refsnn.kernels.slopes import slopes
from refsnn.kernels.threads import share, take


class Sums(NamedTuple):
    """Sums over pixels, (T, C) each, from which a batch norm's gradients are computed."""

    delta: Array
    product: Array  # delta x_hat


@njit(cache=True, error_model="numpy")
def charge(neuron, u, u_pre):  # type: ignore[no-untyped-def]
    """Compute Eq. 1, 2 for one step: u_pre, which holds the current, and the new u."""
    tau, v_th, at_threshold = neuron.tau, neuron.v_th, neuron.fire_at_threshold
    for m in range(u.size):
        now = tau * u[m] + u_pre[m]
        u_pre[m] = now
        u[m] = np.float32(0) if now > v_th or (at_threshold and now == v_th) else now


@njit(cache=True, error_model="numpy")
def step_back(neuron, do, h, u_pre, du, delta):  # type: ignore[no-untyped-def]
    """Compute Eq. 3 for one step: delta from do and du = tau delta[t+1], and the new du."""
    tau, v_th, at_threshold = neuron.tau, neuron.v_th, neuron.fire_at_threshold
    for m in range(u_pre.size):
        now = u_pre[m]
        fired = now > v_th or (at_threshold and now == v_th)
        bracket = np.float32(0) if fired else np.float32(1)
        if not neuron.detach:
            bracket -= now * h[m]
        value = do[m] * h[m] + du[m] * bracket
        delta[m] = value
        du[m] = tau * value


@njit(cache=True, error_model="numpy")
def add_values(delta, total):  # type: ignore[no-untyped-def]
    """Add delta to total."""
    for m in range(delta.size):
        total[m] += delta[m]


@njit(cache=True, error_model="numpy")
def add_products(delta, c, mean, inv_std, total):  # type: ignore[no-untyped-def]
    """Add delta x_hat to total."""
    for m in range(delta.size):
        total[m] += delta[m] * ((c[m] - mean[m]) * inv_std[m])


@njit(nogil=True, cache=True, error_model="numpy")
def backward_blocks(tasks, own, do, c, skip, affine, skip_affine, neuron, slope, delta_seq, sums):  # type: ignore[no-untyped-def]
    """Write delta (Eq. 3), and the sums (3, task, T, C) of delta, delta x_hat, delta x_hat_skip."""
    steps, count = c.shape
    block, channels = affine.mean.shape[1], sums.shape[3]
    size = block * SHARE
    task = take(tasks)
    while task >= 0:
        u_pre, h = np.empty((steps, block), np.float32), np.empty(block, np.float32)
        u = np.empty(block, np.float32)
        total = np.zeros((3, steps, block), np.float32)
        for at in range(task * size, min((task + 1) * size, count), block):
            width = min(block, count - at)
            load_currents(c, skip, Span(at, width), affine, skip_affine, u_pre)
            u[:] = 0
            for t in range(steps):
                charge(neuron, u[:width], u_pre[t, :width])
            u[:] = 0  # holds du on the way back
            for t in range(steps - 1, -1, -1):
                row, delta = u_pre[t, :width], delta_seq[t, at : at + width]
                slopes(slope, neuron.v_th, row, h)
                step_back(neuron, do[t, at : at + width], h, row, u, delta)
                add_values(delta, total[0, t])
                mean, inv_std = affine.mean[t], affine.inv_std[t]
                add_products(delta, c[t, at : at + width], mean, inv_std, total[1, t])
                if skip.kind == NORMED:
                    mean, inv_std = skip_affine.mean[t], skip_affine.inv_std[t]
                    other = skip.rows[t, at : at + width]
                    add_products(delta, other, mean, inv_std, total[2, t])
        for which in range(3):
            for t in range(steps):
                for k in range(channels):
                    value = np.float32(0)
                    for m in range(k, block, channels):
                        value += total[which, t, m]
                    sums[which, task, t, k] = value
        task = take(tasks)


class Tilt(NamedTuple):
    """The factors of dx = delta factor - level - x_hat tilt, along the block for each step."""

    factor: Array  # (T, block)
    level: Array
    tilt: Array


@njit(nogil=True, cache=True, error_model="numpy")
def through_statistics(tasks, own, delta, c, affine, factors, dc):  # type: ignore[no-untyped-def]
    """Write dc (T, M), the gradient at a batch norm's input, by the formula of `Tilt`."""
    steps, count = c.shape
    block = affine.mean.shape[1]
    size = block * SHARE
    task = take(tasks)
    while task >= 0:
        for at in range(task * size, min((task + 1) * size, count), block):
            width = min(block, count - at)
            for t in range(steps):
                mean, inv_std = affine.mean[t], affine.inv_std[t]
                a, b, d = factors.factor[t], factors.level[t], factors.tilt[t]
                row, given, out = (
                    c[t, at : at + width],
                    delta[t, at : at + width],
                    dc[t, at : at + width],
                )
                for m in range(width):
                    x_hat = (row[m] - mean[m]) * inv_std[m]
                    out[m] = given[m] * a[m] - b[m] - x_hat * d[m]
        task = take(tasks)


def norm_gradients(
    delta_seq: Array, normed: Normed, sums: Sums, groups: int, scale: float, out: Array
) -> NormGrads:
    """Compute what `equations.batchnorm.batchnorm_backward` does, from sums, into `out`.

    `groups` is the number of statistics over the steps; 0 if the running ones were used.
    """
    (steps, channels), affine = sums.delta.shape, normed.affine
    weight, inv_std = affine.weight.astype(float), affine.inv_std.astype(float)
    level = tilt = np.zeros((1, channels))
    if groups:
        count = delta_seq.size // channels // groups
        level, tilt = (
            inv_std * weight * x.reshape(groups, -1, channels).sum(axis=1) / count for x in sums
        )
    share(
        through_statistics,
        tasks_of(delta_seq),
        delta_seq.reshape(steps, -1),
        normed.x_seq.reshape(steps, -1),
        normed.blocks,
        Tilt(*(along_block(x, steps) for x in (weight * inv_std, level, tilt))),
        out.reshape(steps, -1),
    )
    dtype = normed.x_seq.dtype
    dgamma, dbeta = sums.product.sum(axis=0) * scale, sums.delta.sum(axis=0)
    return NormGrads(out, dgamma.astype(dtype), dbeta.astype(dtype))
