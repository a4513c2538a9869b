"""The layers of a block, each with its forward and its backward pass.

Every function takes a `Context`, which says what to compute with. A forward pass returns its output
and a cache; a backward pass returns the gradient at the input and a dict of the parameters'
gradients. Sequences are (T, N, H, W, C).
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refsnn.network.network import Network, Params
from refsnn.network.packed import Packer
from refsnn.ops import (
    PSPBN,
    Array,
    AvgPool,
    AvgPoolCache,
    BatchNorm,
    Conv,
    ConvCache,
    Folded,
    FusedCache,
    Gated,
    Neuron,
    Norm,
    NormGrads,
    NormInput,
    Ops,
    PotentialLoss,
    PSPCache,
    Running,
    along_steps,
    is_still,
    psp_backward,
    psp_forward,
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
    potential_loss: PotentialLoss | None = None  # of each layer's potentials


class ConvLayer(NamedTuple):
    """A convolution's cache, with the names of its parameters and of the next batch norm's."""

    conv_name: str
    norm_name: str  # empty where it is folded
    conv: ConvCache | None  # None for a batch norm without a convolution before it
    still: bool  # it convolved one step's images, which are those of all steps
    before: PSPCache | None = None  # of the norm of what it takes; then none follows it


class Parts(NamedTuple):
    """The caches of batch norm, of the skip's batch norm, and of the neurons."""

    norm: Any
    skip: Any
    lif: Any  # a LIFCache, or that of neurons with parameters

    @property
    def o_seq(self) -> Array:
        """Return the spikes (T, N, H, W, C)."""
        return self.lif.o_seq


NormNames = tuple[str, ...]  # of a layer's batch norms: the skip's, then the neurons' own last


class SumCache(NamedTuple):
    """The values that the backward pass of batch norm and sum needs."""

    norms: NormNames
    running: list[Running]  # the batch norms' statistics after this batch
    norm: Any
    skip: Any


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


def norms_of(cache: NeuronCache | SumCache) -> list[tuple[str, Running]]:
    """Return the names and statistics after this batch of a layer's batch norms."""
    return list(zip(cache.norms, cache.running, strict=True))


def norms_after(*layers: ConvLayer | None) -> NormNames:
    """Return the names of the batch norms that follow these convolutions."""
    return tuple(
        layer.norm_name
        for layer in layers
        if layer is not None and layer.norm_name and layer.before is None
    )


def norms_before(*layers: ConvLayer | None) -> list[tuple[str, Running]]:
    """Return the names and statistics after this batch of the norms of what these take."""
    return [
        (layer.norm_name, layer.before.running)
        for layer in layers
        if layer is not None and layer.before is not None
    ]


def merge(x_seq: Array) -> Array:
    """Reshape (T, N, ...) to (T N, ...)."""
    return x_seq.reshape(-1, *x_seq.shape[2:])


def split(x: Array, steps: int) -> Array:
    """Reshape (T N, ...) to (T, N, ...)."""
    return x.reshape(steps, -1, *x.shape[1:])


def conv_forward(
    x_seq: Array, conv_name: str, norm_name: str, conv: Conv, context: Context
) -> tuple[Array | NormInput, ConvLayer]:
    """Convolve every step of x_seq; the result still has to be normalised.

    Images that are the same at every step (D7) are convolved once. Where the norm is of what the
    convolution takes (PSPBN), the result is the current.
    """
    still, steps, model = is_still(x_seq), len(x_seq), context.net.norm_model
    w, before = context.params[f"{conv_name}.weight"], None
    if isinstance(model, PSPBN):
        gamma, running = context.params[f"{norm_name}.weight"], running_of(norm_name, context)
        norm = context.net.norm_constants
        factor, before = psp_forward(x_seq, gamma, running, model, norm, context.training)
        w = factor[:, None] * w  # PSPBN
    c, cache = context.ops.conv_forward(merge(x_seq[:1] if still else x_seq), w, conv)
    c_seq = np.broadcast_to(c, (steps, *c.shape)) if still else split(c, steps)
    if isinstance(model, Folded):
        gain, bias = context.params.get(f"{conv_name}.gain"), context.params[f"{conv_name}.bias"]
        return affine(c_seq, gain, bias), ConvLayer(conv_name, "", cache, still)
    layer = ConvLayer(conv_name, norm_name, cache, still, before)
    if before is not None:
        return c_seq.astype(w.dtype, copy=False), layer
    return norm_input(c_seq, norm_name, context), layer


