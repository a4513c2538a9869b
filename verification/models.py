"""Checks of the neurons and batch norms of other methods, alone and in a network."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.equations.batchnorm import (
    NormInput,
    Running,
    batchnorm_backward,
    batchnorm_forward,
)
from refsnn.equations.neurons.sigmoid import sigmoid
from refsnn.network import Network, architecture, backward, forward
from refsnn.network.layers import Context, neuron_forward
from refsnn.ops import (
    CROSS_ENTROPY,
    LIF,
    NEURONS,
    NORMS,
    NUMPY,
    BatchNorm,
    Neuron,
    reset,
)
from refsnn.oracle.naive import neurons as naive_neurons
from refsnn.oracle.naive import norms as naive_norms
from verification import cases
from verification.differences import compare_in_a_direction
from verification.record import Recorder
from verification.registry import check

#: batch norms that are a map to gamma and beta, after a convolution
AFFINE = [name for name, kind in NORMS.items() if not kind.of_inputs]
#: the clause of each method, then those of its decisions
CLAUSES = {
    "plif": "PLIF M7",
    "glif": "GLIF",
    "diet": "DIET M8",
    "mpbn": "MPBN M6",
    "real_spike": "REALSPIKE M13",
}
OPTIONS = {"plif": "input_decay", "diet": "reset_leaks"}
GLIF_NAMES = {"l": "leak", "r": "reset", "g": "gain"}  # those of the loops


def check_each(name: str, evidence: str, quick: int, full: int, without: str = "") -> Any:
    """Register a check of every method's neurons, of its clauses but those in `without`."""

    def register(function: Any) -> Any:
        for method, clauses in CLAUSES.items():
            judged = " ".join(clause for clause in clauses.split() if clause not in without)
            check(f"{name} {method}", evidence, judged, model_cases(method), quick, full)(function)
        return function

    return register


@dataclass(repr=False)
class ModelCase:
    method: str
    model: Neuron
    neuron: dict[str, Any]
    p: LIF
    c_seq: Any  # (T, N, H, W, C)
    dy_seq: Any
    params: dict[str, Any]
    running: Running
    training: bool
    ops: Any
    clause: str


@st.composite
def model_cases(draw: Any, method: str) -> ModelCase:
    """Draw a layer of a method's neurons, most of them with a reset to zero."""
    neuron = draw(cases.neurons())
    neuron["tau"] = min(neuron["tau"], 0.9)
    if method == "glif":
        neuron |= {"v_th": min(neuron["v_th"], 0.75), "reset": "zero", "reset_amount": "v_th"}
    if method == "diet":
        neuron |= {"reset": "subtract", "reset_amount": "v_th"}
    clause, *decisions = CLAUSES[method].split()
    options: dict[str, bool] = {}
    if method in OPTIONS and draw(st.booleans()):
        (clause,) = decisions
        options[OPTIONS[method]] = False
    model, p = NEURONS[method](**options), cases.lif_of(neuron)
    shape = tuple(draw(st.integers(1, most)) for most in (4, 2, 2, 2, 3))
    rng = np.random.default_rng(draw(cases.SEEDS))
    start = model.initial(p, shape[-1], shape[0])
    params = {name: x + rng.normal(0, 0.2, x.shape) for name, x in start.items()}
    if "v_th" in params:
        params["v_th"] = np.maximum(params["v_th"], cases.LEAST_THRESHOLD)
    return ModelCase(
        method,
        model,
        neuron,
        p,
        rng.normal(0.6, 1.0, shape),
        rng.normal(size=shape),
        params,
        Running(rng.normal(0.3, 0.3, shape[-1]), rng.uniform(0.5, 1.5, shape[-1])),
        draw(st.booleans()),
        cases.get_ops(draw(cases.BACKENDS)),
        clause,
    )


