"""Checks against the same networks in PyTorch, by autograd with a custom firing function."""

from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.network import ARCHITECTURES, neuron_caches
from refsnn.network.model import recomputed_neurons
from refsnn.training.config import make_config
from verification import cases, pytorch
from verification.networks import compare_spikes, gradient_unit, run_network, side_clause
from verification.record import Recorder
from verification.registry import check
from verification.tet import step_logits
from verification.training import compare_parameters, train_steadily, training_cases

TOLERANCE = 1e-10
METHODS = {"vanilla": 0.0, "shortcut": 1.0, "evolutionary": 0.25}
SURROGATES = [("tanh", 0.5), ("tanh_literal", 0.25), ("rectangular", 1.0), ("triangular", 1.0)]
PLAIN_NORM = {"statistics": "pooled", "scale": 1.0, "eps": 1e-5, "momentum": 0.1}


def describe(name: str, width: float) -> dict[str, Any]:
    """Return the plain description of a named architecture."""
    arch = ARCHITECTURES[name].scaled(width)
    stem, pool = arch.stem, arch.stem.pool
    return {
        "in_channels": 3,
        "num_classes": 10,
        "depths": arch.depths,
        "widths": arch.widths,
        "hidden": arch.hidden,
        "downsample": "conv",
        "readout": "mean",
        "norm": PLAIN_NORM,
        "stem": {
            "convs": stem.convs,
            "kernel": stem.kernel,
            "stride": stem.stride,
            "width": arch.stem_width,
            "pool": None if pool is None else (pool.kernel, pool.stride, pool.padding),
        },
    }


#: name, width, side of the images, images; ResNet-20 is whole, the others narrow
NETWORKS = [
    ("resnet18", 1 / 16, 8, 3),
    ("resnet34", 1 / 16, 8, 3),
    ("resnet19", 1 / 32, 8, 3),
    ("resnet19-tet", 1 / 32, 8, 3),
    ("resnet20", 1.0, 8, 3),
    ("resnet20m", 1 / 16, 16, 3),
    ("resnet18-imagenet", 1 / 16, 32, 2),
    ("resnet34-imagenet", 1 / 16, 32, 2),
]
ALL = list(product(NETWORKS, METHODS, (1, 2, 4), SURROGATES, ("full", "detached")))


def named_case(index: int) -> cases.NetCase:
    """Return the case of one combination of network, method, T, surrogate and reset gradient."""
    (name, width, size, images), method, steps, (surrogate, shape), reset_gradient = ALL[index]
    rng = np.random.default_rng(index)
    neuron = {
        "tau": (0.5, 0.25)[index % 5 == 0],
        "v_th": (1.0, 0.5)[index % 5 == 0],
        "surrogate": surrogate,
        "surrogate_shape": shape,
        "surrogate_edge": "outside",
        "reset_gradient": reset_gradient,
        "fire_at_threshold": False,
    }
    branches = "none" if method == "vanilla" else ("stage", "block")[index % 3 == 0]
    net = describe(name, width) | {"neuron": neuron, "branches": branches}
    model = cases.network_of(net)
    params, buffers = cases.random_numbers(model, rng)
    return cases.NetCase(
        net,
        model,
        params,
        buffers,
        rng.normal(size=(steps, images, size, size, 3)),
        rng.integers(0, 10, images),
        METHODS[method],
        "logits",
        True,
        rng,
        cases.get_ops("numba"),
    )


PEER = "D7 D9 EQ5 EQ1 EQ2 EQ3 D3 EQ4 D8 D10 D12 D13 D25 EQ6 EQ7 EQ8 EQ9 EQ10"


