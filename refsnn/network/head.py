"""The head of a branch, or of the network: from spikes to logits."""

from typing import Any, NamedTuple

import numpy as np

from refsnn.network.layers import (
    Context,
    Grads,
    NeuronCache,
    bare_neuron_backward,
    bare_neuron_forward,
    fire_backward,
    fire_forward,
    merge,
    split,
)
from refsnn.ops import Array, LinearCache, Running


class HiddenCache(NamedTuple):
    """The values that the backward pass of a hidden layer and its neurons needs."""

    linear: LinearCache
    name: str  # the neurons' name
    lif: Any  # a LIFCache, or that of neurons with parameters
    running: Running | None  # the neurons' statistics after this batch


class HeadCache(NamedTuple):
    """The values that a head's backward pass needs."""

    name: str
    steps: int
    shape: tuple[int, ...]  # (T N, H, W, C) before pooling
    hidden: HiddenCache | None
    fc: LinearCache
    y_seq: Array  # each step's output (T, N, K)
    final: NeuronCache | None = None  # the neurons before it, where blocks pass on currents


def head_forward(x_seq: Array, name: str, context: Context) -> tuple[Array, HeadCache]:
    """Return a branch's logits (N, K): global average pooling, FC, mean over time (D10, D12)."""
    steps, params = len(x_seq), context.params
    final: NeuronCache | None = None
    if context.net.passes_currents and name == "head":  # M5
        x_seq, final = bare_neuron_forward(x_seq, "final.lif", context)
    features, shape = context.ops.global_avgpool_forward(merge(x_seq))
    hidden: HiddenCache | None = None
    if f"{name}.hidden.weight" in params:
        c, linear = context.ops.linear_forward(
            features, params[f"{name}.hidden.weight"], params[f"{name}.hidden.bias"]
        )
        o_seq, running, lif = fire_forward(split(c, steps), f"{name}.lif", context)
        features = merge(o_seq).astype(c.dtype, copy=False)
        hidden = HiddenCache(linear, f"{name}.lif", lif, running)
    y, fc = context.ops.linear_forward(
        features, params[f"{name}.fc.weight"], params[f"{name}.fc.bias"]
    )  # D12
    y_seq = split(y, steps)
    return read_out(y_seq, context.net.readout), HeadCache(
        name, steps, shape, hidden, fc, y_seq, final
    )


def read_out(y_seq: Array, readout: str) -> Array:
    """Return the logits (N, K) of each step's output (T, N, K): their mean or sum (D10)."""
    logits = y_seq.sum(axis=0)  # D10
    return logits / len(y_seq) if readout == "mean" else logits  # D10


def head_backward(dlogits: Array, cache: HeadCache, context: Context) -> tuple[Array, Grads]:
    """Return the gradients at the head's input and of its parameters.

    `dlogits` is the gradient at the logits (N, K), or at those of every step (T, N, K).
    forward: each step's output went into the logits with weight 1/T (mean) or 1 (sum).
    """
    name, steps = cache.name, cache.steps
    if dlogits.ndim == 3:
        dy = merge(dlogits)
    else:
        share = dlogits / steps if context.net.readout == "mean" else dlogits
        dy = np.concatenate([share] * steps)
    dfeatures, dw, db = context.ops.linear_backward(dy, cache.fc)
    grads = {f"{name}.fc.weight": dw, f"{name}.fc.bias": db}
    if cache.hidden is not None:
        linear, lif_name, lif, _ = cache.hidden
        dc_seq, neuron_grads = fire_backward(split(dfeatures, steps), lif_name, lif, context)
        dfeatures, dw, db = context.ops.linear_backward(merge(dc_seq), linear)
        grads |= {f"{name}.hidden.weight": dw, f"{name}.hidden.bias": db} | neuron_grads
    dx_seq = split(context.ops.global_avgpool_backward(dfeatures, cache.shape), steps)
    if cache.final is not None:
        dx_seq, final_grads = bare_neuron_backward(dx_seq, cache.final, context)
        grads |= final_grads
    return dx_seq, grads
