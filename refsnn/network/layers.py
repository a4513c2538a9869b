"""The pieces that blocks are made of, each a forward beside its backward.

A `Setting` says with what and how to compute; it is handed down unchanged. A
forward returns its output and a cache; a backward returns the gradient at the input
and a dict of parameter gradients. Sequences are (T, N, H, W, C).
"""

from typing import Any, NamedTuple

import numpy as np

from refsnn.network.network import Network, Params
from refsnn.ops import (
    Array,
    AvgPool,
    AvgPoolCache,
    BatchNormCache,
    Conv,
    ConvCache,
    LIFCache,
    NormGrads,
    NormInput,
    Ops,
    Running,
)

Grads = dict[str, Any]


class Setting(NamedTuple):
    net: Network
    params: Params
    buffers: Params  # running statistics
    ops: Ops
    training: bool  # batch norm by the batch's statistics


class ConvLayer(NamedTuple):
    """A convolution, and the batch norm after it."""

    conv_name: str
    norm_name: str
    conv: ConvCache


class Parts(NamedTuple):
    """Caches of batch norm, of the skip's batch norm, and of LIF."""

    norm: BatchNormCache
    skip: BatchNormCache | None
    lif: LIFCache

    @property
    def o_seq(self) -> Array:
        return self.lif.o_seq


class NeuronCache(NamedTuple):
    name: str
    running: list[Running]  # of the batch norms, after this batch
    of: Any  # Parts, or the cache of a fused pass, which has a `lif` too


def merge(x_seq: Array) -> Array:
    """(T, N, ...) -> (T N, ...)"""
    return x_seq.reshape(-1, *x_seq.shape[2:])


def split(x: Array, steps: int) -> Array:
    """(T N, ...) -> (T, N, ...)"""
    return x.reshape(steps, -1, *x.shape[1:])


def conv_forward(
    x_seq: Array, conv_name: str, norm_name: str, conv: Conv, at: Setting
) -> tuple[NormInput, ConvLayer]:
    """Convolution of every step; what it leaves is to be normalised."""
    params, buffers = at.params, at.buffers
    c, cache = at.ops.conv_forward(merge(x_seq), params[f"{conv_name}.weight"], conv)
    running = Running(buffers[f"{norm_name}.running_mean"], buffers[f"{norm_name}.running_var"])
    of = NormInput(
        split(c, len(x_seq)), params[f"{norm_name}.weight"], params[f"{norm_name}.bias"], running
    )
    return of, ConvLayer(conv_name, norm_name, cache)


def conv_backward(
    d: NormGrads, layer: ConvLayer, at: Setting, need_dx: bool = True
) -> tuple[Array | None, Grads]:
    """`need_dx=False` where nothing stands before the convolution but the data."""
    dc = merge(d.dx_seq)
    grads = {
        f"{layer.conv_name}.weight": at.ops.conv_weight_gradient(dc, layer.conv),
        f"{layer.norm_name}.weight": d.dgamma,
        f"{layer.norm_name}.bias": d.dbeta,
    }
    if not need_dx:
        return None, grads
    return split(at.ops.conv_input_gradient(dc, layer.conv), len(d.dx_seq)), grads


def neuron_forward(
    f: NormInput, skip: Array | NormInput | None, name: str, at: Setting
) -> tuple[Array, NeuronCache]:
    """Batch norm of f, plus the skip, which may have a batch norm of its own, then LIF."""
    net, ops, training = at.net, at.ops, at.training
    if ops.fuses(f.x_seq.dtype, net.lif, net.norm):
        assert ops.norm_neuron_forward is not None
        o_seq, running, cache = ops.norm_neuron_forward(f, skip, net.norm, net.lif, training)
        return o_seq, NeuronCache(name, running, cache)
    c_seq, moved, norm = ops.batchnorm_forward(*f, net.norm, training)
    running, skip_norm = [moved], None
    if isinstance(skip, NormInput):
        skip, moved, skip_norm = ops.batchnorm_forward(*skip, net.norm, training)
        running.append(moved)
    if skip is not None:
        c_seq = c_seq + skip  # Eq. (5)  # D9
    o_seq, lif = ops.lif_forward(c_seq, None, net.lif)
    return o_seq, NeuronCache(name, running, Parts(norm, skip_norm, lif))


def neuron_backward(
    do_seq: Array, cache: NeuronCache, at: Setting
) -> tuple[NormGrads, Array | NormGrads]:
    """forward: the sum's gradient goes to both of its terms, each through its own batch norm."""
    if not isinstance(cache.of, Parts):
        assert at.ops.norm_neuron_backward is not None
        d, dskip = at.ops.norm_neuron_backward(do_seq, cache.of)
        return d, dskip
    norm, skip, lif = cache.of
    dc_seq = at.ops.lif_backward(do_seq, lif, constants=False).dc_seq
    d = at.ops.batchnorm_backward(dc_seq, norm)
    return d, dc_seq if skip is None else at.ops.batchnorm_backward(dc_seq, skip)


def pool_forward(x_seq: Array, p: AvgPool, at: Setting) -> tuple[Array, AvgPoolCache]:
    y, cache = at.ops.avgpool_forward(merge(x_seq), p)
    return split(y, len(x_seq)), cache


def pool_backward(dy_seq: Array, cache: AvgPoolCache, at: Setting) -> Array:
    return split(at.ops.avgpool_backward(merge(dy_seq), cache), len(dy_seq))


class HeadCache(NamedTuple):
    name: str
    steps: int
    pooled: Any
    hidden: Any  # (LinearCache, name, LIFCache) or None
    fc: Any


def head_forward(x_seq: Array, name: str, at: Setting) -> tuple[Array, HeadCache]:
    """Logits (N, K) of a branch: global average pooling, FC, mean over time (D10, D12)."""
    steps, params = len(x_seq), at.params
    features, pooled = at.ops.global_avgpool_forward(merge(x_seq))
    hidden = None
    if f"{name}.hidden.weight" in params:
        c, linear = at.ops.linear_forward(
            features, params[f"{name}.hidden.weight"], params[f"{name}.hidden.bias"]
        )
        o_seq, lif = at.ops.lif_forward(split(c, steps), None, at.net.lif)
        features, hidden = merge(o_seq), (linear, f"{name}.lif", lif)
    y, fc = at.ops.linear_forward(
        features, params[f"{name}.fc.weight"], params[f"{name}.fc.bias"]
    )  # D12
    logits = split(y, steps).sum(axis=0)  # D10
    if at.net.readout == "mean":
        logits = logits / steps  # D10
    return logits, HeadCache(name, steps, pooled, hidden, fc)


def head_backward(dlogits: Array, cache: HeadCache, at: Setting) -> tuple[Array, Grads]:
    """forward: each step's output went into the logits with weight 1/T (mean) or 1 (sum)."""
    name, steps = cache.name, cache.steps
    share = dlogits / steps if at.net.readout == "mean" else dlogits
    dy = np.concatenate([share] * steps)
    dfeatures, dw, db = at.ops.linear_backward(dy, cache.fc)
    grads = {f"{name}.fc.weight": dw, f"{name}.fc.bias": db}
    if cache.hidden is not None:
        linear, _, lif = cache.hidden
        dc_seq = at.ops.lif_backward(split(dfeatures, steps), lif, constants=False).dc_seq
        dfeatures, dw, db = at.ops.linear_backward(merge(dc_seq), linear)
        grads |= {f"{name}.hidden.weight": dw, f"{name}.hidden.bias": db}
    return split(at.ops.global_avgpool_backward(dfeatures, cache.pooled), steps), grads