def compare(case: Any, record: Recorder, floor: float) -> None:
    """Compare logits, every activation, running statistics, loss and every gradient.

    For `floor` see `gradient_unit`: in small drawn networks a gradient may be all rounding.
    """
    want = pytorch.run(
        case.net,
        case.params,
        case.buffers,
        case.x_seq,
        case.labels,
        case.side,
        case.branch_sum,
        case.training,
    )
    for u_pre in want["u_pre"].values():
        if cases.near_threshold(u_pre, case.net["neuron"]) < 1e-9:
            record.reject()
    run, loss, grads = run_network(case)
    compare_spikes(run, want["spikes"], record)
    record.equal("EQ2", "layers", len(dict(neuron_caches(run))), len(want["spikes"]))
    for name, cache in neuron_caches(run):
        record.close("EQ1", f"u_pre of {name}", cache.u_pre_seq, want["u_pre"][name], TOLERANCE)
    for neuron in recomputed_neurons(run):
        for name, norm in zip(neuron.norms, (neuron.cache.norm, neuron.cache.skip), strict=False):
            y = norm.x_hat * norm.gamma * norm.p.scale + case.params[f"{name}.bias"]
            record.close("D8", f"output of {name}", y, want["norms"][name], TOLERANCE)
    for index, (got, b) in enumerate(zip(run.branches, want["branches"], strict=True)):
        clause = "D10" if index == len(run.branches) - 1 else "D12"
        record.close(clause, f"branch {index + 1}", got, b, TOLERANCE, axes="nk")
    for name, value in want["buffers"].items():
        record.close("D25", name, run.buffers[name], value, TOLERANCE, axes="c")
    combined = side_clause(case.side)
    record.close(f"D13 {combined}", "loss", loss, want["loss"], TOLERANCE)
    record.values_ok()
    reset = cases.reset_clause(case.net["neuron"])
    unit = gradient_unit(run, want["grads"], floor)
    for name in reversed(list(grads)):
        clause = "EQ9" if len(run.branches) > 1 else "EQ8"
        record.close(
            f"{clause} {reset} EQ4 {combined}",
            f"gradient of {name}",
            grads[name],
            want["grads"][name],
            TOLERANCE,
            unit(name),
        )


@check(
    "architectures in PyTorch", "peer", PEER, st.integers(0, len(ALL) - 1), quick=12, full=len(ALL)
)
def architectures(index: int, record: Recorder) -> None:
    compare(named_case(index), record, 1e-6)


@check(
    "options in PyTorch",
    "peer",
    PEER + " D11 R6",
    cases.net_cases(most=6, images=4),
    quick=15,
    full=300,
)
def options(case: Any, record: Recorder) -> None:
    """Compare drawn networks, with the decisions' alternatives, in training and inference."""
    compare(case, record, 1e-3)
    record.equal("D11", "parameters", case.model.shapes(), pytorch.parameter_shapes(case.net))


@check(
    "LIF in PyTorch", "peer", "EQ1 EQ2 EQ3 D2 D3 D6 R1 R6", cases.lif_cases(), quick=40, full=1000
)
def lif(case: Any, record: Recorder) -> None:
    """Compare LIF neurons, at critical potentials too, since both frameworks round the same."""
    c_seq, do_seq = case.c_seq.astype(float), case.do_seq.astype(float)
    u0 = np.zeros(c_seq.shape[1:]) if case.u0 is None else case.u0.astype(float)
    want = pytorch.lif(c_seq, u0, case.neuron, do_seq)
    o_seq, cache = case.ops.lif_forward(c_seq, u0, cases.lif_of(case.neuron))
    record.close("EQ1", "u_pre_seq", cache.u_pre_seq, want["u_pre_seq"], 1e-14, axes="tn")
    record.equal(
        "D2" if case.neuron["fire_at_threshold"] else "EQ2", "o_seq", o_seq, want["o_seq"], "tn"
    )
    record.values_ok()
    got = case.ops.lif_backward(do_seq, cache)
    clause = cases.reset_clause(case.neuron)
    scale = cases.gradient_scale(case.neuron, cache.u_pre_seq, do_seq)
    for name, blame in (("dc_seq", clause), ("du0", "D6"), ("dtau", clause), ("dv_th", "R1")):
        record.close(blame, name, getattr(got, name), want[name], TOLERANCE, scale, "tn")


@check("surrogates in PyTorch", "peer", "EQ4 D5 R5 M17", cases.lif_cases(), quick=40, full=1000)
def surrogates(case: Any, record: Recorder) -> None:
    """Check that the slope is autograd's derivative of the primitive, away from the kinks."""
    u_pre = 2 * case.c_seq.astype(float).reshape(-1)
    if cases.near_threshold(u_pre, case.neuron) < 1e-9:
        record.reject()
    v_th = case.neuron["v_th"]
    got = cases.surrogate_of(case.neuron).slope(u_pre - v_th, v_th)
    clause = cases.slope_clause(case.neuron)
    want = pytorch.surrogate_by_autograd(u_pre, case.neuron)
    record.close(clause, "slope", got, want, TOLERANCE, max(1.0, float(np.abs(want).max())), "u")
    if case.neuron["surrogate"] == "dspike":  # torch.clamp passes the gradient on its edges
        edges = np.array([-0.5, 0.5])
        got = cases.surrogate_of(case.neuron).slope(edges, v_th)
        want = pytorch.surrogate_by_autograd(v_th + edges, case.neuron)
        record.close("M17", "slope on the edges", got, want, TOLERANCE, float(want.max()), "u")