def norm_input(x_seq: Array, name: str, context: Context) -> NormInput:
    """Return the arguments of a batch norm of x_seq."""
    gamma, beta = norm_affine(name, context)
    x_seq = x_seq.astype(gamma.dtype, copy=False)
    return NormInput(x_seq, gamma, beta, running_of(name, context))


def affine(x_seq: Array, gain: Array | None, bias: Array) -> Array:
    """Return gain x + bias of each channel; both are (C,), or (T, C) for each step."""
    factor = bias.dtype.type(1) if gain is None else along_steps(gain)
    return x_seq.astype(bias.dtype, copy=False) * factor + along_steps(bias)


def running_of(name: str, context: Context) -> Running:
    """Return the running statistics of a norm, or of neurons that have some, before this batch."""
    return Running(*(context.buffers[f"{name}.running_{which}"] for which in ("mean", "var")))


def conv_backward(
    d: Array | NormGrads,
    layer: ConvLayer,
    context: Context,
    need_dx: bool = True,
    total: Array | None = None,
) -> tuple[Array | None, Grads]:
    """Return the gradients at the convolution's input and of its and the batch norm's parameters.

    The former is added to `total`, if that is given, and the sum is returned. `need_dx=False`
    leaves it out, for a convolution of the data.
    """
    ops, dc_seq = context.ops, d.dx_seq if isinstance(d, NormGrads) else d
    assert layer.conv is not None
    dc = sum_over_steps(dc_seq, ops) if layer.still else merge(dc_seq)
    name, dw = f"{layer.conv_name}.weight", ops.conv_weight_gradient(dc, layer.conv)
    if layer.before is not None:
        return input_norm_backward(dc_seq, dw, layer, context, need_dx, total)
    assert isinstance(d, NormGrads)
    grads = {name: dw, **norm_gradients(d, layer.norm_name, context)}
    if not need_dx:
        return None, grads
    return input_gradient(dc_seq, layer, context, total), grads


def input_norm_backward(
    dc_seq: Array,
    dw: Array,
    layer: ConvLayer,
    context: Context,
    need_dx: bool,
    total: Array | None,
) -> tuple[Array | None, Grads]:
    """Do as `conv_backward` for a convolution of normalised numbers.

    forward: its weights, of which `dw` is the gradient, were a factor a times W, and a moved with
    the input x. Source: PSPBN.
    """
    assert layer.before is not None
    w, cache = context.params[f"{layer.conv_name}.weight"], layer.before
    factor = (cache.gamma * cache.s)[:, None]
    dgamma, slope = psp_backward((dw * w).sum(axis=(0, 1, 3)), cache)
    grads = {f"{layer.conv_name}.weight": factor * dw, f"{layer.norm_name}.weight": dgamma}
    if not need_dx:
        return None, grads
    dx_seq = input_gradient(dc_seq, layer, context, total)
    dx_seq += slope * cache.x_seq
    return dx_seq, grads


def input_gradient(dc_seq: Array, layer: ConvLayer, context: Context, total: Array | None) -> Array:
    """Return the gradient at a convolution's input, added to `total` if that is given."""
    ops = context.ops
    assert layer.conv is not None
    dc = None if layer.still else merge(dc_seq)
    if total is not None:
        total = np.ascontiguousarray(total)
        parts = zip(dc_seq, total, strict=True) if dc is None else [(dc, merge(total))]
        for d_part, total_part in parts:
            ops.conv_add_input_gradient(d_part, layer.conv, total_part)
        return total
    if dc is None:
        return np.stack([ops.conv_input_gradient(step, layer.conv) for step in dc_seq])
    return split(ops.conv_input_gradient(dc, layer.conv), len(dc_seq))


def norm_affine(name: str, context: Context) -> tuple[Array, Array]:
    """Return a batch norm's gamma and beta, (C,) or (T, C)."""
    model, params = context.net.norm_model, context.params
    if model is None:
        return params[f"{name}.weight"], params[f"{name}.bias"]
    return model.affine(own(params, name, model))


def norm_gradients(d: NormGrads, name: str, context: Context) -> Grads:
    """Return the gradients of a batch norm's parameters from those of its gamma and beta."""
    model = context.net.norm_model
    if model is None:
        return {f"{name}.weight": d.dgamma, f"{name}.bias": d.dbeta}
    return named(model.gradients(d.dgamma, d.dbeta, own(context.params, name, model)), name)


