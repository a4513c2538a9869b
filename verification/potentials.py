"""Checks of the losses of potentials, alone, in a layer and in a network."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.network import backward, forward, neuron_caches, potential_value
from refsnn.ops import CROSS_ENTROPY, LIF, NUMPY, DistributionLoss, IMLoss
from refsnn.oracle.naive import potentials as naive
from refsnn.training.config import make_config
from verification import cases
from verification.differences import compare_in_a_direction
from verification.record import Recorder
from verification.registry import check

LOSSES = st.one_of(
    st.builds(IMLoss, st.sampled_from([0.0, 0.5, 2.0])),
    st.builds(
        DistributionLoss, st.sampled_from([0.0, 0.3, 2.0]), st.sampled_from([None, 0.5, 2.0])
    ),
)


def clauses_of(loss: Any) -> str:
    return "IMLOSS M10" if isinstance(loss, IMLoss) else "MPD M12"


def by_loops(loss: Any, u_pre_seq: Any, p: LIF) -> tuple[float, Any]:
    """Return value and gradient of a layer by naive loops."""
    if isinstance(loss, IMLoss):
        return naive.information_maximization(u_pre_seq, p.v_th, loss.lam)
    weights, width = (loss.lam,) * 3, loss.half_width or p.v_th
    return naive.potential_distribution(u_pre_seq, p.v_th, width, *weights)


@st.composite
def potentials(draw: Any) -> Any:
    """Draw a loss, and potentials whose channels have any mean and deviation."""
    shape = tuple(draw(st.integers(1, most)) for most in (3, 3, 2, 2, 4))
    rng = np.random.default_rng(draw(cases.SEEDS))
    means, deviations = rng.uniform(-3, 3, shape[-1]), rng.uniform(0.1, 4, shape[-1])
    return (
        draw(LOSSES),
        rng.normal(means, deviations, shape),
        LIF(v_th=draw(st.sampled_from([1.0, 0.5]))),
    )


@check("losses of potentials against loops", "oracle", "IMLOSS M10 MPD M12", potentials(), 40, 1500)
def values(case: Any, record: Recorder) -> None:
    """Compare the value and the gradient of a layer."""
    loss, u_pre_seq, p = case
    value, gradient = by_loops(loss, u_pre_seq, p)
    clauses = clauses_of(loss)
    record.close(clauses, "value", loss.value(u_pre_seq, p), value, 1e-12, max(1.0, abs(value)))
    record.values_ok()
    scale = 1e-3 + float(np.abs(gradient).max())
    record.close(clauses, "dL/du_pre", loss.gradient(u_pre_seq, p), gradient, 1e-9, scale)


@check(
    "a layer with a loss of potentials against loops",
    "oracle",
    "IMLOSS MPD",
    st.tuples(cases.lif_cases(), LOSSES),
    quick=30,
    full=800,
)
def layers(drawn: Any, record: Recorder) -> None:
    """Compare dL/dc, to which every potential adds its own part."""
    case, loss = drawn
    p = cases.lif_of(case.neuron)
    c_seq, do_seq = (x.astype(float)[..., None] for x in (case.c_seq, case.do_seq))
    o_seq, cache = case.ops.lif_forward(c_seq, None, p)
    if cases.near_threshold(cache.u_pre_seq, case.neuron) < 1e-9:
        record.reject()
    source_seq = loss.gradient(cache.u_pre_seq, p)
    got = case.ops.lif_backward(do_seq, cache, constants=False, source_seq=source_seq)
    want = naive.lif(c_seq, do_seq, case.neuron, lambda u_pre: by_loops(loss, u_pre, p)[1])
    clause = clauses_of(loss).split()[0]
    record.equal(clause, "spikes", o_seq, want["o"])
    record.values_ok()
    scale = 1e-3 + float(np.abs(want["c"]).max()) + float(np.abs(do_seq).max())
    record.close(clause, "dL/dc", got.dc_seq, want["c"], 1e-9, scale)


@check(
    "smooth networks with a loss of potentials",
    "differences",
    "IMLOSS M10 MPD M12",
    st.tuples(cases.net_cases(most=3, images=3, room=2, smooth=True, surrogate="sigmoid"), LOSSES),
    quick=10,
    full=250,
)
def smooth_networks(drawn: Any, record: Recorder) -> None:
    """Compare <grad, v> with differences of the smooth network's loss."""
    case, loss = drawn
    if case.net["neuron"]["reset_gradient"] == "detached":
        record.reject()

    def objective_of(params: Any) -> Any:
        given = case.model, params, case.buffers, case.x_seq, NUMPY, case.training
        run = forward(*given, potential_loss=loss)
        value, cache = NUMPY.objective_forward(
            run.branches, case.labels, case.side, "logits", CROSS_ENTROPY
        )
        return run, value + potential_value(run), cache

    run, _, cache = objective_of(case.params)
    grads = backward(run, NUMPY.objective_backward(cache))

    def value_of(params: Any) -> float:
        return objective_of(params)[1]

    compare_in_a_direction(value_of, case.params, grads, case.rng, record, clauses_of(loss))


