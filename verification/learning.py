"""Checks of PSP-BN, of losses with a teacher, and of the choice of a surrogate's number."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.equations.distillation import Distillation, feature_loss
from refsnn.equations.norms import PSPBN
from refsnn.equations.shape_search import ShapeSearch, choose_shape
from refsnn.network import (
    ALIGN,
    BLOCKS,
    Network,
    architecture,
    backward,
    forward,
    init_buffers,
    init_params,
)
from refsnn.network.layers import Context, conv_backward, conv_forward
from refsnn.ops import NUMPY, BatchNorm, Conv, Ops
from refsnn.oracle.naive import distillation, inputs, temperature
from refsnn.training import algorithm, trainer
from refsnn.training.algorithm import gradients, objective, search_shape, train_step
from refsnn.training.checkpoint import State
from refsnn.training.config import make_config
from refsnn.training.folder import read_metrics
from refsnn.training.optimizer import init_state
from refsnn.training.run import Run, resume, start
from refsnn.training.trainer import Interrupted
from verification import cases
from verification.differences import compare_in_a_direction
from verification.record import Recorder
from verification.registry import check


@dataclass(repr=False)
class InputNormCase:
    x_seq: Any  # (T, N, H, W, C_in)
    still: bool  # all steps have the images of the first one
    w: Any
    gamma: Any
    moment: Any  # the running one
    conv: Conv
    root: bool
    training: bool
    norm: BatchNorm
    rng: Any
    ops: Ops


@st.composite
def input_norm_cases(draw: Any) -> InputNormCase:
    """Draw a convolution of numbers or spikes, some channels of which are silent."""
    steps, n, size, c_in, c_out = (draw(st.integers(least, 3)) for least in (1, 1, 2, 1, 1))
    rng = np.random.default_rng(draw(cases.SEEDS))
    x_seq = rng.normal(size=(steps, n, size, size + 1, c_in))
    if draw(st.booleans()):
        x_seq = (x_seq > 0.8).astype(float)
    kernel, stride, padding = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.booleans())
    return InputNormCase(
        x_seq,
        draw(st.booleans()),
        rng.normal(size=(kernel, kernel, c_in, c_out)),
        rng.normal(size=c_in),
        rng.uniform(0.1, 2, c_in),
        Conv((stride, stride), (int(padding),) * 2),
        draw(st.booleans()),
        draw(st.booleans()),
        BatchNorm(
            eps=draw(st.sampled_from([1e-5, 0.01])), momentum=draw(st.sampled_from([0.1, 1]))
        ),
        rng,
        cases.get_ops(draw(cases.BACKENDS)),
    )


@check("PSP-BN's convolutions against loops", "oracle", "PSPBN M15", input_norm_cases(), 40, 400)
def input_norms(case: InputNormCase, record: Recorder) -> None:
    """Compare currents, the running moment, and the gradients at input, weights and gamma."""
    net = Network(architecture("1:1"), 1, 2, norm=case.norm, norm_model=PSPBN(case.root))
    x_seq = np.broadcast_to(case.x_seq[0], case.x_seq.shape) if case.still else case.x_seq
    params = {"conv.weight": case.w, "bn.weight": case.gamma}
    buffers = {"bn.running_mean": np.zeros_like(case.moment), "bn.running_var": case.moment}
    context = Context(net, params, buffers, case.ops, case.training)
    c_seq, layer = conv_forward(x_seq, "conv", "bn", case.conv, context)
    dc_seq = case.rng.normal(size=c_seq.shape)
    base = case.rng.normal(size=x_seq.shape)
    dx_seq, grads = conv_backward(dc_seq, layer, context, total=base.copy())
    want = inputs.psp_convolution(
        *(np.array(x_seq), dc_seq, case.w, case.gamma, case.moment),
        *(case.conv.stride[0], case.conv.padding[0]),
        *(case.training, case.root, case.norm.eps, case.norm.momentum),
    )
    clauses = "PSPBN" if case.root else "PSPBN M15"
    scale = 1 + float(np.abs(want["c"]).max(initial=0))
    record.close(clauses, "c", c_seq, want["c"], 1e-12, scale)
    assert layer.before is not None
    running = layer.before.running
    record.close(clauses, "running moment", running.var, want["square"], 1e-13)
    record.equal(clauses, "running mean", running.mean, np.zeros_like(case.moment))
    record.values_ok()
    scale = 1 + max(float(np.abs(want[name]).max(initial=0)) for name in ("x", "w", "gamma"))
    record.close(clauses, "dL/dx", dx_seq - base, want["x"], 1e-10, scale)
    record.close(clauses, "dL/dW", grads["conv.weight"], want["w"], 1e-10, scale)
    record.close(clauses, "dL/dgamma", grads["bn.weight"], want["gamma"], 1e-10, scale)


@check(
    "smooth networks with PSP-BN",
    "differences",
    "PSPBN M15",
    st.tuples(
        cases.net_cases(most=3, images=3, room=2, smooth=True, surrogate="sigmoid"),
        st.sampled_from(BLOCKS),
        st.booleans(),
    ),
    quick=10,
    full=60,
)
def smooth_networks(drawn: Any, record: Recorder) -> None:
    """Compare <grad, v> with differences of the smooth network's loss, in all kinds of blocks."""
    case, block, root = drawn
    lif, norm = replace(case.model.lif, reset_gradient="full"), BatchNorm(eps=1e-3)
    model = replace(case.model, lif=lif, norm=norm, norm_model=PSPBN(root), block=block)
    params, buffers = cases.random_numbers(model, case.rng)

    def objective_of(params: Any) -> Any:
        run = forward(model, params, buffers, case.x_seq, NUMPY, case.training)
        return run, *NUMPY.objective_forward(run.branches, case.labels, case.side)

    run, _, cache = objective_of(params)
    grads = backward(run, NUMPY.objective_backward(cache))
    clauses = "PSPBN" if root else "PSPBN M15"
    first, moment = "stem.bn0.running_var", (case.x_seq**2).mean((0, 1, 2, 3))
    moved = 0.9 * buffers[first] + 0.1 * moment if case.training else buffers[first]
    record.close(clauses, "running moment of the input", run.buffers[first], moved, 1e-12)
    for name in buffers:
        same = np.array_equal(run.buffers[name], buffers[name])
        if name.endswith("var"):
            record.equal(clauses, f"{name} stays", same, not case.training)
    compare_in_a_direction(lambda p: objective_of(p)[1], params, grads, case.rng, record, clauses)