def sum_over_steps(x_seq: Array, ops: Ops) -> Array:
    """Return the sum (N, ...) of x_seq (T, N, ...).

    forward: all steps had the same input, so that their gradients add up.
    """
    total = x_seq[0].copy()
    for x in x_seq[1:]:
        ops.add_into(total, x)
    return total


def neuron_forward(
    f: Array | NormInput,
    skip: Array | NormInput | None,
    name: str,
    norms: NormNames,
    context: Context,
) -> tuple[Array, NeuronCache]:
    """Return the spikes of LIF(batch norm of f + skip); the skip may have a batch norm too.

    Where f is currents already, they are not normalised.

    `name` is that of the neurons, `norms` are those of the batch norms.
    """
    net, ops, training = context.net, context.ops, context.training
    p, norm, model = net.lif, norm_at(skip, context), net.neuron_model
    fused = isinstance(f, NormInput) and ops.fuses(f.x_seq.dtype, p, norm, model)
    if fused and context.potential_loss is None:
        assert isinstance(f, NormInput)
        if model is None:
            assert ops.norm_neuron_forward is not None
            o_seq, running, cache = ops.norm_neuron_forward(f, skip, norm, p, training)
        else:
            assert ops.norm_gated_forward is not None
            assert isinstance(model, Gated)
            params = own(context.params, name, model)
            o_seq, running, cache = ops.norm_gated_forward(
                f, skip, norm, model, params, p, training
            )
        return o_seq, NeuronCache(name, norms, running, cache)
    c_seq, total = sum_forward(f, skip, norms, context)
    y_seq, moved, lif = fire_forward(c_seq, name, context)
    y_seq = fast_spikes(y_seq, context)
    norms, running = total.norms, total.running
    if moved is not None:
        norms, running = (*norms, name), [*running, moved]
    return y_seq, NeuronCache(name, norms, running, Parts(total.norm, total.skip, lif))


def sum_forward(
    f: Array | NormInput, skip: Array | NormInput | None, norms: NormNames, context: Context
) -> tuple[Array, SumCache]:
    """Return the batch norm of f plus the skip; both may also be currents as they are."""
    ops, norm = context.ops, norm_at(skip, context)
    running: list[Running] = []

    def normalised(x: Array | NormInput) -> tuple[Array, Any]:
        if not isinstance(x, NormInput):
            return x, None
        y_seq, moved, cache = ops.batchnorm_forward(*x, norm, context.training)
        running.append(moved)
        return y_seq, cache

    c_seq, cache = normalised(f)
    if skip is None:
        return c_seq, SumCache(norms, running, cache, None)
    s_seq, skip_cache = normalised(skip)
    return c_seq + s_seq, SumCache(norms, running, cache, skip_cache)  # Eq. (5)  # D9


def sum_backward(
    dc_seq: Array, total: SumCache, context: Context
) -> tuple[Array | NormGrads, Array | NormGrads]:
    """Return the gradients at both terms of the sum, each through its own batch norm if any."""
    backward = context.ops.batchnorm_backward
    d, dskip = (
        dc_seq if norm is None else backward(dc_seq, norm) for norm in (total.norm, total.skip)
    )
    return d, dskip


def norm_at(skip: Array | NormInput | None, context: Context) -> BatchNorm:
    """Return the constants of the batch norms before a sum; M2 is where both terms have one."""
    norm = context.net.norm_constants
    if isinstance(skip, NormInput):
        return replace(norm, scale=norm.scale * context.net.merge_scale)  # M2
    return norm


def bare_neuron_forward(x_seq: Array, name: str, context: Context) -> tuple[Array, NeuronCache]:
    """Return what neurons pass on whose currents are x_seq, without a batch norm before them."""
    y_seq, moved, lif = fire_forward(x_seq, name, context)
    y_seq = fast_spikes(y_seq, context)
    norms, running = ((), []) if moved is None else ((name,), [moved])
    return y_seq, NeuronCache(name, norms, running, Parts(None, None, lif))


def bare_neuron_backward(
    dy_seq: Array, cache: NeuronCache, context: Context
) -> tuple[Array, Grads]:
    """Return the gradients at the neurons' currents and of their parameters."""
    return fire_backward(dy_seq, cache.name, cache.cache.lif, context)