def loops(case: ModelCase) -> dict[str, Any]:
    """Compute the case by naive loops, with the parameters' names as the network has them."""
    c_seq, dy_seq, params, neuron = case.c_seq, case.dy_seq, case.params, case.neuron
    options = [getattr(case.model, OPTIONS[case.method])] if case.method in OPTIONS else []
    if case.method == "plif":
        return naive_neurons.plif(c_seq, dy_seq, params["w"][0], neuron, *options)
    if case.method == "glif":
        raw = {GLIF_NAMES.get(name, name): x for name, x in params.items()}
        found = naive_neurons.glif(c_seq, dy_seq, raw, neuron)
        return found | {own: found[name] for own, name in GLIF_NAMES.items()}
    if case.method == "diet":
        leak, v_th = params["leak"][0], params["v_th"][0]
        return naive_neurons.diet(c_seq, dy_seq, leak, v_th, neuron, *options)
    if case.method == "real_spike":
        return naive_neurons.real_spike(c_seq, dy_seq, params["a"], neuron["tau"], neuron)
    gamma, beta, (mean, var) = params["weight"], params["bias"], case.running
    found = naive_neurons.mpbn(c_seq, dy_seq, gamma, beta, mean, var, neuron, case.training)
    return found | {"weight": found["gamma"], "bias": found["beta"]}


def compute(case: ModelCase, p: LIF | None = None) -> tuple[Any, Any, Any, Any, Any]:
    """Return what the layer passes on, statistics, cache, dL/dc and the parameters' gradients."""
    y_seq, running, cache = case.ops.neuron_forward(
        case.model, case.c_seq, case.params, case.running, p or case.p, case.training
    )
    return y_seq, running, cache, *case.ops.neuron_backward(case.model, case.dy_seq, cache)


def margin(case: ModelCase, cache: Any) -> float:
    """Return the least distance of a potential from its threshold or from a kink of the slope."""
    own = case.neuron
    if case.method == "mpbn":
        x = cache.v_seq - case.p.v_th
    else:
        x = cache.u_pre_seq - cache.constants.v_th
        if own["surrogate"] == "triangular":  # its edges lie at each channel's threshold
            own, x = own | {"width": 1.0}, x / cache.constants.v_th
    return min(float(np.abs(x - kink).min()) for kink in [0.0, *cases.kinks(own)])


@check_each("loops of", "oracle", 16, 500)
def neuron_values(case: ModelCase, record: Recorder) -> None:
    """Compare spikes, potentials and all gradients."""
    y_seq, running, cache, dc_seq, grads = compute(case)
    if margin(case, cache) < 1e-9:
        record.reject()
    want, clause = loops(case), case.clause
    unit = case.params["v_th"][0] if case.method == "diet" else 1.0
    record.close(clause, "u_pre", cache.u_pre_seq * unit, want["u_pre"], 1e-11, axes="tnhwc")
    record.close(clause, "what is passed on", y_seq, want["o"], 1e-13, axes="tnhwc")
    if case.method == "mpbn":
        record.close("MPBN", "normalised potentials", cache.v_seq, want["v"], 1e-10, axes="tnhwc")
        record.close("MPBN", "running mean", running.mean, want["mean"], 1e-12)
        record.close("MPBN", "running variance", running.var, want["var"], 1e-12)
    record.values_ok()
    scale = 1e-3 + float(np.abs(want["c"]).max()) + float(np.abs(case.dy_seq).max())
    record.close(clause, "dL/dc", dc_seq, want["c"], 1e-9, scale, axes="tnhwc")
    for name, g in grads.items():
        size = scale * case.c_seq.size
        own = np.reshape(want[name], g.shape)
        record.close(clause, f"dL/d{name}", g, own, 1e-10, size)
    if case.method == "real_spike":
        record.equal("M13", "amplitudes", case.params["a"].shape, case.c_seq.shape[-1:])
    if case.method == "mpbn":
        kept_as_they_are(case, cache, record)


def kept_as_they_are(case: ModelCase, cache: Any, record: Recorder) -> None:
    """Check that the next step starts from potentials that were reset, and not normalised."""
    u_pre, o = cache.u_pre_seq[:-1], cache.o_seq[:-1]
    want = case.p.tau * reset(u_pre, o, case.p) + case.c_seq[1:]
    record.close("M6", "the next potentials", cache.u_pre_seq[1:], want, 1e-12, 1.0)


