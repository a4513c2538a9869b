"""Mean and variance of channels in one pass over memory: a batch norm's statistics, and others.

Few pixels are summed in float32, and their sums in float64, in an order that does not depend on the
number of threads.
"""

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations import potentials as equations
from refsnn.equations.batchnorm import BatchNorm, NormInput, Running, update_running
from refsnn.equations.sequence import is_still
from refsnn.equations.surrogate import Array
from refsnn.kernels.norm_blocks import SUM, Affine, sizes_of, tasks_of
from refsnn.kernels.simd import LANES, contiguous
from refsnn.kernels.threads import begin, share, take
from refsnn.kernels.vector import load, store

FEW = 16  # the centre of a part is the mean of the first of so many equal pieces


@njit(cache=True, error_model="numpy", inline="always")
def add_moments(x, first, last, period, centre, total, square):  # type: ignore[no-untyped-def]
    """Add the distances of x[first:last] from the centre, and their squares, channel by channel."""
    whole = first + (last - first) // LANES * LANES
    k = 0
    for m in range(first, whole, LANES):
        away = load(x, m) - load(centre, k)
        store(total, k, load(total, k) + away)
        store(square, k, load(square, k) + away * away)
        k = k + LANES if k + LANES < period else 0
    for m in range(whole, last):
        rest = x[m] - centre[k]
        total[k] += rest
        square[k] += rest * rest
        k += 1


@njit(cache=True, error_model="numpy")
def centre_of(x, first, last, channels, centre):  # type: ignore[no-untyped-def]
    """Write the mean of each channel over x[first:last] along a period."""
    for k in range(channels):
        value = np.float32(0)
        for m in range(first + k, last, channels):
            value += x[m]
        centre[k::channels] = value / np.float32((last - first) // channels)


@njit(nogil=True, cache=True, error_model="numpy")
def moments(tasks, own, x, count, sizes, mean, spread):  # type: ignore[no-untyped-def]
    """Write each channel's mean and sum of squares around it, (step, part, channel), of x.

    x is flat, and a step has `count` elements. One pass is enough, around the mean of a part's
    first elements: as these are one in FEW, that mean is so close that the squares' rounding error
    grows at most FEW-fold.
    """
    channels, period, parts = sizes.channels, sizes.period, mean.shape[1]
    centre, total = np.zeros(period, np.float32), np.zeros(period, np.float32)
    square, away, squares = np.zeros(period, np.float32), np.zeros(period), np.zeros(period)
    task = begin(tasks, own)
    while task >= 0:
        t, part = task // parts, task % parts
        first, last = t * count + part * sizes.task, t * count + min((part + 1) * sizes.task, count)
        some = -(-(last - first) // (FEW * channels)) * channels
        centre_of(x, first, first + some, channels, centre)
        away[:] = 0
        squares[:] = 0
        for at in range(first, last, SUM * period):
            add_moments(x, at, min(at + SUM * period, last), period, centre, total, square)
            for k in range(period):
                away[k] += total[k]
                squares[k] += square[k]
            total[:] = 0
            square[:] = 0
        pixels = (last - first) // channels
        for k in range(channels):
            all_away, all_squares = away[k::channels].sum(), squares[k::channels].sum()
            mean[t, part, k] = centre[k] + all_away / pixels
            spread[t, part, k] = max(all_squares - all_away * all_away / pixels, 0.0)
        task = take(tasks, own)


def statistics(c_seq: Array, p: BatchNorm) -> tuple[Array, Array]:
    """Return mean and biased variance (D8), (1, C) or (T, C)."""
    rows = 1 if p.statistics == "pooled" else len(c_seq)
    if is_still(c_seq):
        mean, var = (x.repeat(rows, axis=0) for x in combined_moments(c_seq[:1], 1))
    else:
        mean, var = combined_moments(c_seq, rows)
    return mean.astype(c_seq.dtype), var.astype(c_seq.dtype)


def channel_moments(x_seq: Array) -> tuple[Array, Array]:
    """Do as `equations.potentials.channel_moments`, which is called for anything but float32."""
    if x_seq.dtype != np.float32 or not x_seq.size:
        return equations.channel_moments(x_seq)
    mean, var = combined_moments(x_seq, 1)
    return mean[0], var[0]


def combined_moments(c_seq: Array, rows: int) -> tuple[Array, Array]:
    """Return mean and biased variance in float64: (1, C) over all steps, or (T, C) of each.

    `rows` is 1 or T.
    """
    sizes = sizes_of(c_seq)
    steps, channels, count = len(c_seq), sizes.channels, c_seq[0].size
    parts = tasks_of(sizes)
    mean, square = (empty((steps, parts, channels)) for _ in range(2))
    x = contiguous(c_seq).reshape(-1)
    share(moments, steps * parts, x, count, sizes, mean, square)
    edges = np.minimum(np.arange(parts + 1) * sizes.task, count)
    weights = np.tile(np.diff(edges) // channels, steps).astype(float)
    weights = weights.reshape(rows, -1, 1)
    means, squares = (x.reshape(rows, -1, channels) for x in (mean, square))
    total = weights.sum(axis=1)
    centre = (weights * means).sum(axis=1) / total
    spread = (squares + weights * (means - centre[:, None]) ** 2).sum(axis=1)
    return centre, spread / total


def make_affine(norm_input: NormInput, p: BatchNorm, training: bool) -> tuple[Affine, Running]:
    """Return the batch norm's constants and the running statistics after this batch.

    If `training`, the batch's statistics are used, else the running ones.
    """
    running = norm_input.running
    if training:
        mean, var = statistics(norm_input.x_seq, p)
        count = norm_input.x_seq.size // mean.size
        running = update_running(running, mean, var, count, p)
    else:
        mean, var = map(np.atleast_2d, running)
    inv_std = 1 / np.sqrt(var + p.eps)
    gamma, beta = np.atleast_2d(norm_input.gamma), np.atleast_2d(norm_input.beta)
    return Affine(mean, inv_std, gamma * p.scale, beta), running
