"""The spiking residual block (Eq. 5, D9)."""

from functools import partial
from typing import NamedTuple

import numpy as np

from refsnn.network.kept import Kept, recomputed, unit_forward
from refsnn.network.layers import (
    Context,
    ConvLayer,
    Grads,
    affine,
    conv_backward,
    conv_forward,
    neuron_backward,
    neuron_forward,
    norm_gradients,
    norm_input,
    norms_after,
    pool_backward,
    pool_forward,
)
from refsnn.network.network import Block
from refsnn.network.unit import Unit, conv_unit_forward
from refsnn.ops import Array, AvgPool, AvgPoolCache, Conv, NormGrads, NormInput


class BlockCache(NamedTuple):
    """The values that a block's backward pass needs."""

    inner: Unit | Kept
    outer: Unit | Kept

    @property
    def units(self) -> list[Unit | Kept]:
        """Return the units from input to output."""
        return [self.inner, self.outer]


def block_forward(x_seq: Array, block: Block, context: Context) -> tuple[Array, BlockCache]:
    """Compute a block's spikes from `x_seq` (T, N, H, W, C_in); returns (T, N, H', W', C_out).

        o = g(f(x) + x)

    f is conv-BN-LIF-conv-BN, g the LIF neuron; where the shape changes, x goes through the skip's
    layers first (`skip_forward`). Source: Eq. 5, D9.
    """
    first = partial(inner_forward, block=block, context=context)
    second = partial(outer_forward, block=block, context=context)
    y_seq, inner = unit_forward(first, [x_seq], context)
    o_seq, outer = unit_forward(second, [y_seq, x_seq], context)  # Eq. (5)  # D9
    return o_seq, BlockCache(inner, outer)


def inner_forward(x_seq: Array, block: Block, context: Context) -> tuple[Array, Unit]:
    """Compute a block's first conv-BN-LIF."""
    name, conv = block.name, Conv((block.stride, block.stride), (1, 1))
    return conv_unit_forward(x_seq, f"{name}.conv1", f"{name}.bn1", f"{name}.lif1", conv, context)


def outer_forward(y_seq: Array, x_seq: Array, block: Block, context: Context) -> tuple[Array, Unit]:
    """Compute a block's second conv-BN, add the skip of x, and fire."""
    name = block.name
    f, layer = conv_forward(y_seq, f"{name}.conv2", f"{name}.bn2", Conv((1, 1), (1, 1)), context)
    skip, pool, skip_layer = skip_forward(x_seq, block, context)
    norms = norms_after(layer, skip_layer)
    o_seq, neuron = neuron_forward(f, skip, f"{name}.lif2", norms, context)  # Eq. (5)  # D9
    return o_seq, Unit(layer, neuron, pool, skip_layer)


def block_backward(do_seq: Array, cache: BlockCache, context: Context) -> tuple[Array, Grads]:
    """Compute dL/dx and the gradients of the block's weights from `do_seq` = dL/do.

        ds = g'(do);  dx = f'(ds) + ds

    The primes are vector-Jacobian products. forward: x went into f and into the skip. Where memory
    is low (`context.packer`), do_seq is overwritten.
    """
    layer, neuron, pool, skip = recomputed(cache.outer)
    df, dskip, outer_neurons = neuron_backward(do_seq, neuron, context)
    del neuron  # here and below: frees recomputed arrays before the next ones are made
    dskip_seq, skip_grads = skip_backward(dskip, skip, pool, context)
    del dskip, skip
    dy_seq, outer_grads = conv_backward(df, layer, context)
    del df, layer
    assert dy_seq is not None
    layer, neuron, _, _ = recomputed(cache.inner)
    df, _, inner_neurons = neuron_backward(dy_seq, neuron, context)
    del dy_seq, neuron
    dx_seq, inner_grads = conv_backward(df, layer, context, total=dskip_seq)  # f'(ds) + ds
    assert dx_seq is not None
    return dx_seq, inner_grads | inner_neurons | outer_grads | outer_neurons | skip_grads


def skip_forward(
    x_seq: Array, block: Block, context: Context
) -> tuple[Array | NormInput, AvgPoolCache | None, ConvLayer | None]:
    """Return the skip: x itself, or a 1x1 convolution of x that still has to be normalised.

    With `norm_identity`, x has to be normalised too. There is no neuron on the skip. ValueError
    where `avgpool` meets an odd size. Source: D9, M2.
    """
    if not context.net.has_projection(block):
        if context.net.norm_identity:
            name = f"{block.name}.skip.bn"
            if context.net.is_folded:
                gain, bias = (context.params[f"{name}.{key}"] for key in ("weight", "bias"))
                return affine(x_seq, gain, bias), None, None
            return norm_input(x_seq, name, context), None, ConvLayer("", name, None, False)  # M2
        return x_seq, None, None  # D9
    pool, stride = None, block.stride
    if context.net.downsample == "avgpool" and stride > 1:
        if x_seq.shape[2] % 2 or x_seq.shape[3] % 2:
            raise ValueError(f"downsample: avgpool wants even sizes, got {x_seq.shape[2:4]} pixels")
        x_seq, pool = pool_forward(x_seq, AvgPool(stride, stride), context)
        stride = 1
    skip, layer = conv_forward(
        x_seq, f"{block.name}.skip.conv", f"{block.name}.skip.bn", Conv((stride, stride)), context
    )  # D9
    return skip, pool, layer


def skip_backward(
    dskip: Array | NormGrads | None,
    skip: ConvLayer | None,
    pool: AvgPoolCache | None,
    context: Context,
) -> tuple[Array, Grads]:
    """Compute the skip's dL/dx and the gradients of its weights."""
    if skip is None:
        assert isinstance(dskip, np.ndarray)
        return dskip, {}
    assert dskip is not None
    if skip.conv is None:
        assert isinstance(dskip, NormGrads)
        return dskip.dx_seq, norm_gradients(dskip, skip.norm_name, context)
    dx_seq, grads = conv_backward(dskip, skip, context)
    assert dx_seq is not None
    if pool is not None:
        dx_seq = pool_backward(dx_seq, pool, context)
    return dx_seq, grads
