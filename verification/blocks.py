"""Checks of the blocks of other methods, in networks and alone."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.equations.sew import JOINS, join_backward, join_forward
from refsnn.network import BLOCKS, backward, forward, init_buffers, init_params
from refsnn.network.layers import Context
from refsnn.network.membrane import membrane_backward, membrane_forward
from refsnn.network.sew import sew_backward, sew_forward
from refsnn.ops import NUMPY
from refsnn.oracle.naive import blocks as naive
from refsnn.oracle.naive import objective
from verification import cases
from verification.differences import compare_in_a_direction
from verification.record import Recorder
from verification.registry import check

OTHERS = st.sampled_from(BLOCKS[1:])


def clause_of(block: str) -> str:
    return "MS" if block == "ms" else "SEW"


def run_of(case: Any, model: Any, params: Any, ops: Any) -> Any:
    """Return the forward pass, the loss and the cache of its gradient."""
    run = forward(model, params, case.buffers, case.x_seq, ops, case.training)
    return run, *ops.objective_forward(run.branches, case.labels, case.side, case.branch_sum)


def with_block(case: Any, block: str) -> Any:
    """Return the case's network with other blocks, and parameters and statistics for it."""
    model = replace(case.model, block=block)
    params, case.buffers = cases.random_numbers(model, case.rng)
    return model, params


@check(
    "networks of other blocks against loops",
    "oracle",
    "SEW MS M5",
    st.tuples(cases.net_cases(), OTHERS),
    quick=10,
    full=60,
)
def network_values(drawn: Any, record: Recorder) -> None:
    """Compare spikes, branches, running statistics, loss and gradients."""
    case, block = drawn
    model, params = with_block(case, block)
    net, clause = case.net | {"block": block}, clause_of(block)
    want = naive.forward(net, params, case.buffers, case.x_seq, case.training)
    for u_pre in want["u_pre"].values():
        if cases.near_threshold(u_pre, net["neuron"]) < 1e-9:
            record.reject()
    run, loss, cache = run_of(case, model, params, case.ops)
    grads = backward(run, case.ops.objective_backward(cache))
    record.equal(clause, "layers of neurons", sorted(want["spikes"]), sorted(model.neurons()))
    for index, (got, b) in enumerate(zip(run.branches, want["branches"], strict=True)):
        side = "M5 MS" if block == "ms" and index < len(run.branches) - 1 else clause
        record.close(side, f"branch {index + 1}", got, b, 1e-11, axes="nk")
    for name, value in want["buffers"].items():
        record.close(clause, name, run.buffers[name], value, 1e-12, axes="c")
    wanted_loss, db = objective.objective(want["branches"], case.labels, case.side, case.branch_sum)
    record.close(clause, "loss", loss, wanted_loss, 1e-11, max(1.0, abs(wanted_loss)))
    record.values_ok()
    wanted = naive.gradients(net, params, case.buffers, case.x_seq, db, case.training)
    whole = max(float(np.abs(g).max()) for g in wanted.values())
    for name, g in wanted.items():
        unit = max(float(np.abs(g).max()), 1e-3 * whole) or 1.0
        record.close(clause, name, grads[name], g, 1e-8, unit)


@check(
    "smooth networks of other blocks",
    "differences",
    "SEW MS M5",
    st.tuples(cases.net_cases(most=3, images=3, room=2, smooth=True, surrogate="sigmoid"), OTHERS),
    quick=10,
    full=250,
)
def smooth_networks(drawn: Any, record: Recorder) -> None:
    """Compare <grad, v> with differences of the smooth network's loss."""
    case, block = drawn
    if case.net["neuron"]["reset_gradient"] == "detached":
        record.reject()
    model, params = with_block(case, block)
    run, _, cache = run_of(case, model, params, NUMPY)
    grads = backward(run, NUMPY.objective_backward(cache))
    clauses = "MS M5" if block == "ms" and len(run.branches) > 1 else clause_of(block)

    def value_of(moved: Any) -> float:
        return run_of(case, model, moved, NUMPY)[1]

    compare_in_a_direction(value_of, params, grads, case.rng, record, clauses)


@check(
    "starts of other blocks",
    "structure",
    "SEW MS M4",
    st.tuples(cases.net_cases(most=4), OTHERS),
    quick=16,
    full=400,
)
def starts(drawn: Any, record: Recorder) -> None:
    """Check that with --zero-init blocks of one shape pass their input and its gradient on."""
    case, kind = drawn
    model = replace(case.model, block=kind, zero_init=True)
    params = init_params(model, np.random.default_rng(0))
    context = Context(model, params, init_buffers(model), NUMPY, training=True)
    alike = [block for block in model.blocks() if not model.has_projection(block)]
    if not alike:
        record.reject()
    block, rng = alike[0], case.rng
    x = rng.normal(size=(3, 2, 4, 4, block.c_in))
    if kind == "ms":
        y, cache = membrane_forward(x, block, context)
        record.equal("MS", "currents", y, x)
        record.values_ok()
        g = rng.normal(size=x.shape)
        dx, grads = membrane_backward(g, cache, context)
        record.equal("MS", "their gradient", dx, g)
        moved = [name for name, d in grads.items() if np.any(d) and ".bn2." not in name]
        record.equal("MS", "other gradients inside", moved, [])
        return
    x = (x > 0.5).astype(float)
    y, cache = sew_forward(x, block, context)
    clause = "M4" if kind == "sew_and" else "SEW"
    record.equal(clause, "spikes", y, x)
    record.values_ok()
    if kind != "sew_and":
        g = rng.normal(size=x.shape)
        record.equal("SEW", "their gradient", sew_backward(g.copy(), cache, context)[0], g)


@check("gradients of joins", "adjoint", "SEW M4", st.integers(0, 2**32 - 1), 20, 300)
def joins(seed: int, record: Recorder) -> None:
    """Compare <J v, w> of every join, which is of degree one in each argument, with <v, J^T w>."""
    rng = np.random.default_rng(seed)
    a, s, da, ds, w = rng.normal(size=(5, 3, 2, 2, 2, 4))
    for kind in JOINS:

        def moved(h: float, kind: str = kind) -> Any:
            return join_forward(a + h * da, s + h * ds, kind, float)

        along = (moved(1.0) - moved(-1.0)) / 2  # exact for a polynomial of degree two
        by_a, by_s = join_backward(w, a, s, kind)
        got = float((by_a * da).sum() + (by_s * ds).sum())
        size = float(np.abs(along * w).sum()) + 1
        record.close("SEW", f"<J v, w> of {kind}", got, float((along * w).sum()), 1e-13, size)
    spikes = (rng.random((2, 3, 4)) < 0.5).astype(float)
    always = np.ones_like(spikes)
    passed = join_forward(always, spikes, "and", float)
    record.equal("M4", "AND of neurons that always fire", passed, spikes)
