"""The spiking residual block (Eq. 5, D9)."""

from typing import NamedTuple

from refsnn.network.layers import (
    Context,
    ConvLayer,
    Grads,
    NeuronCache,
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
    """The values that a block's backward pass needs."""

    first: ConvLayer
    inner: NeuronCache
    second: ConvLayer
    pool: AvgPoolCache | None  # the skip's average pooling
    skip: ConvLayer | None  # None: identity
    outer: NeuronCache

    @property
    def neurons(self) -> list[NeuronCache]:
        """Return the layers of neurons."""
        return [self.inner, self.outer]


def block_forward(x_seq: Array, block: Block, context: Context) -> tuple[Array, BlockCache]:
    """Compute a block's spikes from `x_seq` (T, N, H, W, C_in); returns (T, N, H', W', C_out).

        o = g(f(x) + x)

    f is conv-BN-LIF-conv-BN, g the LIF neuron; where the shape changes, x goes through the skip's
    layers first (`skip_forward`). Source: Eq. 5, D9.
    """
    name, stride = block.name, (block.stride, block.stride)
    f, first = conv_forward(x_seq, f"{name}.conv1", f"{name}.bn1", Conv(stride, (1, 1)), context)
    y_seq, inner = neuron_forward(f, None, f"{name}.lif1", (first.norm_name,), context)
    f, second = conv_forward(y_seq, f"{name}.conv2", f"{name}.bn2", Conv((1, 1), (1, 1)), context)
    skip, pool, skip_layer = skip_forward(x_seq, block, context)
    norms = (second.norm_name, *([skip_layer.norm_name] if skip_layer else []))
    o_seq, outer = neuron_forward(f, skip, f"{name}.lif2", norms, context)  # Eq. (5)  # D9
    return o_seq, BlockCache(first, inner, second, pool, skip_layer, outer)


def block_backward(do_seq: Array, cache: BlockCache, context: Context) -> tuple[Array, Grads]:
    """Compute dL/dx and the gradients of the block's weights from `do_seq` = dL/do.

        ds = g'(do);  dx = f'(ds) + ds

    The primes are vector-Jacobian products. forward: x went into f and into the skip.
    """
    first, inner, second, pool, skip, outer = cache
    del cache  # here and below: what was computed again leaves its memory to what follows
    df, dskip = neuron_backward(do_seq, outer, context)
    del outer
    assert dskip is not None
    dskip_seq, skip_grads = skip_backward(dskip, skip, pool, context)
    del dskip
    dy_seq, second_grads = conv_backward(df, second, context)
    del df
    assert dy_seq is not None
    df, _ = neuron_backward(dy_seq, inner, context)
    del dy_seq, inner
    dx_seq, first_grads = conv_backward(df, first, context)
    del df
    assert dx_seq is not None
    context.ops.add_into(dx_seq, dskip_seq)
    return dx_seq, first_grads | second_grads | skip_grads


def skip_forward(
    x_seq: Array, block: Block, context: Context
) -> tuple[Array | NormInput, AvgPoolCache | None, ConvLayer | None]:
    """Return the skip: x itself, or a 1x1 convolution of x that still has to be normalised.

    There is no neuron on the skip. ValueError where `avgpool` meets an odd size. Source: D9.
    """
    if not context.net.has_projection(block):
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
    dskip: Array | NormGrads, skip: ConvLayer | None, pool: AvgPoolCache | None, context: Context
) -> tuple[Array, Grads]:
    """Compute the skip's dL/dx and the gradients of its weights."""
    if skip is None:
        assert not isinstance(dskip, NormGrads)
        return dskip, {}
    assert isinstance(dskip, NormGrads)
    dx_seq, grads = conv_backward(dskip, skip, context)
    assert dx_seq is not None
    if pool is not None:
        dx_seq = pool_backward(dx_seq, pool, context)
    return dx_seq, grads