@check_each("limits of", "structure", 10, 300)
def neuron_limits(case: ModelCase, record: Recorder) -> None:
    """Check the constants at which a neuron is the LIF, and the scale of Diet-SNN's threshold."""
    p, channels, steps = case.p, case.c_seq.shape[-1], len(case.c_seq)
    if case.method == "diet":
        *_, cache, dc_seq, grads = compute(case)
        along = float(grads["v_th"][0] * case.params["v_th"][0])
        charge = float((dc_seq * case.c_seq).sum())
        size = float(np.abs(dc_seq * case.c_seq).sum()) + 1.0
        record.close("DIET M8", "v dL/dv + sum c dL/dc", along + charge, 0.0, 1e-12, size)
        limited = case.model.limited(case.params | {"leak": np.full(1, 1.25)})
        record.equal("DIET", "limit of the leak", limited["leak"], np.ones(1))
        return
    if case.method == "mpbn":
        kept_as_they_are(case, compute(case)[2], record)
    if case.method == "real_spike":
        y_seq, *_ = compute(case)
        case.params["a"] = case.params["a"] * np.where(np.arange(channels) == 0, 2.0, 1.0)
        larger, *_ = compute(case)
        record.equal("M13", "one channel's spikes, doubled", larger[..., 0], 2 * y_seq[..., 0])
        record.equal("M13", "the others'", larger[..., 1:], y_seq[..., 1:])
    lif, params, currents = p, case.model.initial(p, channels, steps), case.c_seq
    if case.method == "plif":
        s = float(sigmoid(case.params["w"])[0])
        lif, params = replace(p, tau=1 - s), case.params
        if case.model.input_decay:
            currents = s * currents
    if case.method == "glif":
        far = 60.0  # a gate of 1, or with a minus of 0
        params |= {"alpha": far + 0 * params["alpha"], "beta": -far + 0 * params["beta"]}
        params["gamma"] = far + 0 * params["gamma"]
    if case.method == "mpbn":  # normalised by 0 and 1, the potential itself
        one = np.ones(channels)
        case.running, case.training = Running(0 * one, one), False
        params = {"weight": np.sqrt(one + 1e-5), "bias": 0 * one}
    case.params = params
    y_seq, _, cache, dc_seq, _ = compute(case, p)
    o_seq, plain = NUMPY.lif_forward(currents, None, lif)
    if float(np.abs(plain.u_pre_seq - p.v_th).min()) < 1e-9 or margin(case, cache) < 1e-9:
        record.reject()
    record.equal(case.clause, "spikes of the LIF", y_seq, o_seq, "tnhwc")
    record.close(case.clause, "its potentials", cache.u_pre_seq, plain.u_pre_seq, 1e-12, 1.0)
    record.values_ok()
    want = NUMPY.lif_backward(case.dy_seq, plain).dc_seq * (
        s if case.method == "plif" and currents is not case.c_seq else 1
    )
    record.close(case.clause, "its gradient", dc_seq, want, 1e-11, 1.0 + float(np.abs(want).max()))


@check_each("kernels of", "twin", 10, 400, without="M6 M13")
def neuron_twins(case: ModelCase, record: Recorder) -> None:
    """Compare the compiled steps with NumPy's, bit for bit."""
    found = []
    for ops in (NUMPY, cases.get_ops("numba")):
        case.ops = ops
        found.append(compute(case))
    (y, _, cache, dc, grads), (other_y, _, other_cache, other_dc, other_grads) = found
    record.equal(case.clause, "what is passed on", other_y, y, "tnhwc")
    record.equal(case.clause, "u_pre", other_cache.u_pre_seq, cache.u_pre_seq, "tnhwc")
    record.equal(case.clause, "dL/dc", other_dc, dc, "tnhwc")
    for name, g in grads.items():
        record.equal(case.clause, f"dL/d{name}", other_grads[name], g)


@dataclass(repr=False)
class NormModelCase:
    method: str
    x_seq: Any  # (T, N, H, W, C)
    dy_seq: Any
    params: dict[str, Any]
    running: Running
    norm: BatchNorm
    training: bool


@st.composite
def norm_model_cases(draw: Any) -> NormModelCase:
    """Draw a layer of a method's batch norm."""
    method = draw(st.sampled_from(AFFINE))
    shape = tuple(draw(st.integers(1, most)) for most in (4, 3, 2, 2, 3))
    rng = np.random.default_rng(draw(cases.SEEDS))
    model, (steps, channels) = NORMS[method](), (shape[0], shape[-1])
    start = model.initial(channels, steps)
    kept = (steps, channels) if model.running_by_step else (channels,)
    return NormModelCase(
        method,
        rng.normal(rng.normal(size=channels), 1.5, shape),
        rng.normal(size=shape),
        {name: x + rng.normal(0, 0.3, x.shape) for name, x in start.items()},
        Running(rng.normal(size=kept), rng.uniform(0.5, 2, kept)),
        model.constants(BatchNorm(momentum=draw(st.sampled_from([0.1, 0.3])))),
        draw(st.booleans()),
    )


