"""Checks of the loss of TET, taken at every time step, alone and in a network with branches."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.network import backward, forward, neuron_caches, outputs
from refsnn.ops import CROSS_ENTROPY, NUMPY, TET
from refsnn.oracle.naive import network as naive
from refsnn.oracle.naive import objective
from verification import cases
from verification.differences import TOLERANCE, crosses, derivative
from verification.dual import Dual, stack
from verification.forward_mode import cross_entropy
from verification.networks import inner, length, random_direction
from verification.record import Recorder
from verification.registry import check

LOSSES = st.builds(
    TET, st.sampled_from([0.0, 1e-3, 0.05, 0.5, 1.0]), st.sampled_from([1.0, 0.5, -2.0])
)


@st.composite
def step_logits(draw: Any) -> tuple[Any, ...]:
    """Draw the logits of up to three branches at every step (T, N, K), and labels."""
    steps, images, classes = (draw(st.integers(1, most)) for most in (5, 4, 6))
    rng = np.random.default_rng(draw(cases.SEEDS))
    shape = (steps, images, max(classes, 2))
    branches = [3 * rng.normal(size=shape) for _ in range(draw(st.integers(1, 3)))]
    side = draw(st.sampled_from([0.0, 0.25, 1.0]))
    return draw(LOSSES), branches, rng.integers(0, shape[2], images), side, rng


@check("TET against loops", "oracle", "TET M3", step_logits(), quick=40, full=1500)
def tet_values(case: Any, record: Recorder) -> None:
    """Compare the loss and the gradient of every branch."""
    loss, branches, labels, side, _ = case
    value, cache = NUMPY.objective_forward(branches, labels, side, "logits", loss)
    want, gradients = objective.tet(branches, labels, side, loss.lam, loss.phi)
    record.close("TET", "loss", value, want, 1e-13, max(1.0, abs(want)))
    record.values_ok()
    for index, (got, db) in enumerate(
        zip(NUMPY.objective_backward(cache), gradients, strict=True), 1
    ):
        record.close("TET", f"dL/db_{index}", got, db, 1e-13, axes="tnk")
    record.equal("M3", "usual weight and target", (TET().lam, TET().phi), (1e-3, 1.0))


@check("TET in forward mode", "forward mode", "TET", step_logits(), quick=30, full=1000)
def tet_forward_mode(case: Any, record: Recorder) -> None:
    """Compare the derivative in a random direction with that of dual numbers."""
    loss, (*_, b_seq), labels, _, rng = case
    v = rng.normal(size=b_seq.shape)
    _, cache = loss.forward(b_seq, labels)
    got = float((loss.backward(cache) * v).sum())
    moving = Dual(b_seq, v)
    entropies = stack([cross_entropy(moving[t], labels) for t in range(len(b_seq))])
    off = moving - loss.phi
    whole = (1 - loss.lam) * entropies.mean() + loss.lam * (off * off).mean()
    record.close("TET", "<dL/db, v>", got, float(whole.tangent), 1e-12, float(np.abs(v).sum()))


@check("properties of TET", "structure", "TET", step_logits(), quick=30, full=1000)
def tet_properties(case: Any, record: Recorder) -> None:
    """Check its limits: the cross-entropy, Jensen's inequality, no labels, and no drift."""
    _, (*_, b_seq), labels, _, rng = case
    entropy = TET(lam=0.0)
    still = np.broadcast_to(b_seq[0], b_seq.shape)
    plain, plain_cache = CROSS_ENTROPY.forward(b_seq[0], labels)
    value, cache = entropy.forward(np.ascontiguousarray(still), labels)
    record.close("TET", "the same logits at every step", value, plain, 1e-14, max(1.0, plain))
    want = CROSS_ENTROPY.backward(plain_cache)
    record.close("TET", "their gradient, summed", entropy.backward(cache).sum(axis=0), want, 1e-14)
    value, cache = entropy.forward(b_seq, labels)
    mean, _ = CROSS_ENTROPY.forward(b_seq.mean(axis=0), labels)
    record.true("TET", "not below the loss of the mean logits", value >= mean - 1e-12)
    drift = entropy.backward(cache).sum(axis=2)
    record.close("TET", "sum over the classes", drift, np.zeros(drift.shape), 1e-14)
    pull, others = TET(lam=1.0, phi=0.5), rng.permutation(labels)
    record.equal("TET", "labels", *(pull.forward(b_seq, y)[0] for y in (labels, others)))


@check("network with TET against loops", "oracle", "TET", cases.net_cases(most=6), quick=6, full=25)
def network_values(case: Any, record: Recorder) -> None:
    """Compare the loss and all gradients of a network with branches."""
    loss = TET(0.05, 0.75)
    want = naive.forward(case.net, case.params, case.buffers, case.x_seq, case.training)
    for u_pre in want["u_pre"].values():
        if cases.near_threshold(u_pre, case.net["neuron"]) < 1e-9:
            record.reject()
    run = forward(case.model, case.params, case.buffers, case.x_seq, case.ops, case.training)
    value, cache = case.ops.objective_forward(
        outputs(run, loss), case.labels, case.side, "logits", loss
    )
    grads = backward(run, case.ops.objective_backward(cache))
    wanted, db = objective.tet(want["step_logits"], case.labels, case.side, loss.lam, loss.phi)
    record.close("TET", "loss", value, wanted, 1e-12, max(1.0, abs(wanted)))
    record.values_ok()
    wanted = naive.gradients(case.net, case.params, case.buffers, case.x_seq, db, case.training)
    for name, g in wanted.items():
        unit = max(1e-3, float(np.abs(g).max()))
        record.close("TET", name, grads[name], g, 1e-9, unit)


@check(
    "smooth network with TET",
    "differences",
    "TET",
    cases.net_cases(most=4, images=3, room=2, smooth=True),
    quick=6,
    full=150,
)
def smooth_network(case: Any, record: Recorder) -> None:
    """Compare <grad, v> with differences of the smooth network's loss."""
    if case.net["neuron"]["reset_gradient"] == "detached":
        record.reject()
    loss = TET(0.05, 0.75)

    def objective_of(params: Any) -> Any:
        run = forward(case.model, params, case.buffers, case.x_seq, NUMPY, case.training)
        return run, *NUMPY.objective_forward(
            outputs(run, loss), case.labels, case.side, "logits", loss
        )

    base, _, cache = objective_of(case.params)
    grads = backward(base, NUMPY.objective_backward(cache))
    direction = random_direction(case.params, case.rng)

    def along(s: float) -> tuple[Any, list[Any]]:
        run, value, _ = objective_of({n: p + s * direction[n] for n, p in case.params.items()})
        return value, [cache.u_pre_seq for _, cache in neuron_caches(run)]

    got, least = inner(grads, direction), length(grads)
    at_base = [cache.u_pre_seq for _, cache in neuron_caches(base)]
    for h in (3e-3, 3e-4, 3e-5):
        want, doubt, potentials = derivative(along, h)
        scale = max(least, abs(want)) or 1.0
        crossed = crosses(case.net["neuron"], at_base, potentials)
        if doubt <= TOLERANCE / 10 * scale and not crossed:
            break
    else:
        record.reject()
    record.values_ok()
    record.close("TET", "<grad, v> for v in all parameters", got, want, TOLERANCE, scale)
