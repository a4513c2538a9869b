"""A batch norm's statistics in one pass over memory.

Pixels are summed block by block, and the blocks' sums in float64, in an order that does not depend
on the number of threads.
"""

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations.batchnorm import BatchNorm, NormInput, Running, update_running
from refsnn.equations.surrogate import Array
from refsnn.kernels.norm_blocks import SHARE, Affine, block_size
from refsnn.kernels.threads import share, take


@njit(cache=True, error_model="numpy")
def add_moments(c, centre, total, square):  # type: ignore[no-untyped-def]
    """Add the distances from the centre, and their squares."""
    for m in range(c.size):
        away = c[m] - centre[m]
        total[m] += away
        square[m] += away * away


@njit(nogil=True, cache=True, error_model="numpy")
def moments(tasks, own, c, channels, block, mean, spread):  # type: ignore[no-untyped-def]
    """Write each channel's mean and sum of squares around it, for each step and task, of c (T, M).

    One pass is enough, around the mean of the task's first block: as it is one of SHARE blocks,
    that mean is so close that the squares' rounding error grows at most SHARE-fold.
    """
    count, parts = c.shape[1], mean.shape[1]
    size = block * SHARE
    task = take(tasks)
    while task >= 0:
        t, part = task // parts, task % parts
        first, last = part * size, min((part + 1) * size, count)
        lanes = min(block, last - first)
        centre = np.empty(lanes, np.float32)
        for k in range(channels):
            value = np.float32(0)
            for m in range(k, lanes, channels):
                value += c[t, first + m]
            centre[k::channels] = value / np.float32(lanes // channels)
        total, square = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
        for at in range(first, last, block):
            add_moments(c[t, at : min(at + block, last)], centre, total, square)
        pixels = (last - first) // channels
        for k in range(channels):
            away, squares = np.float64(0), np.float64(0)
            for m in range(k, lanes, channels):
                away += total[m]
                squares += square[m]
            mean[t, part, k] = centre[k] + away / pixels
            spread[t, part, k] = max(squares - away * away / pixels, 0.0)
        task = take(tasks)


def statistics(c_seq: Array, p: BatchNorm) -> tuple[Array, Array]:
    """Return mean and biased variance (D8), (1, C) or (T, C); tasks are combined in float64."""
    steps, channels = len(c_seq), c_seq.shape[-1]
    c = c_seq.reshape(steps, -1)
    size = block_size(channels)
    tasks = -(-c.shape[1] // (size * SHARE))
    mean, square = (empty((steps, tasks, channels)) for _ in range(2))
    share(moments, steps * tasks, c, channels, size, mean, square)
    edges = np.minimum(np.arange(tasks + 1) * size * SHARE, c.shape[1])
    weights = np.tile(np.diff(edges) // channels, steps).astype(float)
    rows = 1 if p.statistics == "pooled" else steps
    weights = weights.reshape(rows, -1, 1)
    means, squares = (x.reshape(rows, -1, channels) for x in (mean, square))
    total = weights.sum(axis=1)
    centre = (weights * means).sum(axis=1) / total
    spread = (squares + weights * (means - centre[:, None]) ** 2).sum(axis=1)
    return centre.astype(c.dtype), (spread / total).astype(c.dtype)


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
        mean, var = (x[None] for x in running)
    inv_std = 1 / np.sqrt(var + p.eps)
    return Affine(mean, inv_std, norm_input.gamma * p.scale, norm_input.beta), running