def compute_norm(case: NormModelCase) -> tuple[Any, Any, Any, Any]:
    """Return y, the running statistics, dL/dx and the parameters' gradients."""
    model = NORMS[case.method]()
    affine = model.affine(case.params)
    y, running, cache = batchnorm_forward(
        case.x_seq, *affine, case.running, case.norm, case.training
    )
    d = batchnorm_backward(case.dy_seq, cache)
    return y, running, d.dx_seq, model.gradients(d.dgamma, d.dbeta, case.params)


@check("other batch norms against loops", "oracle", "TEBN BNTT", norm_model_cases(), 40, 1500)
def norm_values(case: NormModelCase, record: Recorder) -> None:
    """Compare values, statistics and all gradients."""
    clause, (mean, var) = case.method.upper(), case.running
    known = case.x_seq, case.dy_seq, case.params["weight"]
    rest = mean, var, case.training, case.norm.eps, case.norm.momentum
    if case.method == "tebn":
        want = naive_norms.tebn(*known, case.params["bias"], case.params["p"], *rest)
        want["bias"] = want["beta"]
    else:
        want = naive_norms.bntt(*known, *rest)
    want["weight"] = want["gamma"]
    y, running, dx_seq, grads = compute_norm(case)
    record.close(clause, "y", y, want["y"], 1e-9, axes="tnhwc")
    record.close(clause, "running mean", running.mean, want["mean"], 1e-12)
    record.close(clause, "running variance", running.var, want["var"], 1e-12)
    record.values_ok()
    scale = float(np.abs(case.dy_seq).max()) * case.x_seq.size
    record.close(clause, "dL/dx", dx_seq, want["x"], 1e-9, max(1.0, np.abs(want["x"]).max()))
    for name, g in grads.items():
        record.close(clause, f"dL/d{name}", g, want[name], 1e-10, scale * (1 + np.abs(y).max()))


@check("limits of other batch norms", "structure", "TEBN BNTT", norm_model_cases(), 30, 800)
def norm_limits(case: NormModelCase, record: Recorder) -> None:
    """Check the parameters at which a batch norm is the paper's."""
    clause, channels = case.method.upper(), case.x_seq.shape[-1]
    if case.method == "tebn":
        case.params["p"] = np.ones(len(case.x_seq))
        beta, gamma = case.params["bias"], case.params["weight"]
    else:
        case.x_seq, case.dy_seq = case.x_seq[:1], case.dy_seq[:1]
        case.params = {"weight": case.params["weight"][:1]}
        case.running = Running(*(x[:1] for x in case.running))
        gamma, beta = case.params["weight"][0], np.zeros(channels)
    y, running, dx_seq, _ = compute_norm(case)
    plain = Running(*(x.reshape(-1, channels)[0] for x in case.running))
    want, moved, cache = batchnorm_forward(
        case.x_seq, gamma, beta, plain, replace(case.norm, statistics="pooled"), case.training
    )
    record.close(clause, "y of the paper's batch norm", y, want, 1e-13)
    record.close(clause, "its running variance", running.var.reshape(channels), moved.var, 1e-13)
    record.values_ok()
    want = batchnorm_backward(case.dy_seq, cache).dx_seq
    record.close(clause, "its dL/dx", dx_seq, want, 1e-12, 1.0 + float(np.abs(want).max()))


@check("tdBN against loops", "oracle", "M1 M2", cases.norm_cases(), quick=20, full=600)
def tdbn_values(case: Any, record: Recorder) -> None:
    """Compare tdBN alone, and a sum of two in which both are scaled, with loops."""
    norm = BatchNorm(scale=case.norm["scale"], eps=case.norm["eps"])
    known = case.gamma, case.beta
    rest = case.mean, case.var, norm.scale, case.training, norm.eps
    running = Running(case.mean, case.var)
    y, _, cache = batchnorm_forward(case.x_seq, *known, running, norm, case.training)
    want = naive_norms.tdbn(case.x_seq, case.dy_seq, *known, *rest)
    record.close("M1", "y", y, want["y"], 1e-10)
    alpha = 0.75
    first, other = (NormInput(x, *known, running) for x in (case.x_seq, case.dy_seq))
    net = Network(architecture("1:2"), 1, 2, norm=norm, merge_scale=alpha)
    context = Context(net, {}, {}, NUMPY, case.training)
    _, layer = neuron_forward(first, other, "lif", ("bn", "skip.bn"), context)
    rest = case.mean, case.var, alpha * norm.scale, case.training, norm.eps
    terms = [naive_norms.tdbn(x, case.dy_seq, *known, *rest) for x in (first[0], other[0])]
    currents = layer.cache.lif.u_pre_seq[0]  # of the first step
    record.close("M2", "sum of both", currents, (terms[0]["y"] + terms[1]["y"])[0], 1e-10)
    _, bare = neuron_forward(first, other.x_seq, "lif", ("bn",), context)
    record.close("M2", "a bare skip", bare.cache.lif.u_pre_seq[0], (y + other.x_seq)[0], 1e-13)
    record.values_ok()
    d = batchnorm_backward(case.dy_seq, cache)
    scale = 1 + max(float(np.abs(want[name]).max()) for name in ("x", "gamma"))
    record.close("M1", "dL/dx", d.dx_seq, want["x"], 1e-10, scale)
    record.close("M1", "dL/dgamma", d.dgamma, want["gamma"], 1e-10, scale)