def fast_spikes(y_seq: Array, context: Context) -> Array:
    """Return spikes of 0 and 1 as uint8, as convolutions take them fast, where the kernels do."""
    net = context.net
    binary = net.neuron_model is None or net.neuron_model.binary
    fast = y_seq.dtype == np.float32 and context.ops.fuses(np.float32, net.lif, net.norm_constants)
    return y_seq.astype(np.uint8) if binary and fast else y_seq


def neuron_backward(
    do_seq: Array, cache: NeuronCache, context: Context
) -> tuple[Array | NormGrads, Array | NormGrads | None, Grads]:
    """Return the gradients at both terms of the sum, and of the neurons' parameters.

    The gradients at the terms are through each term's own batch norm.

    forward: the neuron took their sum, so its gradient goes to both. Where memory is low
    (`context.packer`), do_seq is overwritten.
    """
    if not isinstance(cache.cache, Parts):
        assert context.ops.norm_neuron_backward is not None
        overwrite = () if context.packer is None else (True,)
        if context.net.neuron_model is None:
            return *context.ops.norm_neuron_backward(do_seq, cache.cache, *overwrite), {}
        assert context.ops.norm_gated_backward is not None
        df, dskip, grads = context.ops.norm_gated_backward(do_seq, cache.cache, *overwrite)
        return df, dskip, named(grads, cache.name)
    norm, skip, lif = cache.cache
    dc_seq, grads = fire_backward(do_seq, cache.name, lif, context)
    total = SumCache(cache.norms, cache.running, norm, skip)
    return *sum_backward(dc_seq, total, context), grads


def fire_forward(c_seq: Array, name: str, context: Context) -> tuple[Array, Running | None, Any]:
    """Compute a layer of neurons, plain LIFs or the network's neurons with parameters.

    Returns what they pass on, (T, N, ..., C), their running statistics if any, and the cache.
    """
    net, ops, training = context.net, context.ops, context.training
    if net.neuron_model is None:
        o_seq, lif = ops.lif_forward(c_seq, None, net.lif)
        return o_seq, None, lif
    params = own(context.params, name, net.neuron_model)
    running: Running | None = None
    if net.neuron_model.has_statistics:
        running = running_of(name, context)
    return ops.neuron_forward(net.neuron_model, c_seq, params, running, net.lif, training)


def fire_backward(do_seq: Array, name: str, cache: Any, context: Context) -> tuple[Array, Grads]:
    """Return the gradients at the neurons' currents and of their parameters."""
    net, ops = context.net, context.ops
    if net.neuron_model is None:
        if not counts(name, context):
            return ops.lif_backward(do_seq, cache, constants=False).dc_seq, {}
        assert context.potential_loss is not None
        loss, moments = context.potential_loss, ops.channel_moments
        source_seq = loss.gradient(cache.u_pre_seq, net.lif, moments)
        return ops.lif_backward(do_seq, cache, constants=False, source_seq=source_seq).dc_seq, {}
    dc_seq, grads = ops.neuron_backward(net.neuron_model, do_seq, cache)
    return dc_seq, named(grads, name)


def counts(name: str, context: Context) -> bool:
    """Tell whether the potentials of this layer count in the loss of potentials; no head's do."""
    loss = context.potential_loss
    if loss is None or name.startswith(("head.", "branch.")):
        return False
    return loss.inside_blocks or context.net.ends_block(name)  # M10


def own(params: Params, name: str, model: Neuron | Norm) -> Params:
    """Return the parameters of a layer by their names in its model."""
    return {key: params[f"{name}.{key}"] for key in model.shapes(1, 1)}


def named(grads: Params, name: str) -> Grads:
    """Return the gradients of a layer's parameters by their names in the network."""
    return {f"{name}.{key}": g for key, g in grads.items()}


def pool_forward(x_seq: Array, p: AvgPool, context: Context) -> tuple[Array, AvgPoolCache]:
    """Pool every step of x_seq."""
    y, cache = context.ops.avgpool_forward(merge(x_seq), p)
    return split(y, len(x_seq)), cache


def pool_backward(dy_seq: Array, cache: AvgPoolCache, context: Context) -> Array:
    """Return the gradient at the pooling's input."""
    return split(context.ops.avgpool_backward(merge(dy_seq), cache), len(dy_seq))
