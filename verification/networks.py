"""Checks of whole spiking networks against naive loops and dual numbers (forward mode)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.network import Forward, backward, forward, neuron_caches
from refsnn.network.model import recomputed_neurons
from refsnn.ops import NUMPY
from refsnn.oracle.naive import network as naive
from refsnn.oracle.naive import objective
from verification import cases, dual, forward_mode
from verification.record import Recorder
from verification.registry import check


def run_network(case: Any) -> tuple[Forward, float, dict[str, Any]]:
    """Compute the package's forward pass, loss and gradients for a drawn network."""
    run = forward(case.model, case.params, case.buffers, case.x_seq, case.ops, case.training)
    loss, cache = case.ops.objective_forward(run.branches, case.labels, case.side, case.branch_sum)
    return run, loss, backward(run, case.ops.objective_backward(cache))


def side_clause(side: float) -> str:
    """Return the equation that combines the branches with this coefficient."""
    return {0.0: "EQ7", 1.0: "EQ6"}.get(side, "EQ10")


def layer_clause(name: str) -> str:
    """Return the clause of a layer's spikes: of the encoder, a block's output, or its inside."""
    return "D7" if name.startswith("stem") else "EQ5" if name.endswith("lif2") else "D9"


def compare_spikes(run: Forward, spikes: dict[str, Any], record: Recorder) -> None:
    """Check that spikes are identical in every layer, from input to output."""
    layers = dict(neuron_caches(run))
    record.equal("D9", "layers of neurons", sorted(layers), sorted(spikes))
    for name, cache in layers.items():
        record.equal(
            layer_clause(name), f"spikes of {name}", cache.o_seq, spikes[name], axes="tnhwc"
        )


NETWORK_CLAUSES = "D7 D9 EQ5 D10 D11 D12 D25 D13 EQ6 EQ7 EQ10 EQ8 EQ9"


@check("network against loops", "oracle", NETWORK_CLAUSES, cases.net_cases(), quick=14, full=150)
def network_values(case: Any, record: Recorder) -> None:
    """Compare parameters' shapes, spikes, branches, running statistics, loss and gradients."""
    net = case.net
    record.equal("D9", "parameters", case.model.shapes(), naive.shapes(net))
    want = naive.forward(net, case.params, case.buffers, case.x_seq, case.training)
    for u_pre in want["u_pre"].values():
        if cases.near_threshold(u_pre, net["neuron"]) < 1e-9:
            record.reject()
    before = {name: value.copy() for name, value in case.params.items()}
    run, loss, grads = run_network(case)
    compare_spikes(run, want["spikes"], record)
    record.equal("D11", "number of branches", len(run.branches), len(want["branches"]))
    for index, (got, b) in enumerate(zip(run.branches, want["branches"], strict=True)):
        clause = "D10" if index == len(run.branches) - 1 else "D12"
        record.close(clause, f"branch {index + 1}", got, b, 1e-12, axes="nk")
    record.equal("D25", "names of buffers", sorted(run.buffers), sorted(want["buffers"]))
    for name, value in want["buffers"].items():
        record.close("D25", name, run.buffers[name], value, 1e-12, axes="c")
    wanted_loss, db = objective.objective(want["branches"], case.labels, case.side, case.branch_sum)
    clause = side_clause(case.side) if case.branch_sum == "logits" else "D13"
    record.close(clause, "loss", loss, wanted_loss, 1e-12)
    record.values_ok()
    wanted = naive.gradients(net, case.params, case.buffers, case.x_seq, db, case.training)
    compare_gradients(run, grads, wanted, record, 1e-11)
    for name, value in before.items():
        record.equal("EQ9", f"{name} unmutated", case.params[name], value)


def condition(run: Forward) -> float:
    """Return how much batch norm's backward pass magnifies rounding: the largest 1 / deviation."""
    parts = [neuron.cache for neuron in recomputed_neurons(run)]
    norms = [norm for part in parts for norm in (part.norm, part.skip) if norm is not None]
    return max(1.0, *(float(norm.inv_std.max()) for norm in norms))


def gradient_unit(run: Forward, wanted: dict[str, Any], floor: float) -> Callable[[str], float]:
    """Return a function from a parameter's name to the unit of its gradient's error.

    The unit is the largest entry of the gradient, or `floor` times the largest entry of all
    gradients if that is more, since a gradient may be all rounding.
    """
    whole, factor = max(float(np.abs(g).max()) for g in wanted.values()), condition(run)
    return lambda name: factor * max(float(np.abs(wanted[name]).max()), floor * whole) or 1.0


