"""The parts in which the fused passes go over a layer, and batch norm's constants along them.

A sequence is viewed as (T, M), channels innermost, and read vector by vector. A channel's constants
come back every C elements, so those of whole pixels that fill whole vectors are laid out once, as a
period. Sums depend on the period, so vectors count as WHOLE elements long here on any machine.
"""

import math
from typing import NamedTuple

import numpy as np

from refsnn.equations.sequence import is_still
from refsnn.equations.surrogate import Array
from refsnn.kernels.simd import contiguous

WHOLE = 16  # elements, of which any machine's vectors are a part
TASK = 1 << 13  # least number of a step's elements per task, but for the last
STRIP = 1 << 9  # most elements that go through all steps at a time: they stay in the cache
NARROW = 1 << 6  # elements of a strip where there are many steps
SUM = 64  # periods that are summed in float32 before they are added up in float64


class Affine(NamedTuple):
    """The constants of a batch norm: (x - mean) inv_std weight + bias."""

    mean: Array  # (1, C), or (T, C) per step
    inv_std: Array  # like mean
    weight: Array  # (1, C), or (T, C) where each step has its own: gamma times the scale
    bias: Array  # like weight


class Constants(NamedTuple):
    """The constants of a batch norm along a period, in flat arrays."""

    mean: Array  # (period,), or (T period,) per step
    inv_std: Array  # like mean
    weight: Array  # (period,), or (T period,)
    bias: Array  # like weight
    row: int  # from one step's mean to the next, 0 if all steps have the same
    weight_row: int  # from one step's weight to the next, 0 if all steps have the same


class Sequence(NamedTuple):
    """A sequence (T, M) in a flat array."""

    data: Array
    row: int  # from one step to the next, 0 if all steps are the same


class Sizes(NamedTuple):
    """The sizes of a layer, in elements."""

    steps: int
    width: int  # of a step: M, or more to make it whole vectors
    channels: int
    period: int
    task: int
    strip: int


def normalise(c_seq: Array, affine: Affine) -> Array:
    """Return the batch norm of c_seq (T, N, H, W, C)."""
    mean, inv_std, weight, bias = (x[:, None, None, None] for x in affine)
    return (c_seq - mean) * inv_std * weight + bias


def period_of(channels: int) -> int:
    """Return the number of elements of a period."""
    return math.lcm(channels, WHOLE)


def sizes_of(x_seq: Array) -> Sizes:
    """Return the sizes of x_seq (T, ..., C)."""
    steps, channels = len(x_seq), x_seq.shape[-1]
    period = period_of(channels)
    strip = max(NARROW, min(STRIP, STRIP * 8 // steps // WHOLE * WHOLE))
    width = -(-x_seq[0].size // WHOLE) * WHOLE
    return Sizes(steps, width, channels, period, period * -(-TASK // period), strip)


def tasks_of(sizes: Sizes) -> int:
    """Return the number of tasks."""
    return -(-sizes.width // sizes.task)


def flat(x_seq: Array, width: int) -> Array:
    """Return x_seq (T, ...) as (T width,), with each step filled up by zeros."""
    rows = contiguous(x_seq).reshape(len(x_seq), -1)
    if rows.shape[1] == width:
        return rows.reshape(-1)
    filled = np.zeros((len(rows), width), rows.dtype)
    filled[:, : rows.shape[1]] = rows
    return filled.reshape(-1)


def unflat(values: Array, shape: tuple[int, ...]) -> Array:
    """Return what `flat` made of an array of a shape (T, ...), without what it filled up."""
    rows, size = values.reshape(shape[0], -1), math.prod(shape[1:])
    return (rows if rows.shape[1] == size else rows[:, :size].copy()).reshape(shape)


def sequence(x_seq: Array, width: int) -> Sequence:
    """Return x_seq (T, ...) with each step filled up by zeros."""
    if is_still(x_seq):
        return Sequence(flat(x_seq[:1], width), 0)
    return Sequence(flat(x_seq, width), width)


def along_period(values: Array) -> Array:
    """Return values (rows, C) as (rows period,), in float32."""
    rows, channels = values.astype(np.float32, copy=False), values.shape[-1]
    times = period_of(channels) // channels
    return (np.tile(rows, times) if times > 1 else contiguous(rows)).reshape(-1)


def constants_of(affine: Affine | None) -> Constants:
    """Return the constants along a period; empty arrays without a batch norm."""
    if affine is None:
        nothing = np.zeros(0, np.float32)
        return Constants(nothing, nothing, nothing, nothing, 0, 0)
    period = period_of(affine.mean.shape[-1])
    rows = (period if len(x) > 1 else 0 for x in (affine.mean, affine.weight))
    mean, inv_std, weight, bias = map(along_period, affine)
    return Constants(mean, inv_std, weight, bias, *rows)
