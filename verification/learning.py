"""Checks of PSP-BN, of losses with a teacher, and of the choice of a surrogate's number."""

from dataclasses import dataclass, replace
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
from refsnn.training.algorithm import gradients, objective, search_shape
from refsnn.training.checkpoint import State
from refsnn.training.config import make_config
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


@check("PSP-BN's convolutions against loops", "oracle", "PSPBN M15", input_norm_cases(), 40, 1000)
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
    full=250,
)
def smooth_networks(drawn: Any, record: Recorder) -> None:
    """Compare <grad, v> with differences of the smooth network's loss, in all kinds of blocks."""
    case, block, root = drawn
    if case.net["neuron"]["reset_gradient"] == "detached":
        record.reject()
    norm = BatchNorm(eps=1e-3)
    model = replace(case.model, norm=norm, norm_model=PSPBN(root), block=block)
    params, buffers = cases.random_numbers(model, case.rng)

    def objective_of(params: Any) -> Any:
        run = forward(model, params, buffers, case.x_seq, NUMPY, case.training)
        return run, *NUMPY.objective_forward(run.branches, case.labels, case.side)

    run, _, cache = objective_of(params)
    grads = backward(run, NUMPY.objective_backward(cache))
    clauses = "PSPBN" if root else "PSPBN M15"
    compare_in_a_direction(lambda p: objective_of(p)[1], params, grads, case.rng, record, clauses)


@check("PSP-BN's properties", "structure", "PSPBN M15", input_norm_cases(), 30, 600)
def input_norm_properties(case: InputNormCase, record: Recorder) -> None:
    """Check that its scale cancels a factor on the input, and that what is 0 stays 0."""
    if not case.root or not case.training:
        record.reject()
    norm = replace(case.norm, eps=1e-12)
    net = Network(architecture("1:1"), 1, 2, norm=norm, norm_model=PSPBN())
    params = {"conv.weight": case.w, "bn.weight": case.gamma}
    buffers = {"bn.running_mean": np.zeros_like(case.moment), "bn.running_var": case.moment}
    context = Context(net, params, buffers, case.ops, True)
    c_seq, _ = conv_forward(case.x_seq, "conv", "bn", case.conv, context)
    scaled, _ = conv_forward(4.0 * case.x_seq, "conv", "bn", case.conv, context)
    scale = 1 + float(np.abs(c_seq).max(initial=0))
    record.close("PSPBN", "currents of 4 x", scaled, c_seq, 1e-9, scale)
    nothing, _ = conv_forward(0.0 * case.x_seq, "conv", "bn", case.conv, context)
    record.equal("PSPBN", "currents without spikes", nothing, np.zeros_like(c_seq))


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


@check("losses with a teacher's logits against loops", "oracle", "KDSNN M16", lessons(), 40, 1500)
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
    full=1000,
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
    record.close("KDSNN", "L", value, want[0], 1e-12, 1 + abs(want[0]))
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
    cases.net_cases(most=3, images=3, room=2, smooth=True, surrogate="sigmoid"),
    quick=10,
    full=250,
)
def taught_networks(case: Any, record: Recorder) -> None:
    """Compare <grad, v> with differences of a loss of both the teacher's logits and features."""
    if case.net["neuron"]["reset_gradient"] == "detached":
        record.reject()
    width, n = case.model.arch.widths[-1], case.x_seq.shape[1]
    model = replace(case.model, aligned=int(case.rng.choice([width, width + 2])))
    params, buffers = cases.random_numbers(model, case.rng)
    loss = Distillation(case.rng.normal(size=(n, model.num_classes)), 2.0, 0.6)
    given = buffers, case.x_seq, NUMPY, case.training
    features = case.rng.normal(size=(*_rates(model, params, given)[:3], model.aligned))

    def objective_of(params: Any) -> Any:
        run = forward(model, params, *given)
        value, cache = NUMPY.objective_forward(run.branches, case.labels, case.side, "logits", loss)
        of_features, *d = feature_loss(run.rates, features, params.get(ALIGN), 0.3)
        return run, value + of_features, cache, d

    run, _, cache, d = objective_of(params)
    grads = backward(run, NUMPY.objective_backward(cache), *d)
    compare_in_a_direction(
        lambda p: objective_of(p)[1], params, grads, case.rng, record, "KDSNN M16"
    )


def _rates(model: Any, params: Any, given: Any) -> tuple[int, ...]:
    rates = forward(model, params, *given).rates
    assert rates is not None
    return rates.shape


SEARCHES = st.builds(
    ShapeSearch, st.sampled_from([0.1, 0.5, 2.0]), st.sampled_from([0.2, 1.0, 5.0]), st.just(5)
)


@check(
    "the choice of a surrogate's number against loops",
    "oracle",
    "DSPIKE M9",
    st.tuples(SEARCHES, st.sampled_from([0.15, 1.0, 3.0]), cases.SEEDS),
    quick=10,
    full=150,
)
def searched(drawn: Any, record: Recorder) -> None:
    """Compare the number that is chosen for a network, and that its loss has no surrogate in it."""
    search, shape, seed = drawn
    rng = np.random.default_rng(seed)
    config = make_config(
        arch="1:3",
        surrogate="dspike",
        surrogate_shape=shape,
        surrogate_search=True,
        search_eps=search.eps,
        search_step=search.step,
        search_weights=search.weights,
        ops="numpy",
        dtype="float64",
        seed=seed % 1000,
    )
    net, name = config.build_network(1, 3), "stem.conv0.weight"
    batch = rng.normal(size=(4, 4, 4, 1)), rng.integers(0, 3, 4)
    state = State(init_params(net, rng), init_buffers(net), {}, rng)
    given = state.buffers, config, NUMPY, batch, config.side_coefficient(1, 7)

    def loss(w: Any, number: float = 1.0) -> float:
        moved = config.in_epoch(net, 0, number)
        return objective(moved, state.params | {name: w}, *given).loss

    def gradient(w: Any, number: float) -> Any:
        moved = config.in_epoch(net, 0, number)
        return gradients(moved, state.params | {name: w}, *given)[2][name]

    w = state.params[name]
    indices = search.indices(
        w, np.random.default_rng(np.random.SeedSequence(seed % 1000, spawn_key=(4, 0)))
    )
    eps = search.eps * w.std()
    want = temperature.choose(loss, gradient, w, shape, indices, eps, search.step)
    record.true("DSPIKE", "distinct weights in order", bool((np.diff(indices) > 0).all()))
    record.equal("DSPIKE", "the loss with another number", loss(w, 7.0), loss(w))
    found = search_shape(state, net, config, NUMPY, batch, 7)
    ranked = sorted(want["cosines"])
    if ranked[-1] - ranked[-2] < 1e-9 and len(set(want["candidates"])) == 3:
        record.reject()
    record.close("DSPIKE M9", "the number", found, want["b"], 1e-12)


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
