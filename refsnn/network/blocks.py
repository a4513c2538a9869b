"""The kinds of blocks by name."""

from collections.abc import Callable
from typing import Any, NamedTuple

from refsnn.network.block import block_backward, block_forward
from refsnn.network.layers import Context, Grads
from refsnn.network.membrane import membrane_backward, membrane_forward
from refsnn.network.network import BLOCKS, Block
from refsnn.network.sew import sew_backward, sew_forward
from refsnn.ops import Array


class BlockKind(NamedTuple):
    """A block's forward pass, which returns output and cache, and its backward pass."""

    forward: Callable[[Array, Block, Context], tuple[Array, Any]]
    backward: Callable[[Array, Any, Context], tuple[Array, Grads]]


BASIC, SEW, MS = (
    BlockKind(block_forward, block_backward),
    BlockKind(sew_forward, sew_backward),
    BlockKind(membrane_forward, membrane_backward),
)
KINDS = dict(zip(BLOCKS, (BASIC, SEW, SEW, SEW, MS), strict=True))