def compare_gradients(
    run: Forward, grads: dict[str, Any], wanted: dict[str, Any], record: Recorder, tolerance: float
) -> None:
    """Compare gradients parameter by parameter, from output to input, as they are computed."""
    record.equal("EQ9", "names of gradients", sorted(grads), sorted(wanted))
    unit = gradient_unit(run, wanted, 1e-3)
    for name in reversed(list(grads)):
        side, scale = name.startswith("branch."), unit(name)
        record.close(
            "EQ9" if side else "EQ8",
            f"gradient of {name}",
            grads[name],
            wanted[name],
            tolerance,
            scale,
        )


def random_direction(params: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {name: rng.normal(size=value.shape) for name, value in params.items()}


def inner(a: dict[str, Any], b: dict[str, Any]) -> float:
    return sum(float((a[name] * b[name]).sum()) for name in a)


def length(a: dict[str, Any]) -> float:
    return inner(a, a) ** 0.5


FORWARD_MODE = "D7 EQ1 EQ2 EQ3 EQ4 EQ5 EQ6 EQ7 EQ8 EQ9 EQ10 D3 D8 D9 D10 D12 D13 R6"


@check(
    "network in forward mode",
    "forward mode",
    FORWARD_MODE,
    cases.net_cases(most=6, images=4),
    quick=40,
    full=1000,
)
def network_forward_mode(case: Any, record: Recorder) -> None:
    """Compare <grad, v> with the directional derivative, for v in all parameters and in two alone.

    v is normally distributed. Errors are relative to |grad| |v| / sqrt(size), the spread of
    <grad, v>, or to its value; for one parameter alone, to a thousandth of all parameters' spread
    if that is more.
    """
    run, loss, grads = run_network(case)
    floor = 1e-3 * length(grads)
    everything = random_direction(case.params, case.rng)
    clauses = f"EQ1 EQ2 {every_clause(case)}"
    judge(case, run, loss, grads, everything, floor, clauses, record)
    for name in case.rng.choice(sorted(case.params), 2):
        alone = {name: everything[name]}
        judge(case, run, loss, {name: grads[name]}, alone, floor, parameter_clause(name), record)


def every_clause(case: Any) -> str:
    """Return the clauses that all parameters' gradient depends on, the likeliest to blame first."""
    reset = cases.reset_clause(case.net["neuron"])
    return f"EQ9 EQ8 {reset} EQ4 EQ5 D8 D9 D10 D12 D13 {side_clause(case.side)}"


def parameter_clause(name: str) -> str:
    """Return the clause whose formula most determines a parameter's gradient."""
    if ".bn" in name:
        return "D8"
    if name.startswith("branch."):
        return "D12"
    if "fc" in name or "hidden" in name:
        return "D10"
    return "D9" if "skip" in name else "EQ5" if name.startswith("stage") else "EQ8"


def judge(
    case: Any,
    run: Forward,
    loss: float,
    grads: dict[str, Any],
    direction: dict[str, Any],
    floor: float,
    clause: str,
    record: Recorder,
) -> None:
    want = forward_mode.directional(
        case.net,
        case.params,
        case.buffers,
        case.x_seq,
        case.labels,
        case.side,
        case.branch_sum,
        direction,
        case.training,
    )
    compare_spikes(run, want["spikes"], record)
    record.close("D13", "loss", loss, want["loss"], 1e-12)
    record.values_ok()
    got = inner(grads, direction)
    what = next(iter(direction)) if len(direction) == 1 else "all parameters"
    scale = condition(run) * max(length(grads), abs(want["derivative"]), floor) or 1.0
    record.close(clause, f"<grad, v> for v in {what}", got, want["derivative"], 1e-12, scale)


@check(
    "LIF in forward mode",
    "forward mode",
    "EQ1 EQ2 EQ3 D3 EQ4 D5 R1 R5 R6 D6 M17",
    cases.lif_cases(),
    quick=60,
    full=3000,
)
def lif_forward_mode(case: Any, record: Recorder) -> None:
    """Compare the derivatives of <w, o_seq> in random directions of c_seq, u0, tau and v_th."""
    rng, c_seq = case.rng, case.c_seq.astype(float)
    u0 = np.zeros(c_seq.shape[1:]) if case.u0 is None else case.u0.astype(float)
    w = case.do_seq.astype(float)
    p = cases.lif_of(case.neuron)
    o_seq, cache = case.ops.lif_forward(c_seq, u0, p)
    grads = case.ops.lif_backward(w, cache)
    clause = cases.reset_clause(case.neuron)
    tanh = case.neuron["surrogate"] == "tanh"
    clause += " EQ4" if tanh else f" {cases.slope_clause(case.neuron)}"
    if case.neuron["surrogate"] == "dspike":  # a limited potential moves on its limits too
        edges, v_th = np.array([-0.5, 0.5]), case.neuron["v_th"]
        wanted = dual.slope(edges, v_th, case.neuron)
        record.close("M17", "slope on the edges", p.surrogate.slope(edges, v_th), wanted, 1e-12)
    scale = cases.gradient_scale(case.neuron, cache.u_pre_seq, w)
    dc, du, dt, dv = rng.normal(size=c_seq.shape), rng.normal(size=u0.shape), *rng.normal(size=2)
    zero = (0 * dc, 0 * du, 0.0, 0.0)
    for name, own, (tc, tu, tt, tv), got in (
        ("dc_seq", clause, (dc, *zero[1:]), float((grads.dc_seq * dc).sum())),
        ("du0", "D6", (zero[0], du, 0.0, 0.0), float((grads.du0 * du).sum())),
        ("dtau", "EQ1", (*zero[:2], dt, 0.0), grads.dtau * dt),
        ("dv_th", "R1", (*zero[:3], dv), grads.dv_th * dv),
    ):
        _, o = forward_mode.lif(
            forward_mode.Dual(c_seq, tc),
            forward_mode.Dual(u0, tu),
            forward_mode.Dual(np.array(case.neuron["tau"]), np.array(tt)),
            forward_mode.Dual(np.array(case.neuron["v_th"]), np.array(tv)),
            case.neuron,
        )
        record.equal("EQ2", "o_seq", o_seq, o.value, "tn")
        record.values_ok()
        want = float((w * o.tangent).sum())
        record.close(own, f"<{name}, v>", got, want, 1e-12, scale)


@check(
    "kernels in a network",
    "twin",
    "EQ9 EQ8",
    cases.net_cases(most=20, images=5, room=2),
    quick=8,
    full=200,
)
def network_twins(case: Any, record: Recorder) -> None:
    """Check that NumPy's and Numba's operations give the same spikes, loss and gradients."""
    want_run, want_loss, want = run_network(vars_with(case, NUMPY))
    for _, cache in neuron_caches(want_run):
        if cases.near_threshold(cache.u_pre_seq, case.net["neuron"]) < 1e-11:
            record.reject()
    run, loss, grads = run_network(vars_with(case, cases.get_ops("numba")))
    for (name, got), (_, cache) in zip(neuron_caches(run), neuron_caches(want_run), strict=True):
        record.equal("EQ8", f"spikes of {name}", got.o_seq, cache.o_seq, "tnhwc")
    record.close("EQ9", "loss", loss, want_loss, 1e-12)
    record.values_ok()
    compare_gradients(run, grads, want, record, 1e-11)


def vars_with(case: Any, ops: Any) -> Any:
    return cases.NetCase(**{**vars(case), "ops": ops})


@check(
    "combinations against loops",
    "oracle",
    "EQ6 EQ7 EQ10 D13 D14 D15 D16",
    st.tuples(st.integers(1, 5), cases.SEEDS, st.integers(1, 9)),
    quick=40,
    full=1000,
)
def combinations(case: Any, record: Recorder) -> None:
    """Compare the coefficients of all methods, combined logits, and both objectives' gradients."""
    n, seed, total = case
    rng = np.random.default_rng(seed)
    lam, shortcut = rng.uniform(0.1, 1, 2)
    i = int(rng.integers(1, total + 1))
    for method, clause in (("vanilla", "EQ7"), ("shortcut", "D15"), ("evolutionary", "D16")):
        got = NUMPY.side_coefficient(method, i, total, lam, shortcut)
        want = objective.coefficient(method, i, total, lam, shortcut)
        record.close(clause, f"coefficient of {method}", got, want, 1e-15, 1.0)
    record.equal("D15", "default coefficient", NUMPY.side_coefficient("shortcut", i, total, lam), 1)
    branches = [rng.normal(0, 2, (3, 4)) for _ in range(n)]
    labels = rng.integers(0, 4, 3)
    for side in (0.0, 1.0, float(lam)):
        clause = side_clause(side)
        got = combine(branches, side)
        record.close(clause, "o_final", got, objective.combine(branches, side), 1e-14, axes="nk")
        record.close(
            "D14",
            "the main branch's part",
            combine([*branches[:-1], 2 * branches[-1]], side) - got,
            branches[-1],
            1e-14,
            axes="nk",
        )
        for branch_sum in ("logits", "losses"):
            before = [b.copy() for b in branches]
            loss, cache = NUMPY.objective_forward(branches, labels, side, branch_sum)
            want_loss, want_db = objective.objective(branches, labels, side, branch_sum)
            record.close("D13", f"loss, sum of {branch_sum}", loss, want_loss, 1e-13)
            record.values_ok()
            for index, (db, want) in enumerate(
                zip(NUMPY.objective_backward(cache), want_db, strict=True)
            ):
                record.close("D13", f"db[{index}], sum of {branch_sum}", db, want, 1e-13, 1.0, "nk")
            for b, kept in zip(branches, before, strict=True):
                record.equal("D13", "branches unmutated", b, kept)


def combine(branches: list[Any], side: float) -> Any:
    from refsnn.equations.shortcut import combine_forward

    return combine_forward(branches, side)
