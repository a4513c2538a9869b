"""The block of MS-ResNet (Hu et al., 2021), whose skip passes on currents, not spikes."""

from functools import partial
from typing import NamedTuple

import numpy as np

from refsnn.network.block import skip_backward, skip_forward
from refsnn.network.kept import Kept, recomputed, unit_forward
from refsnn.network.layers import (
    Context,
    ConvLayer,
    Grads,
    NeuronCache,
    SumCache,
    bare_neuron_backward,
    bare_neuron_forward,
    conv_backward,
    conv_forward,
    norms_after,
    norms_before,
    norms_of,
    sum_backward,
    sum_forward,
)
from refsnn.network.network import Block
from refsnn.network.unit import Unit, conv_unit_backward, conv_unit_forward
from refsnn.ops import Array, AvgPoolCache, Conv, Running


class FiringUnit(NamedTuple):
    """The values that the backward pass of neurons and the unit after them needs."""

    first: NeuronCache
    unit: Unit

    @property
    def neurons(self) -> list[NeuronCache]:
        """Return the layers of neurons, as `Kept` has them."""
        return [self.first, *self.unit.neurons]

    @property
    def norms(self) -> list[tuple[str, Running]]:
        """Return the names and statistics after this batch of its batch norms."""
        return [*norms_of(self.first), *self.unit.norms]


class SumUnit(NamedTuple):
    """The values that the backward pass of a convolution, its batch norm and the sum needs."""

    conv: ConvLayer
    total: SumCache
    pool: AvgPoolCache | None = None  # the skip's average pooling
    skip: ConvLayer | None = None  # None: identity, or no skip

    @property
    def neurons(self) -> list[NeuronCache]:
        """Return no layers of neurons: it passes on currents."""
        return []

    @property
    def norms(self) -> list[tuple[str, Running]]:
        """Return the names and statistics after this batch of its norms."""
        return [*norms_before(self.conv, self.skip), *norms_of(self.total)]


class MembraneCache(NamedTuple):
    """The values that a block's backward pass needs."""

    inner: FiringUnit | Kept
    outer: SumUnit | Kept

    @property
    def units(self) -> list[FiringUnit | SumUnit | Kept]:
        """Return the units from input to output."""
        return [self.inner, self.outer]


def membrane_forward(x_seq: Array, block: Block, context: Context) -> tuple[Array, MembraneCache]:
    """Compute a block's currents from `x_seq` (T, N, H, W, C_in); returns (T, N, H', W', C_out).

        y = x + f(g(x))

    g is the LIF neuron, f is conv-BN-LIF-conv-BN; where the shape changes, x goes through the
    skip's convolution and batch norm first. Source: MS.
    """
    first = partial(firing_forward, block=block, context=context)
    second = partial(current_forward, block=block, context=context)
    y_seq, inner = unit_forward(first, [x_seq], context)
    z_seq, outer = unit_forward(second, [y_seq, x_seq], context)  # MS
    return z_seq, MembraneCache(inner, outer)


def firing_forward(x_seq: Array, block: Block, context: Context) -> tuple[Array, FiringUnit]:
    """Compute a block's first neurons, and the conv-BN-LIF after them."""
    name, conv = block.name, Conv((block.stride, block.stride), (1, 1))
    o_seq, first = bare_neuron_forward(x_seq, f"{name}.lif1", context)
    layers = f"{name}.conv1", f"{name}.bn1", f"{name}.lif2"
    y_seq, unit = conv_unit_forward(o_seq, *layers, conv, context)
    return y_seq, FiringUnit(first, unit)


def current_forward(
    y_seq: Array, x_seq: Array, block: Block, context: Context
) -> tuple[Array, SumUnit]:
    """Compute a block's second conv-BN, and add the skip of x."""
    name = block.name
    f, layer = conv_forward(y_seq, f"{name}.conv2", f"{name}.bn2", Conv((1, 1), (1, 1)), context)
    skip, pool, skip_layer = skip_forward(x_seq, block, context)
    norms = norms_after(layer, skip_layer)
    z_seq, total = sum_forward(f, skip, norms, context)
    return z_seq, SumUnit(layer, total, pool, skip_layer)


def membrane_backward(dz_seq: Array, cache: MembraneCache, context: Context) -> tuple[Array, Grads]:
    """Compute dL/dx and the gradients of the block's weights from `dz_seq` = dL/dz.

        dx = dz + g'(f'(dz))

    The primes are vector-Jacobian products. forward: x went into g and into the skip.
    """
    layer, total, pool, skip = recomputed(cache.outer)
    df, dskip = sum_backward(dz_seq, total, context)
    dx_seq, skip_grads = skip_backward(dskip, skip, pool, context)
    del total, dskip, skip
    dy_seq, outer_grads = conv_backward(df, layer, context)
    assert dy_seq is not None
    first, unit = recomputed(cache.inner)
    do_seq, inner_grads = conv_unit_backward(dy_seq, unit, context)
    assert do_seq is not None
    d, first_grads = bare_neuron_backward(do_seq, first, context)
    dx_seq = np.ascontiguousarray(dx_seq)
    if dx_seq is dz_seq:
        dx_seq = dx_seq.copy()
    context.ops.add_into(dx_seq, np.ascontiguousarray(d))  # MS
    return dx_seq, inner_grads | first_grads | outer_grads | skip_grads