@check(
    "layers that a loss of potentials counts",
    "structure",
    "IMLOSS M10 MPD M12",
    cases.net_cases(most=3),
    quick=10,
    full=150,
)
def counted(case: Any, record: Recorder) -> None:
    """Check which layers count, and that a loss of weight 0 changes no bit."""
    given = case.model, case.params, case.buffers, case.x_seq, case.ops, case.training
    for loss in (IMLoss(0.75), DistributionLoss(0.5)):
        run = forward(*given, potential_loss=loss)
        clauses, p = clauses_of(loss), case.model.lif
        layers = {name: c for name, c in neuron_caches(run) if not name.startswith("head")}
        if isinstance(loss, IMLoss):
            layers = {n: c for n, c in layers.items() if n.startswith("stem") or n[-1] == "2"}
        want = sum(by_loops(loss, c.u_pre_seq, p)[0] for c in layers.values())
        record.close(clauses, "value", potential_value(run), want, 1e-11, max(1.0, abs(want)))
        nothing = forward(*given, potential_loss=replace(loss, lam=0.0))
        plain = forward(*given)
        for got, b in zip(nothing.branches, plain.branches, strict=True):
            record.equal(clauses, "logits with weight 0", got, b)
        db = [np.ones_like(b) for b in plain.branches]
        grads, wanted = backward(nothing, db), backward(plain, db)
        for name, g in wanted.items():
            record.equal(clauses, f"{name} with weight 0", grads[name], g)


@check("the surrogate's number by epoch", "structure", "ESG M11", st.integers(1, 300), 20, 300)
def sharpening(epochs: int, record: Recorder) -> None:
    """Check ESG's K(0) = 1 and K(N) = 10, equal factors in between, and the epoch as clock."""
    config = make_config(
        surrogate="sigmoid", surrogate_shape=2.0, surrogate_end=20.0, epochs=epochs
    )
    net = config.build_network(1, 3)
    k = [config.in_epoch(net, i).lif.surrogate.alpha / 2 for i in range(epochs + 1)]
    record.close("ESG", "K(0)", k[0], 1.0, 1e-14)
    record.close("ESG", "K(N)", k[-1], 10.0, 1e-12)
    at = np.arange(epochs + 1) / epochs
    published = ((10**at - 1) * 10 + (10 - 10**at) * 1) / 9
    record.close("ESG M11", "K(i) as in the paper", k, published, 1e-12)
    plain = make_config(epochs=epochs)
    net = plain.build_network(1, 3)
    record.true("M11", "no schedule without an end", plain.in_epoch(net, 0) is net)


@check("an epoch's surrogate against loops", "oracle", "ESG M11", st.integers(0, 7), 8, 8)
def epoch_surrogate(epoch: int, record: Recorder) -> None:
    """Compare the slopes of an epoch with those of tanh with K, number by number."""
    config = make_config(surrogate="sigmoid", surrogate_shape=2.0, surrogate_end=20.0, epochs=8)
    surrogate = config.in_epoch(config.build_network(1, 3), epoch).lif.surrogate
    k = 10.0 ** (epoch / 8)
    x = np.linspace(-2, 2, 41)
    want = [k / 2 * (1 - np.tanh(k * value) ** 2) for value in x]
    record.close("ESG M11", "slopes", surrogate.slope(x, 1.0), want, 1e-12, 1.0)
