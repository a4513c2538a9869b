"""Loops of the fused forward pass of batch norm, residual sum and LIF."""

from typing import NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.batchnorm import NormInput
from refsnn.equations.surrogate import Array
from refsnn.kernels.layout import Span
from refsnn.kernels.norm_blocks import SHARE
from refsnn.kernels.threads import take

NONE, SPIKES, PLAIN, NORMED = 0, 1, 2, 3  # kinds of skips


class Skip(NamedTuple):
    """The skip, which is added to the batch norm."""

    kind: int  # NONE, SPIKES, PLAIN, or NORMED: it has a batch norm of its own
    spikes: Array  # (T, M), uint8; (T, 0) for another kind
    rows: Array  # (T, M), float32; (T, 0) for another kind


def skip_rows(skip: Array | NormInput | None, steps: int) -> Skip:
    """Return the skip in the form that the loops take."""
    no_spikes, no_rows = np.zeros((steps, 0), np.uint8), np.zeros((steps, 0), np.float32)
    if skip is None:
        return Skip(NONE, no_spikes, no_rows)
    if isinstance(skip, NormInput):
        return Skip(NORMED, no_spikes, skip.x_seq.reshape(steps, -1))
    rows = np.ascontiguousarray(skip).reshape(steps, -1)
    if rows.dtype == np.uint8:
        return Skip(SPIKES, rows, no_rows)
    return Skip(PLAIN, no_spikes, rows)


@njit(cache=True, error_model="numpy")
def load_currents(c, skip, block, affine, skip_affine, y):  # type: ignore[no-untyped-def]
    """Write y (T, block), the batch norm of a block of c (T, M) plus the skip's block."""
    first, last, width = block.first, block.first + block.size, block.size
    for t in range(c.shape[0]):
        row, out = c[t, first:last], y[t]
        mean, inv_std = affine.mean[t], affine.inv_std[t]
        weight, bias = affine.weight[t], affine.bias[t]
        for m in range(width):
            out[m] = (row[m] - mean[m]) * inv_std[m] * weight[m] + bias[m]
    if skip.kind == SPIKES:
        for t in range(c.shape[0]):
            fired, out = skip.spikes[t, first:last], y[t]
            for m in range(width):
                out[m] += np.float32(fired[m])
    elif skip.kind == PLAIN:
        for t in range(c.shape[0]):
            other, out = skip.rows[t, first:last], y[t]
            for m in range(width):
                out[m] += other[m]
    elif skip.kind == NORMED:
        for t in range(c.shape[0]):
            other, out = skip.rows[t, first:last], y[t]
            mean, inv_std = skip_affine.mean[t], skip_affine.inv_std[t]
            weight, bias = skip_affine.weight[t], skip_affine.bias[t]
            for m in range(width):
                out[m] += (other[m] - mean[m]) * inv_std[m] * weight[m] + bias[m]


@njit(nogil=True, cache=True, error_model="numpy")
def forward_blocks(tasks, own, c, skip, affine, skip_affine, neuron, o_seq):  # type: ignore[no-untyped-def]
    """Write the spikes (T, M) of c (T, M)."""
    steps, count = c.shape
    block = affine.mean.shape[1]
    zero, size = np.float32(0), block * SHARE
    tau, v_th, at_threshold = neuron.tau, neuron.v_th, neuron.fire_at_threshold
    task = take(tasks)
    while task >= 0:
        y_seq, u = np.empty((steps, block), np.float32), np.empty(block, np.float32)
        for at in range(task * size, min((task + 1) * size, count), block):
            width = min(block, count - at)
            load_currents(c, skip, Span(at, width), affine, skip_affine, y_seq)
            u[:] = 0
            for t in range(steps):
                o, y = o_seq[t, at : at + width], y_seq[t]
                for m in range(width):
                    u_pre = tau * u[m] + y[m]
                    fired = u_pre > v_th or (at_threshold and u_pre == v_th)
                    o[m] = fired
                    u[m] = zero if fired else u_pre
        task = take(tasks)
