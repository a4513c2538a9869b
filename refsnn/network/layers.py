"""The layers of a block, each with its forward and its backward pass.

Every function takes a `Context`, which says what to compute with. A forward pass returns its output
and a cache; a backward pass returns the gradient at the input and a dict of the parameters'
gradients. Sequences are (T, N, H, W, C).
"""

from typing import Any, NamedTuple

import numpy as np

from refsnn.network.network import Network, Params
from refsnn.network.packed import Packer
from refsnn.ops import (
    Array,
    AvgPool,
    AvgPoolCache,
    BatchNormCache,
    Conv,
    ConvCache,
    FusedCache,
    LIFCache,
    NormGrads,
    NormInput,
    Ops,
    Running,
    is_still,
)

Grads = dict[str, Any]


class Context(NamedTuple):
    """The network, its parameters and statistics, and the operations to compute with."""

    net: Network
    params: Params
    buffers: Params  # running statistics
    ops: Ops
    training: bool  # batch norm uses the batch's statistics
    keep: str = "all"  # for the backward pass: all, spikes, or nothing (`kept`)
    packer: Packer | None = None  # packs the spikes if they are all that is kept


class ConvLayer(NamedTuple):
    """A convolution's cache, with the names of its parameters and of the next batch norm's."""

    conv_name: str
    norm_name: str
    conv: ConvCache
    still: bool  # it convolved one step's images, which are those of all steps


class Parts(NamedTuple):
    """The caches of batch norm, of the skip's batch norm, and of LIF."""

    norm: BatchNormCache
    skip: BatchNormCache | None
    lif: LIFCache

    @property
    def o_seq(self) -> Array:
        """Return the spikes (T, N, H, W, C)."""
        return self.lif.o_seq


NormNames = tuple[str, ...]  # of a layer's batch norms, the skip's last


class NeuronCache(NamedTuple):
    """The values that the backward pass of batch norm, sum and LIF needs."""

    name: str
    norms: NormNames
    running: list[Running]  # the batch norms' statistics after this batch
    cache: Parts | FusedCache  # of operations one after the other, or of a fused one

    @property
    def o_seq(self) -> Array:
        """Return the spikes (T, N, H, W, C)."""
        return self.cache.o_seq


def merge(x_seq: Array) -> Array:
    """Reshape (T, N, ...) to (T N, ...)."""
    return x_seq.reshape(-1, *x_seq.shape[2:])


def split(x: Array, steps: int) -> Array:
    """Reshape (T N, ...) to (T, N, ...)."""
    return x.reshape(steps, -1, *x.shape[1:])


def conv_forward(
    x_seq: Array, conv_name: str, norm_name: str, conv: Conv, context: Context
) -> tuple[NormInput, ConvLayer]:
    """Convolve every step of x_seq; the result still has to be normalised.

    Images that are the same at every step (D7) are convolved once.
    """
    params, buffers, still = context.params, context.buffers, is_still(x_seq)
    x = merge(x_seq[:1] if still else x_seq)
    c, cache = context.ops.conv_forward(x, params[f"{conv_name}.weight"], conv)
    c_seq = np.broadcast_to(c, (len(x_seq), *c.shape)) if still else split(c, len(x_seq))
    running = Running(buffers[f"{norm_name}.running_mean"], buffers[f"{norm_name}.running_var"])
    norm_input = NormInput(
        c_seq, params[f"{norm_name}.weight"], params[f"{norm_name}.bias"], running
    )
    return norm_input, ConvLayer(conv_name, norm_name, cache, still)


