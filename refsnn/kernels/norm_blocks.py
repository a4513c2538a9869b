"""The blocks in which the fused passes go over a layer, and batch norm's constants along a block.

A sequence is viewed as (T, M), channels innermost, and cut along M into blocks of whole pixels.
Each channel's constants are repeated along a block, so that the loops run over whole blocks.
"""

from typing import NamedTuple

import numpy as np

from refsnn.equations.surrogate import Array

BLOCK = 1024  # least number of elements: all steps of a block stay in the cache
SHARE = 32  # blocks per task


class Affine(NamedTuple):
    """The constants of a batch norm: (x - mean) inv_std weight + bias."""

    mean: Array  # (1, C), or (T, C) per step
    inv_std: Array  # like mean
    weight: Array  # (C,) gamma times the scale
    bias: Array  # (C,)


class Normed(NamedTuple):
    """A batch norm's input and its constants."""

    x_seq: Array  # (T, N, H, W, C)
    affine: Affine
    blocks: Affine  # repeated along a block


def normalise(c_seq: Array, affine: Affine) -> Array:
    """Return the batch norm of c_seq (T, N, H, W, C)."""
    mean, inv_std = (s[:, None, None, None] for s in (affine.mean, affine.inv_std))
    return (c_seq - mean) * inv_std * affine.weight + affine.bias


def block_size(channels: int) -> int:
    """Return the number of elements of a block."""
    return channels * -(-BLOCK // channels)


def tasks_of(x_seq: Array) -> int:
    """Return the number of tasks of x_seq (T, ..., C), of SHARE blocks each."""
    return -(-x_seq[0].size // (block_size(x_seq.shape[-1]) * SHARE))


def along_block(values: Array, steps: int) -> Array:
    """Return values (1 or T, C) as (T, block), repeated along whole pixels."""
    channels = values.shape[-1]
    rows = np.broadcast_to(values, (steps, channels)).astype(np.float32, copy=False)
    return np.ascontiguousarray(np.tile(rows, block_size(channels) // channels))


def affine_blocks(affine: Affine | None, steps: int) -> Affine:
    """Return the constants along a block, (T, block) each, or (0, 0) without a batch norm."""
    if affine is None:
        nothing = np.zeros((0, 0), np.float32)
        return Affine(nothing, nothing, nothing, nothing)
    return Affine(*(along_block(np.atleast_2d(x), steps) for x in affine))
