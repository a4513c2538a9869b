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


class ConvNormCache(NamedTuple):
    conv_name: str
    norm_name: str
    conv: ConvCache
    norm: BatchNormCache
    running: Running  # after this batch


class NeuronCache(NamedTuple):
    name: str
    lif: LIFCache


def merge(x_seq: Array) -> Array:
    """(T, N, ...) -> (T N, ...)"""
    return x_seq.reshape(-1, *x_seq.shape[2:])


def split(x: Array, steps: int) -> Array:
    """(T N, ...) -> (T, N, ...)"""
    return x.reshape(steps, -1, *x.shape[1:])


def conv_norm_forward(
    x_seq: Array, conv_name: str, norm_name: str, conv: Conv, at: Setting
) -> tuple[Array, ConvNormCache]:
    """Convolution of every step, then batch norm."""
    params, buffers = at.params, at.buffers
    c, conv_cache = at.ops.conv_forward(merge(x_seq), params[f"{conv_name}.weight"], conv)
    y_seq, running, norm_cache = at.ops.batchnorm_forward(
        split(c, len(x_seq)),
        params[f"{norm_name}.weight"],
        params[f"{norm_name}.bias"],
        Running(buffers[f"{norm_name}.running_mean"], buffers[f"{norm_name}.running_var"]),
        at.net.norm,
        at.training,
    )
    return y_seq, ConvNormCache(conv_name, norm_name, conv_cache, norm_cache, running)


def conv_norm_backward(
    dy_seq: Array, cache: ConvNormCache, at: Setting, need_dx: bool = True
) -> tuple[Array | None, Grads]:
    """`need_dx=False` where nothing stands before the convolution but the data."""
    dc_seq, dgamma, dbeta = at.ops.batchnorm_backward(dy_seq, cache.norm)
    dx: Array | None = None
    if need_dx:
        dx, dw = at.ops.conv_backward(merge(dc_seq), cache.conv)
    else:
        dw = at.ops.conv_weight_gradient(merge(dc_seq), cache.conv)
    grads = {
        f"{cache.conv_name}.weight": dw,
        f"{cache.norm_name}.weight": dgamma,
        f"{cache.norm_name}.bias": dbeta,
    }
    return None if dx is None else split(dx, len(dy_seq)), grads


def neuron_forward(c_seq: Array, name: str, at: Setting) -> tuple[Array, NeuronCache]:
    o_seq, cache = at.ops.lif_forward(c_seq, None, at.net.lif)
    return o_seq, NeuronCache(name, cache)


def neuron_backward(do_seq: Array, cache: NeuronCache, at: Setting) -> Array:
    dc_seq: Array = at.ops.lif_backward(do_seq, cache.lif, constants=False).dc_seq
    return dc_seq


def pool_forward(x_seq: Array, p: AvgPool, at: Setting) -> tuple[Array, AvgPoolCache]:
    y, cache = at.ops.avgpool_forward(merge(x_seq), p)
    return split(y, len(x_seq)), cache


def pool_backward(dy_seq: Array, cache: AvgPoolCache, at: Setting) -> Array:
    return split(at.ops.avgpool_backward(merge(dy_seq), cache), len(dy_seq))


class HeadCache(NamedTuple):
    name: str
    steps: int
    pooled: Any
    hidden: Any  # (LinearCache, NeuronCache) or None
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
        o_seq, neuron = neuron_forward(split(c, steps), f"{name}.lif", at)
        features, hidden = merge(o_seq), (linear, neuron)
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
        linear, neuron = cache.hidden
        dc = merge(neuron_backward(split(dfeatures, steps), neuron, at))
        dfeatures, dw, db = at.ops.linear_backward(dc, linear)
        grads |= {f"{name}.hidden.weight": dw, f"{name}.hidden.bias": db}
    return split(at.ops.global_avgpool_backward(dfeatures, cache.pooled), steps), grads
