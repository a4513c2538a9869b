"""The block of SEW-ResNet (Fang et al., 2021), which joins spikes after firing."""

from functools import partial
from typing import NamedTuple

from refsnn.network.block import inner_forward, skip_backward, skip_forward
from refsnn.network.kept import Kept, recomputed, unit_forward
from refsnn.network.layers import Context, Grads, neuron_backward, neuron_forward, norms_after
from refsnn.network.network import Block
from refsnn.network.packed import Packed
from refsnn.network.unit import Unit, conv_unit_backward, conv_unit_forward
from refsnn.ops import Array, Conv


class SEWCache(NamedTuple):
    """The values that a block's backward pass needs."""

    inner: Unit | Kept
    outer: Unit | Kept
    skip: Unit | Kept | None  # None: the input itself
    joined: tuple[Packed, Packed] | None  # spikes of the last neurons and the skip; None: add

    @property
    def units(self) -> list[Unit | Kept]:
        """Return the units from input to output."""
        return [self.inner, self.outer, *([] if self.skip is None else [self.skip])]


def sew_forward(x_seq: Array, block: Block, context: Context) -> tuple[Array, SEWCache]:
    """Compute a block's output from `x_seq` (T, N, H, W, C_in); returns (T, N, H', W', C_out).

        a = g(f(x));  y = join(a, s)

    f is conv-BN-LIF-conv-BN, g the LIF neuron, and the skip s is x, or where the shape changes
    g(conv-BN(x)). The join is that of `equations.sew`. Source: SEW.
    """
    name, dtype = block.name, context.params[f"{block.name}.conv1.weight"].dtype
    first = partial(inner_forward, block=block, context=context)
    y_seq, inner = unit_forward(first, [x_seq], context)
    a_seq, outer = unit_forward(partial(last_forward, name=name, context=context), [y_seq], context)
    s_seq, skip = x_seq, None
    if context.net.has_projection(block):
        of_skip = partial(skip_unit_forward, block=block, context=context)
        s_seq, skip = unit_forward(of_skip, [x_seq], context)
    kind = context.net.block.removeprefix("sew_")
    joined: tuple[Packed, Packed] | None = None
    if kind != "add":
        pack = as_they_are if context.packer is None else context.packer.pack
        joined = pack(a_seq), pack(s_seq)
    y_seq = context.ops.join_forward(a_seq, s_seq, kind, dtype)
    return y_seq, SEWCache(inner, outer, skip, joined)


def as_they_are(x: Array) -> Packed:
    """Return an array as what `Packer` returns, without packing it."""
    return Packed(x, None)


def last_forward(y_seq: Array, name: str, context: Context) -> tuple[Array, Unit]:
    """Compute a block's second conv-BN-LIF."""
    layers = f"{name}.conv2", f"{name}.bn2", f"{name}.lif2"
    return conv_unit_forward(y_seq, *layers, Conv((1, 1), (1, 1)), context)


def skip_unit_forward(x_seq: Array, block: Block, context: Context) -> tuple[Array, Unit]:
    """Compute the skip's convolution, batch norm and neurons."""
    f, pool, layer = skip_forward(x_seq, block, context)
    assert layer is not None
    s_seq, neuron = neuron_forward(f, None, f"{block.name}.skip.lif", norms_after(layer), context)
    return s_seq, Unit(layer, neuron, pool)


def sew_backward(dy_seq: Array, cache: SEWCache, context: Context) -> tuple[Array, Grads]:
    """Compute dL/dx and the gradients of the block's weights from `dy_seq` = dL/dy.

    forward: x went into f and into the skip.
    """
    kind = context.net.block.removeprefix("sew_")
    da_seq, ds_seq = dy_seq, dy_seq  # of a sum
    if cache.joined is not None:
        a_seq, s_seq = (x.unpack() for x in cache.joined)
        da_seq, ds_seq = context.ops.join_backward(dy_seq, a_seq, s_seq, kind)
    grads: Grads = {}
    if cache.skip is not None:
        layer, neuron, pool, _ = recomputed(cache.skip)
        # where memory is low the neurons' backward pass overwrites, and da may be ds
        df, _, neuron_grads = neuron_backward(ds_seq.copy(), neuron, context)
        ds_seq, grads = skip_backward(df, layer, pool, context)
        grads |= neuron_grads
    elif ds_seq is da_seq:
        ds_seq = ds_seq.copy()
    d, outer_grads = conv_unit_backward(da_seq, cache.outer, context)
    assert d is not None
    dx_seq, inner_grads = conv_unit_backward(d, cache.inner, context, total=ds_seq)
    assert dx_seq is not None
    return dx_seq, grads | outer_grads | inner_grads
