"""How the fused passes walk over a layer, and a batch norm's numbers laid out for them.

A sequence is seen as (T, M), channels innermost, and cut along M into blocks of whole pixels. What
each channel has is repeated along a block, so that the loops are over whole blocks.
"""

from typing import NamedTuple

import numpy as np

from refsnn.equations.surrogate import Array

BLOCK = 1024  # elements at least, whole pixels: all steps of a block stay in the cache
SHARE = 32  # blocks of a task


class Affine(NamedTuple):
    """A batch norm with its numbers known: (x - mean) inv_std weight + bias."""

    mean: Array  # (1, C), or (T, C) per step
    inv_std: Array  # like mean
    weight: Array  # (C,) gamma times the scale
    bias: Array  # (C,)


class Normed(NamedTuple):
    """What a batch norm was given, and its numbers."""

    x_seq: Array  # (T, N, H, W, C)
    affine: Affine
    blocks: Affine  # along a block


def normalise(c_seq: Array, affine: Affine) -> Array:
    """Return the batch norm of c_seq (T, N, H, W, C)."""
    mean, inv_std = (s[:, None, None, None] for s in (affine.mean, affine.inv_std))
    return (c_seq - mean) * inv_std * affine.weight + affine.bias


def block_size(channels: int) -> int:
    """Return the elements of a block."""
    return channels * -(-BLOCK // channels)


def along_block(values: Array, steps: int) -> Array:
    """Return values (1 or T, C) as (T, block), repeated along whole pixels."""
    channels = values.shape[-1]
    rows = np.broadcast_to(values, (steps, channels)).astype(np.float32, copy=False)
    return np.ascontiguousarray(np.tile(rows, block_size(channels) // channels))


def affine_blocks(affine: Affine | None, steps: int) -> Affine:
    """Return the numbers along the block, (T, block) each, and (0, 0) of no batch norm."""
    if affine is None:
        nothing = np.zeros((0, 0), np.float32)
        return Affine(nothing, nothing, nothing, nothing)
    return Affine(*(along_block(np.atleast_2d(x), steps) for x in affine))
