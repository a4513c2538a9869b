"""The spiking residual block (Eq. 5, D9)."""

from typing import NamedTuple

from refsnn.network.layers import (
    ConvLayer,
    Grads,
    NeuronCache,
    Setting,
    conv_backward,
    conv_forward,
    neuron_backward,
    neuron_forward,
    pool_backward,
    pool_forward,
)
from refsnn.network.network import Block
from refsnn.ops import Array, AvgPool, AvgPoolCache, Conv, NormGrads, NormInput


class BlockCache(NamedTuple):
    """What the backward pass of a block needs."""

    first: ConvLayer
    inner: NeuronCache
    second: ConvLayer
    pool: AvgPoolCache | None  # of the skip, where it averages
    skip: ConvLayer | None  # None: identity
    outer: NeuronCache


def block_forward(x_seq: Array, block: Block, at: Setting) -> tuple[Array, BlockCache]:
    """Compute a block's spikes from `x_seq` (T, N, H, W, C_in); returns (T, N, H', W', C_out).

        o = g(f(x) + x)

    f is conv-BN-LIF-conv-BN, g the LIF neuron; where the shape changes, x goes through the skip's
    layers first (`skip_forward`). Source: Eq. 5, D9.
    """
    name, stride = block.name, (block.stride, block.stride)
    f, first = conv_forward(x_seq, f"{name}.conv1", f"{name}.bn1", Conv(stride, (1, 1)), at)
    y_seq, inner = neuron_forward(f, None, f"{name}.lif1", at)
    f, second = conv_forward(y_seq, f"{name}.conv2", f"{name}.bn2", Conv((1, 1), (1, 1)), at)
    skip, pool, of_skip = skip_forward(x_seq, block, at)
    o_seq, outer = neuron_forward(f, skip, f"{name}.lif2", at)  # Eq. (5)  # D9
    return o_seq, BlockCache(first, inner, second, pool, of_skip, outer)


def block_backward(do_seq: Array, cache: BlockCache, at: Setting) -> tuple[Array, Grads]:
    """Compute dL/dx and the gradients of the block's weights from `do_seq` = dL/do.

        ds = g'(do);  dx = f'(ds) + ds

    where the primes are pullbacks. forward: x went into f and into the skip.
    """
    df, dskip = neuron_backward(do_seq, cache.outer, at)
    assert dskip is not None
    dskip_seq, of_skip = skip_backward(dskip, cache, at)
    dy_seq, of_second = conv_backward(df, cache.second, at)
    assert dy_seq is not None
    df, _ = neuron_backward(dy_seq, cache.inner, at)
    dx_seq, of_first = conv_backward(df, cache.first, at)
    assert dx_seq is not None
    at.ops.add_into(dx_seq, dskip_seq)
    return dx_seq, of_first | of_second | of_skip


def skip_forward(
    x_seq: Array, block: Block, at: Setting
) -> tuple[Array | NormInput, AvgPoolCache | None, ConvLayer | None]:
    """Return what the skip adds: x itself, or a 1x1 convolution of it that is to be normalised.

    There is no neuron on the skip. ValueError where `avgpool` meets an odd size. Source: D9.
    """
    if not at.net.has_projection(block):
        return x_seq, None, None  # D9
    pool, stride = None, block.stride
    if at.net.downsample == "avgpool" and stride > 1:
        if x_seq.shape[2] % 2 or x_seq.shape[3] % 2:
            raise ValueError(f"downsample: avgpool wants even sizes, got {x_seq.shape[2:4]} pixels")
        x_seq, pool = pool_forward(x_seq, AvgPool(stride, stride), at)
        stride = 1
    skip, layer = conv_forward(
        x_seq, f"{block.name}.skip.conv", f"{block.name}.skip.bn", Conv((stride, stride)), at
    )  # D9
    return skip, pool, layer


def skip_backward(dskip: Array | NormGrads, cache: BlockCache, at: Setting) -> tuple[Array, Grads]:
    """Compute the skip's dL/dx and the gradients of its weights."""
    if cache.skip is None:
        assert not isinstance(dskip, NormGrads)
        return dskip, {}
    assert isinstance(dskip, NormGrads)
    dx_seq, grads = conv_backward(dskip, cache.skip, at)
    assert dx_seq is not None
    if cache.pool is not None:
        dx_seq = pool_backward(dx_seq, cache.pool, at)
    return dx_seq, grads