def conv_backward(
    d: NormGrads,
    layer: ConvLayer,
    context: Context,
    need_dx: bool = True,
    total: Array | None = None,
) -> tuple[Array | None, Grads]:
    """Return the gradients at the convolution's input and of its and the batch norm's parameters.

    The former is added to `total`, if that is given, and the sum is returned. `need_dx=False`
    leaves it out, for a convolution of the data.
    """
    ops, dc_seq = context.ops, d.dx_seq
    dc = sum_over_steps(dc_seq, ops) if layer.still else merge(dc_seq)
    grads = {
        f"{layer.conv_name}.weight": ops.conv_weight_gradient(dc, layer.conv),
        f"{layer.norm_name}.weight": d.dgamma,
        f"{layer.norm_name}.bias": d.dbeta,
    }
    if not need_dx:
        return None, grads
    if total is not None:
        total = np.ascontiguousarray(total)
        parts = zip(dc_seq, total, strict=True) if layer.still else [(dc, merge(total))]
        for d_part, total_part in parts:
            ops.conv_add_input_gradient(d_part, layer.conv, total_part)
        return total, grads
    if layer.still:
        return np.stack([ops.conv_input_gradient(step, layer.conv) for step in dc_seq]), grads
    return split(ops.conv_input_gradient(dc, layer.conv), len(dc_seq)), grads


def sum_over_steps(x_seq: Array, ops: Ops) -> Array:
    """Return the sum (N, ...) of x_seq (T, N, ...).

    forward: all steps had the same input, so that their gradients add up.
    """
    total = x_seq[0].copy()
    for x in x_seq[1:]:
        ops.add_into(total, x)
    return total


def neuron_forward(
    f: NormInput, skip: Array | NormInput | None, name: str, norms: NormNames, context: Context
) -> tuple[Array, NeuronCache]:
    """Return the spikes of LIF(batch norm of f + skip); the skip may have a batch norm too.

    `name` is that of the neurons, `norms` are those of the batch norms.
    """
    net, ops, training = context.net, context.ops, context.training
    if ops.fuses(f.x_seq.dtype, net.lif, net.norm):
        assert ops.norm_neuron_forward is not None
        o_seq, running, cache = ops.norm_neuron_forward(f, skip, net.norm, net.lif, training)
        return o_seq, NeuronCache(name, norms, running, cache)
    c_seq, moved, norm = ops.batchnorm_forward(*f, net.norm, training)
    running, skip_norm = [moved], None
    if isinstance(skip, NormInput):
        skip, moved, skip_norm = ops.batchnorm_forward(*skip, net.norm, training)
        running.append(moved)
    if skip is not None:
        c_seq = c_seq + skip  # Eq. (5)  # D9
    o_seq, lif = ops.lif_forward(c_seq, None, net.lif)
    return o_seq, NeuronCache(name, norms, running, Parts(norm, skip_norm, lif))


def neuron_backward(
    do_seq: Array, cache: NeuronCache, context: Context
) -> tuple[NormGrads, Array | NormGrads | None]:
    """Return the gradients at both terms of the sum, each through its own batch norm.

    forward: the neuron took their sum, so its gradient goes to both. Where memory is low
    (`context.packer`), do_seq is overwritten.
    """
    if not isinstance(cache.cache, Parts):
        assert context.ops.norm_neuron_backward is not None
        overwrite = () if context.packer is None else (True,)
        return context.ops.norm_neuron_backward(do_seq, cache.cache, *overwrite)
    norm, skip, lif = cache.cache
    dc_seq = context.ops.lif_backward(do_seq, lif, constants=False).dc_seq
    d = context.ops.batchnorm_backward(dc_seq, norm)
    return d, dc_seq if skip is None else context.ops.batchnorm_backward(dc_seq, skip)


def pool_forward(x_seq: Array, p: AvgPool, context: Context) -> tuple[Array, AvgPoolCache]:
    """Pool every step of x_seq."""
    y, cache = context.ops.avgpool_forward(merge(x_seq), p)
    return split(y, len(x_seq)), cache


def pool_backward(dy_seq: Array, cache: AvgPoolCache, context: Context) -> Array:
    """Return the gradient at the pooling's input."""
    return split(context.ops.avgpool_backward(merge(dy_seq), cache), len(dy_seq))