@check("PSP-BN's properties", "structure", "PSPBN M15", input_norm_cases(), 30, 200)
def input_norm_properties(case: InputNormCase, record: Recorder) -> None:
    """Check what becomes of a factor on the input, and that what is 0 stays 0."""
    norm, clauses = replace(case.norm, eps=1e-12), "PSPBN" if case.root else "M15"
    net = Network(architecture("1:1"), 1, 2, norm=norm, norm_model=PSPBN(case.root))
    params = {"conv.weight": case.w, "bn.weight": case.gamma}
    buffers = {"bn.running_mean": np.zeros_like(case.moment), "bn.running_var": case.moment}
    context = Context(net, params, buffers, case.ops, case.training)
    c_seq, _ = conv_forward(case.x_seq, "conv", "bn", case.conv, context)
    factor = 4.0
    if case.training:  # the batch's moment grows by 16
        factor = 1.0 if case.root else 0.25
    scaled, _ = conv_forward(4.0 * case.x_seq, "conv", "bn", case.conv, context)
    scale = 1 + float(np.abs(c_seq).max(initial=0))
    record.close(clauses, "currents of 4 x", scaled, factor * c_seq, 1e-9, scale)
    nothing, _ = conv_forward(0.0 * case.x_seq, "conv", "bn", case.conv, context)
    record.equal(clauses, "currents without spikes", nothing, np.zeros_like(c_seq))


@st.composite
def lessons(draw: Any) -> Any:
    """Draw logits of two networks, labels, a temperature and a weight."""
    n, classes = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(cases.SEEDS))
    logits, teacher = rng.normal(0, draw(st.sampled_from([0.1, 1, 10])), (2, n, classes))
    loss = Distillation(
        teacher, draw(st.sampled_from([0.5, 1.0, 4.0])), draw(st.sampled_from([0.0, 0.7, 1.0]))
    )
    return loss, logits, rng.integers(0, classes, n)


