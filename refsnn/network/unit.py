"""Units: a convolution, its batch norm, and the neurons after it."""

from typing import Any, NamedTuple

from refsnn.network.kept import recomputed
from refsnn.network.layers import (
    Context,
    ConvLayer,
    Grads,
    NeuronCache,
    conv_backward,
    conv_forward,
    neuron_backward,
    neuron_forward,
    norms_after,
    norms_before,
    norms_of,
)
from refsnn.ops import Array, AvgPoolCache, Conv, Running


class Unit(NamedTuple):
    """The values that the backward pass of a convolution, its batch norm and neurons needs.

    The second unit of a basic block also has the skip: its pooling and its convolution, if any.
    A unit that is a skip itself has its own pooling.
    """

    conv: ConvLayer
    neuron: NeuronCache
    pool: AvgPoolCache | None = None  # the skip's average pooling
    skip: ConvLayer | None = None  # None: identity, or no skip

    @property
    def neurons(self) -> list[NeuronCache]:
        """Return the layers of neurons, as `Kept` has them."""
        return [self.neuron]

    @property
    def norms(self) -> list[tuple[str, Running]]:
        """Return the names and statistics after this batch of its norms."""
        return [*norms_before(self.conv, self.skip), *norms_of(self.neuron)]


def conv_unit_forward(
    x_seq: Array, conv_name: str, norm_name: str, neuron_name: str, conv: Conv, context: Context
) -> tuple[Array, Unit]:
    """Compute a convolution, its batch norm and neurons."""
    f, layer = conv_forward(x_seq, conv_name, norm_name, conv, context)
    y_seq, neuron = neuron_forward(f, None, neuron_name, norms_after(layer), context)
    return y_seq, Unit(layer, neuron)


def conv_unit_backward(
    dy_seq: Array,
    unit: Any,
    context: Context,
    need_dx: bool = True,
    total: Array | None = None,
) -> tuple[Array | None, Grads]:
    """Compute the gradients at a unit's input, as `conv_backward` does, and of its parameters.

    Where memory is low (`context.packer`), dy_seq is overwritten.
    """
    layer, neuron, _, _ = recomputed(unit)
    df, _, neuron_grads = neuron_backward(dy_seq, neuron, context)
    del dy_seq, neuron  # frees recomputed arrays before the next ones are made
    dx_seq, grads = conv_backward(df, layer, context, need_dx, total)
    return dx_seq, grads | neuron_grads