@check("TET in PyTorch", "peer", "TET M3", step_logits(), quick=40, full=1000)
def tet(case: Any, record: Recorder) -> None:
    """Compare the loss and its gradient with torch's losses of all steps."""
    loss, (*_, b_seq), labels, _, _ = case
    value, cache = loss.forward(b_seq, labels)
    want, db = pytorch.tet(b_seq, labels, loss.lam, loss.phi)
    record.close("TET", "loss", value, want, TOLERANCE, max(1.0, abs(want)))
    record.close("TET", "dL/db", loss.backward(cache), db, TOLERANCE, axes="tnk")
    record.equal("M3", "a network's target", make_config(loss="tet", v_th=0.5).make_loss().phi, 0.5)


@check("batch norm in PyTorch", "peer", "D8 D25", cases.norm_cases(), quick=40, full=1000)
def batch_norm(case: Any, record: Recorder) -> None:
    from refsnn.equations.batchnorm import (
        BatchNorm,
        Running,
        batchnorm_backward,
        batchnorm_forward,
    )

    axes = (0, 1, 2, 3) if case.norm["statistics"] == "pooled" else (1, 2, 3)
    group = np.prod([case.x_seq.shape[a] for a in axes])
    if case.training and (group == 1 or case.x_seq.std(axis=axes).min() < 1e-2):
        record.reject()  # PyTorch refuses batch norm of a single value
    want = pytorch.batchnorm(
        case.x_seq,
        case.gamma,
        case.beta,
        case.mean,
        case.var,
        case.norm,
        case.dy_seq,
        case.training,
    )
    y, running, cache = batchnorm_forward(
        case.x_seq,
        case.gamma,
        case.beta,
        Running(case.mean, case.var),
        BatchNorm(**case.norm),
        case.training,
    )
    record.close("D8", "y_seq", y, want["y_seq"], TOLERANCE, axes="tnhwc")
    record.close("D25", "running mean", running.mean, want["running_mean"], TOLERANCE)
    record.close("D25", "running variance", running.var, want["running_var"], TOLERANCE)
    record.values_ok()
    scale = float(np.abs(case.dy_seq).sum() * cache.inv_std.max())
    for name, got in zip(
        ("dx_seq", "dgamma", "dbeta"), batchnorm_backward(case.dy_seq, cache), strict=True
    ):
        record.close("D8", name, got, want[name], TOLERANCE, scale)


@check("parameters in PyTorch", "peer", "D9 D11 D12 D19 D20 D21")
def parameter_shapes(case: Any, record: Recorder) -> None:
    """Compare parameters' names and shapes at full width with those of torch's modules."""
    own = {"resnet19": "D20", "resnet19-tet": "D20", "resnet20": "D21", "resnet20m": "D21"}
    neuron = named_case(0).net["neuron"]
    for name in ARCHITECTURES:
        for branches in ("none", "stage", "block"):
            net = describe(name, 1.0) | {"neuron": neuron, "branches": branches}
            clauses = f"{own.get(name, 'D19')} D9 D11 D12"
            record.equal(
                clauses,
                f"parameters of {name}",
                cases.network_of(net).shapes(),
                pytorch.parameter_shapes(net),
            )


@check(
    "training in PyTorch",
    "peer",
    "ALG1-TRAIN D17 R3 D15 D16 D25",
    training_cases(),
    quick=6,
    full=150,
)
def training(case: Any, record: Recorder) -> None:
    """Compare four iterations with torch.optim and its cosine schedule."""
    case, plain, batches = case
    state, steps = train_steadily(case, plain, batches, record)
    want = pytorch.train(case.net, case.params, case.buffers, batches, plain)
    clock = "D15" if plain["method"] == "shortcut" else "D16"
    for index, step in enumerate(steps):
        record.close(clock, "coefficient", step.side, want["sides"][index], 1e-14, 1.0)
        record.close("R3", "learning rate", step.lr, want["lrs"][index], 1e-12)
        record.close("ALG1-TRAIN", f"loss {index + 1}", step.loss, want["losses"][index], 1e-10)
    for name, value in want["buffers"].items():
        record.close("D25 ALG1-TRAIN", name, state.buffers[name], value, 1e-10, axes="c")
    compare_parameters(plain, steps, state.params, want["params"], record)