@check("tdBN's scale is a factor of gamma", "structure", "M1", cases.norm_cases(), 20, 400)
def scale_of_gamma(case: Any, record: Recorder) -> None:
    """Check that the scale does to y what the same factor of gamma does, and dL/dgamma has it."""
    scaled, plain = BatchNorm(scale=0.4), BatchNorm()
    running = Running(case.mean, case.var)
    known = case.beta, running
    y, _, cache = batchnorm_forward(case.x_seq, case.gamma, *known, scaled, case.training)
    want, _, other = batchnorm_forward(case.x_seq, 0.4 * case.gamma, *known, plain, case.training)
    record.close("M1", "y", y, want, 1e-14)
    record.values_ok()
    got = batchnorm_backward(case.dy_seq, cache).dgamma
    by_factor = 0.4 * batchnorm_backward(case.dy_seq, other).dgamma
    record.close("M1", "dL/dgamma", got, by_factor, 1e-12, 1 + float(np.abs(by_factor).max()))


@st.composite
def network_models(draw: Any) -> tuple[str, str]:
    """Draw a neuron and a batch norm of a network, at least one of them another method's."""
    neuron = draw(st.sampled_from(["lif", *NEURONS]))
    norm = draw(st.sampled_from(AFFINE if neuron == "lif" else ["bn", *AFFINE]))
    return neuron, norm


@check(
    "smooth networks of other methods",
    "differences",
    " ".join([*(names.split()[0] for names in CLAUSES.values()), *map(str.upper, AFFINE), "M2"]),
    st.tuples(
        cases.net_cases(most=3, images=3, room=2, smooth=True, surrogate="sigmoid"),
        network_models(),
    ),
    quick=16,
    full=500,
)
def smooth_networks(drawn: Any, record: Recorder) -> None:
    """Compare <grad, v> with differences of the smooth network's loss."""
    case, (neuron, norm) = drawn
    if case.net["neuron"]["reset_gradient"] == "detached":
        record.reject()
    steps = len(case.x_seq)
    lif = replace(case.model.lif, tau=min(case.model.lif.tau, 0.9), v_th=0.75)
    reset = {"diet": "subtract", "glif": "zero"}.get(neuron, lif.reset)
    amount = lif.reset_amount if reset == lif.reset == "subtract" and neuron != "diet" else None
    net = replace(
        case.model,
        lif=replace(lif, reset=reset, reset_amount=amount),
        neuron_model=NEURONS[neuron]() if neuron in NEURONS else None,
        norm_model=NORMS[norm]() if norm in NORMS else None,
        merge_scale=case.side + 0.5,
        norm_identity=len(case.labels) > 2,
        steps=steps,
    )
    start, buffers = cases.random_numbers(net, case.rng)
    clauses = [CLAUSES[neuron].split()[0]] if neuron in CLAUSES else []
    clauses += [norm.upper()] if norm in NORMS else []
    clauses.append("M2")

    def objective_of(params: Any) -> Any:
        run = forward(net, params, buffers, case.x_seq, NUMPY, case.training)
        return run, *NUMPY.objective_forward(
            run.branches, case.labels, case.side, "logits", CROSS_ENTROPY
        )

    base, _, cache = objective_of(start)
    grads = backward(base, NUMPY.objective_backward(cache))

    def value_of(params: Any) -> float:
        return objective_of(params)[1]

    compare_in_a_direction(value_of, start, grads, case.rng, record, " ".join(clauses))
