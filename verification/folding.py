"""Checks of folding: what trained numbers become for inference, and that nothing changes."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.network import (
    BLOCKS,
    Network,
    architecture,
    fold,
    forward,
    init_buffers,
    neuron_caches,
    without_branches,
)
from refsnn.ops import LIF, NEURONS, NORMS, BatchNorm
from refsnn.oracle.naive import folding as naive
from verification import cases
from verification.record import Recorder
from verification.registry import check

METHODS = ["tdbn", *NORMS, "mpbn", "real_spike"]
CLAUSES = {
    "tdbn": "M1 M2",
    "tebn": "TEBN",
    "bntt": "BNTT",
    "psp": "PSPBN",
    "mpbn": "MPBN",
    "real_spike": "REALSPIKE",
}
RUNNING = "running_mean", "running_var"


@st.composite
def networks(draw: Any) -> Any:
    """Draw a method, a network with it, and its numbers; gammas and amplitudes have both signs."""
    method, block = draw(st.sampled_from(METHODS)), draw(st.sampled_from(BLOCKS))
    if block.startswith("sew") and method in ("tdbn", "real_spike"):
        block = "basic"
    given: dict[str, Any] = {"block": block, "steps": 2}
    if method == "tdbn":
        given |= {"norm": BatchNorm(scale=0.5), "merge_scale": 0.75}
        given["norm_identity"] = draw(st.booleans())
    if method in NORMS:
        given["norm_model"] = NORMS[method]()
    if method in NEURONS:
        given["neuron_model"] = NEURONS[method]()
    lif = LIF(0.5, draw(st.sampled_from([1.0, 0.5])), fire_at_threshold=draw(st.booleans()))
    net = Network(architecture(draw(st.sampled_from(["1-1:2-3", "2:3"]))), 2, 3, lif=lif, **given)
    rng = np.random.default_rng(draw(cases.SEEDS))
    params, buffers = cases.random_numbers(net, rng)
    for name in params:
        if name.endswith((".a", ".weight")) and ".lif" in name:
            params[name] = params[name] * rng.choice([-1, 1], params[name].shape)
    if method == "psp":
        buffers |= {n: 0 * x for n, x in init_buffers(net).items() if n.endswith("mean")}
    return method, net, params, buffers, rng, cases.get_ops(draw(cases.BACKENDS))


@check(
    "folded numbers against loops",
    "oracle",
    "M1 M2 TEBN BNTT PSPBN MPBN REALSPIKE",
    networks(),
    quick=30,
    full=400,
)
def folded_numbers(drawn: Any, record: Recorder) -> None:
    """Compare weights, biases, gains and thresholds of a block's second convolution and neurons."""
    method, net, params, buffers, _, _ = drawn
    clauses, (_, got) = CLAUSES[method], fold(net, params, buffers)
    block = net.blocks()[-1]
    conv, norm = f"{block.name}.conv2", f"{block.name}.bn2"
    before = f"{block.name}.{'lif2' if net.passes_currents else 'lif1'}"
    w = params[f"{conv}.weight"]
    mean, var = (buffers[f"{norm}.{which}"] for which in RUNNING)
    own = {n.removeprefix(f"{norm}."): x for n, x in params.items() if n.startswith(f"{norm}.")}
    gain = None
    if method == "tebn":
        by_step, bias = naive.tebn(w, own["weight"], own["bias"], own["p"], mean, var)
    elif method == "bntt":
        by_step, bias = naive.bntt(w, own["weight"], mean, var)
    elif method == "psp":
        weight, bias = naive.psp_bn(w, own["weight"], var), np.zeros(w.shape[-1])
    else:
        merged = net.has_projection(block) or net.norm_identity
        scale = net.norm.scale * (net.merge_scale if merged else 1.0)
        if method == "real_spike":
            w = naive.real_spike(w, params[f"{before}.a"])
        weight, bias = naive.batch_norm(w, own["weight"], own["bias"], mean, var, scale)
    if method in ("tebn", "bntt"):
        gain = got[f"{conv}.gain"][:, None, None, None]
        record.close(clauses, "W[t]", gain * got[f"{conv}.weight"], by_step, 1e-12)
    else:
        record.close(clauses, "W", got[f"{conv}.weight"], weight, 1e-12, axes="hwio")
    record.close(clauses, "bias", got[f"{conv}.bias"], bias, 1e-12, 10.0)
    if method == "mpbn":
        own = {key: params[f"{before}.{key}"] for key in ("weight", "bias")}
        statistics = (buffers[f"{before}.{which}"] for which in RUNNING)
        threshold, direction = naive.mpbn(*own.values(), *statistics, net.lif.v_th)
        record.equal(clauses, "sign", got[f"{before}.sign"], direction)
        signed = got[f"{before}.threshold"] * direction
        record.close(clauses, "threshold", signed, threshold, 1e-11, 1 + np.abs(threshold).max())


@check(
    "folded networks compute the same",
    "structure",
    "M1 M2 TEBN BNTT PSPBN MPBN REALSPIKE ALG1-INFER",
    networks(),
    quick=15,
    full=300,
)
def folded_networks(drawn: Any, record: Recorder) -> None:
    """Compare spikes and logits of the folded network with those of the trained one."""
    method, net, params, buffers, rng, ops = drawn
    clauses = f"{CLAUSES[method]} ALG1-INFER"
    folded, numbers = fold(net, params, buffers)
    x_seq = rng.normal(size=(2, 2, 4, 4, 2))
    main, own = without_branches(net, params)
    want = forward(main, own, buffers, x_seq, ops, training=False)
    got = forward(folded, numbers, {}, x_seq, ops, training=False)
    for (name, cache), (_, other) in zip(neuron_caches(want), neuron_caches(got), strict=True):
        v = cache.v_seq if method == "mpbn" else cache.u_pre_seq
        if np.abs(v - net.lif.v_th).min() < 1e-9:
            record.reject()
        record.equal(clauses, f"spikes of {name}", other.o_seq, cache.o_seq)
    logits = want.branches[-1]
    record.close(clauses, "logits", got.branches[-1], logits, 1e-11, 1 + np.abs(logits).max())
