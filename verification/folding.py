"""Checks of folding: what trained numbers become for inference, and that nothing changes."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.network import (
    BLOCKS,
    Architecture,
    Network,
    Stem,
    fold,
    forward,
    init_buffers,
    neuron_caches,
    without_branches,
)
from refsnn.ops import LIF, NEURONS, NORMS, PSPBN, BatchNorm, Thresholds, threshold_of_mpbn
from refsnn.oracle.naive import folding as naive
from verification import cases
from verification.record import Recorder
from verification.registry import check

#: clauses of the numbers of each method
CLAUSES = {
    "tdbn": "M1 M2",
    "tebn": "TEBN",
    "bntt": "BNTT",
    "psp": "PSPBN",
    "psp without root": "M15",
    "mpbn": "MPBN",
    "real_spike": "REALSPIKE",
}
ALL = " ".join(CLAUSES.values())
RUNNING = "running_mean", "running_var"


@st.composite
def networks(draw: Any, method: str) -> Any:
    """Draw a network with this method, and its numbers; gammas and amplitudes have both signs."""
    rng, block = np.random.default_rng(draw(cases.SEEDS)), draw(st.sampled_from(BLOCKS))
    if block.startswith("sew") and method in ("tdbn", "real_spike"):
        block = "basic"
    given: dict[str, Any] = {"block": block, "steps": 2}
    if method == "tdbn":
        given |= {"norm": BatchNorm(scale=0.5), "merge_scale": 0.75}
        given["norm_identity"] = draw(st.booleans())
    if method.startswith("psp"):
        given["norm_model"] = PSPBN(root=method == "psp")
    elif method in NORMS:
        given["norm_model"] = NORMS[method]()
    if method in NEURONS:
        given["neuron_model"] = NEURONS[method]()
    lif = LIF(0.5, draw(st.sampled_from([1.0, 0.5])), fire_at_threshold=draw(st.booleans()))
    depths, widths = draw(st.sampled_from([((1, 1), (2, 3)), ((2,), (3,))]))
    stem, hidden = Stem(convs=draw(st.integers(1, 2))), draw(st.sampled_from([0, 3]))
    net = Network(Architecture(depths, widths, widths[0], stem, hidden), 2, 3, lif=lif, **given)
    params, buffers = cases.random_numbers(net, rng)
    for name in params:
        if name.endswith((".a", ".weight")) and "lif" in name:
            params[name] = params[name] * rng.choice([-1, 1], params[name].shape)
    if hidden:
        params["head.hidden.weight"] *= 4  # or few of its units would fire
    if method.startswith("psp"):
        buffers |= {n: 0 * x for n, x in init_buffers(net).items() if n.endswith("mean")}
    return method, net, params, buffers, rng, cases.get_ops(draw(cases.BACKENDS))


#: one network of each method, since Hypothesis's choices come in clusters
EACH = st.tuples(*map(networks, CLAUSES))


@check("folded numbers against loops", "oracle", ALL, EACH, quick=4, full=30)
def folded_numbers(drawn: Any, record: Recorder) -> None:
    """Compare weights, biases, gains and thresholds of a block's second convolution and neurons."""
    for one in drawn:
        compare_numbers(one, record)


def compare_numbers(drawn: Any, record: Recorder) -> None:
    """Compare the numbers of one network."""
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
    elif method.startswith("psp"):
        weight, bias = naive.psp_bn(w, own["weight"], var, method == "psp"), np.zeros(w.shape[-1])
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


@check("folded networks compute the same", "structure", f"{ALL} ALG1-INFER", EACH, 6, 30)
def folded_networks(drawn: Any, record: Recorder) -> None:
    """Compare spikes and logits of the folded network with those of the trained one."""
    for one in drawn:
        compare_networks(one, record)


def compare_networks(drawn: Any, record: Recorder) -> None:
    """Compare spikes and logits of one network."""
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


@st.composite
def thresholds(draw: Any) -> Any:
    """Draw MPBN's numbers of each channel, some gammas 0, a neuron, and currents."""
    channels, shape = draw(st.integers(1, 4)), (draw(st.integers(1, 4)), 2, 1, 2)
    p = LIF(0.5, draw(st.sampled_from([1.0, 0.5])), fire_at_threshold=draw(st.booleans()))
    rng = np.random.default_rng(draw(cases.SEEDS))
    gamma = rng.normal(size=channels) * rng.choice([0, 1, 1], channels)
    beta = np.where(gamma == 0, p.v_th + rng.choice([-0.5, 0, 0.5], channels), gamma)
    statistics = rng.normal(size=channels), rng.uniform(0.5, 2, channels)
    c_seq = rng.normal(size=(*shape, channels))
    return gamma, beta, statistics, p, c_seq, rng.random(c_seq[0].shape) < 0.5


@check("MPBN's thresholds against loops", "oracle", "MPBN D2", thresholds(), 20, 300)
def folded_neurons(drawn: Any, record: Recorder) -> None:
    """Compare thresholds and spikes; about half of the first potentials are on a threshold."""
    gamma, beta, (mean, var), p, c_seq, on = drawn
    got = threshold_of_mpbn({"weight": gamma, "bias": beta}, mean, var, p)
    want, directions = naive.mpbn(
        gamma, beta, mean, var, p.v_th, fire_at_threshold=p.fire_at_threshold
    )
    alive = gamma != 0
    at = np.where(alive, got["sign"] * got["threshold"], want)
    record.close("MPBN", "threshold", at[alive], want[alive], 1e-12, 1 + np.abs(at[alive]).sum())
    c_seq[0] = np.where(on & alive, at, c_seq[0])
    given = {"tau": p.tau, "fire_at_threshold": p.fire_at_threshold}
    u_pre_seq, want_seq = naive.mpbn_spikes(c_seq, at, directions, given)
    if (np.abs(u_pre_seq[1:] - at) < 1e-9).any():
        record.reject()
    o_seq, _, cache = Thresholds().forward(c_seq, got, None, p, training=False)
    record.equal("D2 MPBN", "spikes of the first step", o_seq[0], want_seq[0], "nhwc")
    record.equal("MPBN", "spikes", o_seq, want_seq, "tnhwc")
    record.close("MPBN", "u_pre", cache.u_pre_seq, u_pre_seq, 1e-12, 10.0, "tnhwc")
