"""Batch norm alone in float32, for where no neuron follows it in the same pass.

Values are computed as in the fused passes: statistics in one pass over memory, sums in float64.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations import batchnorm as equations
from refsnn.equations.batchnorm import (
    BatchNorm,
    BatchNormCache,
    NormGrads,
    NormInput,
    Running,
    check_input,
)
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import like
from refsnn.kernels.fused_backward import Sums, add_to, move_sums, norm_gradients
from refsnn.kernels.fused_forward import affine, x_hat
from refsnn.kernels.norm_blocks import (
    SUM,
    Affine,
    constants_of,
    flat,
    sequence,
    sizes_of,
    tasks_of,
    unflat,
)
from refsnn.kernels.norm_statistics import make_affine
from refsnn.kernels.simd import LANES, aligned
from refsnn.kernels.threads import begin, share, take
from refsnn.kernels.vector import load, store


class NormCache(NamedTuple):
    """The values that the backward pass needs."""

    norm_input: NormInput
    affine: Affine
    norm: BatchNorm
    training: bool

    @property
    def x_hat(self) -> Array:
        """Return the normalised values (T, N, H, W, C), before scale, gamma and beta."""
        mean, inv_std, *_ = (x[:, None, None, None] for x in self.affine)
        return (self.norm_input.x_seq - mean) * inv_std


@njit(nogil=True, cache=True, error_model="numpy")
def forward_tasks(tasks, own, c, norm, sizes, y_seq):  # type: ignore[no-untyped-def]
    """Write the batch norm's output (T M,)."""
    task = begin(tasks, own)
    while task >= 0:
        first, end = task * sizes.task, min((task + 1) * sizes.task, sizes.width)
        for t in range(sizes.steps):
            k = first % sizes.period
            for m in range(first, end, LANES):
                y = affine(x_hat(c.data, t * c.row + m, norm, t, k), norm, t, k)
                store(y_seq, t * sizes.width + m, y)
                k = k + LANES if k + LANES < sizes.period else 0
        task = take(tasks, own)


@njit(nogil=True, cache=True, error_model="numpy")
def sum_tasks(tasks, own, dy_seq, c, norm, sizes, sums):  # type: ignore[no-untyped-def]
    """Write each task's sums of dy and dy x_hat, (task, 2 T period), in float64."""
    each = sizes.steps * sizes.period
    total = np.zeros(2 * each, np.float32)
    task = begin(tasks, own)
    while task >= 0:
        end = min((task + 1) * sizes.task, sizes.width)
        sums[task] = 0
        for first in range(task * sizes.task, end, SUM * sizes.period):
            last = min(first + SUM * sizes.period, end)
            for t in range(sizes.steps):
                k = 0  # a part begins with a period
                for m in range(first, last, LANES):
                    place = t * sizes.period + k
                    dy = load(dy_seq, t * sizes.width + m)
                    add_to(total, place, dy)
                    add_to(total, each + place, dy * x_hat(c.data, t * c.row + m, norm, t, k))
                    k = k + LANES if k + LANES < sizes.period else 0
            move_sums(total, sums[task])
        task = take(tasks, own)


def batchnorm_forward(
    x_seq: Array, gamma: Array, beta: Array, running: Running, p: BatchNorm, training: bool
) -> tuple[Array, Running, BatchNormCache | NormCache]:
    """Do as `equations.batchnorm.batchnorm_forward`, which is called for anything but float32."""
    if x_seq.dtype != np.float32 or type(p) is not BatchNorm or not x_seq.size:
        return equations.batchnorm_forward(x_seq, gamma, beta, running, p, training)
    norm_input = NormInput(x_seq, gamma, beta, running)
    check_input(norm_input)
    constants, moved = make_affine(norm_input, p, training)
    sizes = sizes_of(x_seq)
    y_seq = empty(sizes.steps * sizes.width, np.float32)
    given = sequence(x_seq, sizes.width), constants_of(constants), sizes
    share(forward_tasks, tasks_of(sizes), *given, y_seq)
    return unflat(y_seq, x_seq.shape), moved, NormCache(norm_input, constants, p, training)


def batchnorm_backward(dy_seq: Array, cache: Any) -> NormGrads:
    """Do as `equations.batchnorm.batchnorm_backward`."""
    if not isinstance(cache, NormCache):
        return equations.batchnorm_backward(dy_seq, cache)
    norm_input, constants, p, training = cache
    x_seq = norm_input.x_seq
    like("dy_seq", dy_seq, x_seq.shape, x_seq.dtype, "y_seq")
    sizes = sizes_of(x_seq)
    tasks, steps, given = tasks_of(sizes), sizes.steps, flat(dy_seq, sizes.width)
    sums = empty((tasks, 2 * steps * sizes.period))
    known = sequence(x_seq, sizes.width), constants_of(constants), sizes
    share(sum_tasks, tasks, given, *known, sums)
    both = sums.sum(axis=0).reshape(2, steps, -1, sizes.channels).sum(axis=2)
    groups = 0 if not training else 1 if p.statistics == "pooled" else steps
    out = aligned(given.size)
    return norm_gradients(given, norm_input, constants, Sums(*both), groups, sizes, p.scale, out)