@check("losses with a teacher's logits against loops", "oracle", "KDSNN M16", lessons(), 40, 400)
def teachers_logits(drawn: Any, record: Recorder) -> None:
    """Compare value and gradient."""
    loss, logits, labels = drawn
    value, gradient = distillation.of_logits(
        logits, loss.teacher, labels, loss.temperature, loss.alpha
    )
    got, cache = loss.forward(logits, labels)
    record.close("KDSNN M16", "L", got, value, 1e-12, 1 + abs(value))
    record.values_ok()
    record.close("KDSNN M16", "dL/dz", loss.backward(cache), gradient, 1e-12, 1.0)


@check(
    "losses with a teacher's features against loops",
    "oracle",
    "KDSNN M16",
    st.tuples(*(st.integers(1, 3) for _ in range(6)), st.booleans(), cases.SEEDS),
    quick=40,
    full=300,
)
def teachers_features(drawn: Any, record: Recorder) -> None:
    """Compare value and gradients, with a convolution before the comparison and without."""
    steps, n, height, width, c, c_teacher, aligned, seed = drawn
    rng = np.random.default_rng(seed)
    o_seq = (rng.normal(size=(steps, n, height, width, c)) > 0).astype(float)
    features = rng.normal(size=(n, height, width, c_teacher if aligned else c))
    align = rng.normal(size=(c, c_teacher)) if aligned else None
    want = distillation.of_features(o_seq, features, 0.3, align)
    weights = None if align is None else align[None, None]
    value, drates, dalign = feature_loss(o_seq.mean(axis=0), features, weights, 0.3)
    record.close("KDSNN M16", "L", value, want[0], 1e-12, 1 + abs(want[0]))
    record.values_ok()
    scale = 1 + float(np.abs(want[1]).max())
    record.close("KDSNN", "dL/do[t]", np.array([drates / steps] * steps), want[1], 1e-12, scale)
    if align is not None and dalign is not None:
        scale = 1 + float(np.abs(want[2]).max())
        record.close("KDSNN", "dL/dA", dalign[0, 0], want[2], 1e-12, scale)
    record.true("KDSNN", "A has a gradient where there is one", (dalign is None) == (align is None))


@check(
    "smooth networks with a teacher",
    "differences",
    "KDSNN M16",
    st.tuples(
        cases.net_cases(most=3, images=3, room=2, smooth=True, surrogate="sigmoid"),
        st.booleans(),
        st.sampled_from([None, 0.5]),
    ),
    quick=10,
    full=60,
)
def taught_networks(drawn: Any, record: Recorder) -> None:
    """Compare a training step's loss with loops, and <grad, v> with differences of it.

    The teacher's answers are logits or features, and weighted as usual or not.
    """
    case, learns_features, weight = drawn
    steps, n = case.x_seq.shape[:2]
    config = make_config(
        teacher="its answers are given",
        teacher_loss="features" if learns_features else "logits",
        teacher_weight=weight,
        branch_sum=case.branch_sum,
        steps=steps,
        dtype="float64",
    )
    width = case.model.arch.widths[-1]
    aligned = int(case.rng.choice([width, width + 2])) if learns_features else 0
    lif = replace(case.model.lif, reset_gradient="full")
    model = replace(case.model, lif=lif, aligned=aligned)
    params, buffers = cases.random_numbers(model, case.rng)
    batch = case.x_seq.swapaxes(0, 1), case.labels
    run = forward(model, params, buffers, case.x_seq, NUMPY)
    shape = (n, model.num_classes) if run.rates is None else (*run.rates.shape[:3], aligned)
    answers = case.rng.normal(size=shape)
    given = buffers, config, NUMPY, batch, case.side, True, answers

    def loss(params: Any) -> float:
        return objective(model, params, *given).loss

    if run.rates is None:
        want = distillation_of(run.branches, case, answers, 0.7 if weight is None else weight)
    else:
        want, _ = NUMPY.objective_forward(run.branches, case.labels, case.side, case.branch_sum)
        align = params[ALIGN][0, 0] if ALIGN in params else None
        beta = 7e-5 if weight is None else weight
        passed_on = run.rates[None]  # a mean over time of one step
        want += distillation.of_features(passed_on, answers, beta, align)[0]
    record.close("KDSNN M16", "L", loss(params), want, 1e-12, 1 + abs(want))
    record.values_ok()
    grads = gradients(model, params, *given)[2]
    compare_in_a_direction(loss, params, grads, case.rng, record, "KDSNN M16")


