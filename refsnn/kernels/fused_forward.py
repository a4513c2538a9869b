"""Loops of the fused forward pass of batch norm, residual sum and LIF."""

from typing import NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.batchnorm import NormInput
from refsnn.equations.surrogate import Array
from refsnn.kernels.norm_blocks import Sizes, flat
from refsnn.kernels.simd import LANES
from refsnn.kernels.threads import begin, take
from refsnn.kernels.vector import load, splat, store, store_mask, where

NONE, SPIKES, PLAIN, NORMED = 0, 1, 2, 3  # kinds of skips


class Skip(NamedTuple):
    """The skip, which is added to the batch norm."""

    kind: int  # NONE, SPIKES, PLAIN, or NORMED: it has a batch norm of its own
    spikes: Array  # (T M,), uint8; empty for another kind
    numbers: Array  # (T M,), float32; empty for another kind


def skip_of(skip: Array | NormInput | None, sizes: Sizes) -> Skip:
    """Return the skip in the form that the loops take."""
    no_spikes, no_numbers = np.zeros(0, np.uint8), np.zeros(0, np.float32)
    if skip is None:
        return Skip(NONE, no_spikes, no_numbers)
    if isinstance(skip, NormInput):
        return Skip(NORMED, no_spikes, flat(skip.x_seq, sizes.width))
    if skip.dtype == np.uint8:
        return Skip(SPIKES, flat(skip, sizes.width), no_numbers)
    return Skip(PLAIN, no_spikes, flat(skip, sizes.width))


@njit(cache=True, error_model="numpy")
def x_hat(x, at, norm, t, k):  # type: ignore[no-untyped-def]
    """Return the normalised vector x[at:] of step t, whose channels begin at k of the period."""
    place = t * norm.row + k
    return (load(x, at) - load(norm.mean, place)) * load(norm.inv_std, place)


@njit(cache=True, error_model="numpy")
def affine(x, norm, t, k):  # type: ignore[no-untyped-def]
    """Return x weight + bias for a normalised vector of step t."""
    place = t * norm.weight_row + k
    return x * load(norm.weight, place) + load(norm.bias, place)


@njit(cache=True, error_model="numpy")
def current(c, skip, norm, skip_norm, sizes, t, m, k):  # type: ignore[no-untyped-def]
    """Return the vector m of step t: the batch norm of c, plus the skip."""
    y = affine(x_hat(c.data, t * c.row + m, norm, t, k), norm, t, k)
    at = t * sizes.width + m
    if skip.kind == SPIKES:
        return y + load(skip.spikes, at)
    if skip.kind == PLAIN:
        return y + load(skip.numbers, at)
    if skip.kind == NORMED:
        return y + affine(x_hat(skip.numbers, at, skip_norm, t, k), skip_norm, t, k)
    return y


@njit(cache=True, error_model="numpy")
def after_spike(neuron, u_pre):  # type: ignore[no-untyped-def]
    """Return the potentials of a vector of neurons that fired, after the reset."""
    return u_pre - splat(neuron.amount) if neuron.subtract else splat(0)  # Eq. (2)  # R6


@njit(nogil=True, cache=True, error_model="numpy")
def forward_tasks(tasks, own, c, skip, norm, skip_norm, sizes, neuron, o_seq):  # type: ignore[no-untyped-def]
    """Write the spikes of a task's elements, a strip through all steps after the other."""
    tau, ceiling = splat(neuron.tau), splat(neuron.ceiling)
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
                    u_pre = tau * load(u, m - first) + y  # Eq. (1)
                    fired = u_pre > ceiling  # Eq. (2)
                    store_mask(o_seq, t * sizes.width + m, fired)
                    store(u, m - first, where(fired, after_spike(neuron, u_pre), u_pre))
                    k = k + LANES if k + LANES < sizes.period else 0
        task = take(tasks, own)