def distillation_of(branches: Any, case: Any, answers: Any, alpha: float) -> float:
    """Return the loss of all branches beside a teacher's logits, by loops."""

    def one(logits: Any) -> float:
        return distillation.of_logits(logits, answers, case.labels, 4.0, alpha)[0]

    *sides, main = branches
    if case.branch_sum == "logits":
        return one(main + case.side * sum(sides))  # Eq. (6)
    return one(main) + case.side * sum(map(one, sides))


SEARCHES = st.builds(
    ShapeSearch, st.sampled_from([0.1, 0.5, 2.0]), st.sampled_from([0.2, 1.0, 5.0]), st.just(5)
)


@check(
    "the choice of a surrogate's number against loops",
    "oracle",
    "DSPIKE M9",
    st.tuples(SEARCHES, st.sampled_from([0.15, 1.0, 3.0]), st.integers(0, 2), cases.SEEDS),
    quick=10,
    full=30,
)
def searched(drawn: Any, record: Recorder) -> None:
    """Compare the number chosen before an epoch, and the gradients of the steps after it.

    The number is that of the epoch before, or at first that of the settings. The loss has no
    surrogate in it.
    """
    search, shape, epoch, seed = drawn
    rng, batches = np.random.default_rng(seed), 1
    config = make_config(
        arch="1-1:2-3",
        method="evolutionary",
        lam=4.0,
        epochs=3,
        surrogate="dspike",
        surrogate_shape=shape if epoch == 0 else 2.0,
        surrogate_search=True,
        search_eps=search.eps,
        search_step=search.step,
        search_weights=search.weights,
        ops="numpy",
        dtype="float64",
        seed=seed % 1000,
    )
    net, name = config.build_network(1, 3), "stem.conv0.weight"
    batch, i = (rng.normal(size=(4, 4, 4, 1)), rng.integers(0, 3, 4)), epoch * batches
    params = init_params(net, rng)
    state = State(params, init_buffers(net), init_state(params, config.optimizer), rng, i)
    state.surrogate_shape = shape if epoch else None
    side = 4.0 * (1 - (i + 1) / (3 * batches))  # Eq. (10)
    given = state.buffers, config, NUMPY, batch, side

    def loss(w: Any, number: float = 1.0) -> float:
        moved = config.in_epoch(net, 0, number)
        return objective(moved, params | {name: w}, *given).loss

    def gradient(w: Any, number: float) -> Any:
        moved = config.in_epoch(net, 0, number)
        return gradients(moved, params | {name: w}, *given)[2][name]

    w, draws = params[name], np.random.SeedSequence(seed % 1000, spawn_key=(4, i))
    indices = search.indices(w, np.random.default_rng(draws))
    eps = search.eps * w.std()
    want = temperature.choose(loss, gradient, w, shape, indices, eps, search.step)
    record.true("DSPIKE", "distinct weights in order", bool((np.diff(indices) > 0).all()))
    record.equal("DSPIKE", "the loss with another number", loss(w, 7.0), loss(w))
    sides: list[float] = []

    def noted(*given: Any) -> Any:
        sides.append(given[6])
        return objective(*given)

    algorithm.objective = noted
    try:
        found = search_shape(state, net, config, NUMPY, batch, batches)
    finally:
        algorithm.objective = objective
    record.close("DSPIKE", "the side branches' weights", sides, [side] * len(sides), 1e-15, 4.0)
    ranked = sorted(want["cosines"])
    if ranked[-1] - ranked[-2] < 1e-9 and len(set(want["candidates"])) == 3:
        record.reject()
    record.close("DSPIKE M9", "the number", found, want["b"], 1e-12)
    state.surrogate_shape = found
    step = train_step(state, net, config, NUMPY, batch, batches)
    record.close("DSPIKE", "a step's gradient", step.grads[name], gradient(w, want["b"]), 1e-12)


@check(
    "runs that choose a surrogate's number",
    "structure",
    "DSPIKE",
    st.tuples(cases.SEEDS, st.integers(1, 5)),
    quick=1,
    full=4,
)
def choosing_runs(drawn: Any, record: Recorder) -> None:
    """Check that it is chosen on each epoch's first batch, and used until the next one.

    A run that was interrupted ends with the same bytes.
    """
    seed, stop_after = drawn
    rng, batches = np.random.default_rng(seed), 2
    images, labels = rng.normal(size=(6, 4, 4, 1)), np.arange(6) % 2
    given: dict[str, Any] = {
        "arch": "1:2",
        "epochs": 3,
        "batch_size": 4,
        "seed": seed % 100,
        "search_weights": 3,
    }
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        data = {f"{split}_images": images for split in ("train", "test")}
        data |= {f"{split}_labels": labels for split in ("train", "test")}
        np.savez(work / "data.npz", **data)
        given |= {"dataset": str(work / "data.npz"), "ops": "numpy", "dtype": "float64"}
        config = make_config(surrogate="dspike", surrogate_search=True, **given)
        chosen, steps = observed(start(work / "whole", config))
        observed(start(work / "halted", config), stop_after)
        observed(resume(work / "halted"))
        ends = [(work / name / "checkpoint.npz").read_bytes() for name in ("whole", "halted")]
        rows = [row["surrogate_shape"] for row in read_metrics(work / "whole")]
    epochs = config.epochs
    at = [batches * epoch for epoch in range(epochs)]
    record.equal("DSPIKE", "iterations of choices", [i for i, _, _ in chosen], at)
    for epoch, (_, batch, number) in enumerate(chosen):
        own = steps[batches * epoch :][:batches]
        record.equal("DSPIKE", "images of a choice", batch[0], own[0][0][0])
        record.equal("DSPIKE", "labels of a choice", batch[1], own[0][0][1])
        record.equal("DSPIKE", "numbers of steps", [used for _, used in own], [number] * batches)
    record.equal("DSPIKE", "numbers in the metrics", rows, [number for _, _, number in chosen])
    record.true("DSPIKE", "an interrupted run ends with the same bytes", ends[0] == ends[1])


def observed(run: Run, stop_after: int | None = None) -> tuple[list[Any], list[Any]]:
    """Train; return iteration, batch and number of each choice, and batch and number of steps."""
    originals, chosen, steps = (trainer.search_shape, trainer.train_step), list[Any](), list[Any]()

    def search_shape(state: State, *given: Any) -> Any:
        found = originals[0](state, *given)
        chosen.append((state.iteration, given[3], found))
        return found

    def train_step(state: State, *given: Any) -> Any:
        steps.append((given[3], state.surrogate_shape))
        return originals[1](state, *given)

    trainer.search_shape, trainer.train_step = search_shape, train_step
    try:
        run.train(lambda: run.state.iteration == stop_after, quiet=True)
    except Interrupted:
        pass
    finally:
        trainer.search_shape, trainer.train_step = originals
    return chosen, steps


@check("a choice among equals", "structure", "DSPIKE M9", st.sampled_from([0.1, 0.2, 3.0]), 3, 3)
def undecided(shape: float, record: Recorder) -> None:
    """Check that the number stays where no gradient is better, and its limit."""
    w, along, flat = np.array([1.0, -1.0]), np.array([1.0, 2.0]), np.zeros(2)
    search, indices = ShapeSearch(), np.arange(2)

    def choose(gradient: Any, loss: Any) -> float:
        return choose_shape(loss, gradient, w, indices, shape, search)

    def slope(x: Any) -> float:
        return float(along @ x)

    record.close("DSPIKE", "all equal", choose(lambda b: along, slope), shape, 0.0)
    record.close("DSPIKE", "no gradient", choose(lambda b: flat, slope), shape, 0.0)
    record.close("DSPIKE", "a flat loss", choose(lambda b: along, lambda x: 1.0), shape, 0.0)
    lower = choose(lambda b: along if b < shape else -along, slope)
    least = max(shape - 0.2, 0.1)
    record.close("M9", "not under the least", lower, least if least < shape else shape, 1e-15)
