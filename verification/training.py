"""Checks of training (Algorithm 1): whole iterations against loops, settings, and divergence."""

import copy
from itertools import product
from operator import attrgetter
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.network import encode, forward
from refsnn.ops import METHODS, NUMPY
from refsnn.oracle.naive import data as naive_data
from refsnn.oracle.naive import network as naive_network
from refsnn.oracle.naive import objective
from refsnn.oracle.naive import training as naive
from refsnn.training.algorithm import evaluate, main_logits, train_step
from refsnn.training.checkpoint import State
from refsnn.training.config import PRESETS, TrainConfig, make_config
from refsnn.training.monitor import Diverged, first_gradient_norm
from refsnn.training.optimizer import OPTIMIZERS, cosine, init_state
from refsnn.training.trainer import initial_state
from verification import cases
from verification.record import Recorder
from verification.registry import check


@st.composite
def settings(draw: Any) -> dict[str, Any]:
    return {
        "method": draw(st.sampled_from(["vanilla", "shortcut", "evolutionary", "evolutionary"])),
        "lam": draw(st.sampled_from([0.25, 0.8])),
        "shortcut_weight": draw(st.sampled_from([1.0, 0.3])),
        "lam_clock": draw(st.sampled_from(["iteration", "epoch"])),
        "batches_per_epoch": draw(st.sampled_from([2, 4, 1])),
        "total": 4,
        "lr": draw(st.sampled_from([0.01, 0.1])),
        "optimizer": draw(st.sampled_from(["sgd", "adamw"])),
        "momentum": draw(st.sampled_from([0.9, 0.0])),
        "weight_decay": draw(st.sampled_from([0.02, 0.3])),
        "decay_on": draw(st.sampled_from(("weights", "all"))),
        "steps": 2,
        "branch_sum": draw(st.sampled_from(["logits", "losses"])),
    }


def config_of(plain: dict[str, Any], dtype: str = "float64") -> TrainConfig:
    return make_config(
        method=plain["method"],
        lam=plain["lam"],
        shortcut_weight=plain["shortcut_weight"],
        lam_clock=plain["lam_clock"],
        epochs=plain["total"] // plain["batches_per_epoch"],
        lr=plain["lr"],
        optimizer=plain["optimizer"],
        momentum=plain["momentum"],
        weight_decay=plain["weight_decay"],
        decay_on=plain["decay_on"],
        steps=plain["steps"],
        branch_sum=plain["branch_sum"],
        dtype=dtype,
    )


@st.composite
def training_cases(draw: Any) -> Any:
    """Draw a network (without branches for vanilla), four batches of images, and settings."""
    plain, case = draw(settings()), draw(cases.net_cases())
    if plain["method"] == "vanilla":
        case.net["branches"] = "none"
        case.model = cases.network_of(case.net)
        case.params = {name: case.params[name] for name in case.model.shapes()}
    shape = case.x_seq.shape[1:]
    batches = [
        (case.rng.normal(size=shape), case.rng.integers(0, case.net["num_classes"], shape[0]))
        for _ in range(plain["total"])
    ]
    return case, plain, batches


def train(
    case: Any, plain: dict[str, Any], batches: list[Any]
) -> tuple[State, list[Any], list[Any]]:
    """Train with the package; return the last state, each step, and its layers of neurons."""
    config = config_of(plain)
    state = State(
        dict(case.params),
        dict(case.buffers),
        init_state(case.params, config.optimizer),
        np.random.default_rng(0),
    )
    steps, neurons = [], []
    for batch in batches:
        x_seq = encode(batch[0], config.steps)
        neurons.append(lifs(forward(case.model, state.params, state.buffers, x_seq, case.ops)))
        steps.append(
            train_step(state, case.model, config, case.ops, batch, plain["batches_per_epoch"])
        )
    return state, steps, neurons


TRAINING = "ALG1-TRAIN D17 D15 D16 R3 D13 D25 D7 EQ10"


@check("training against loops", "oracle", TRAINING, training_cases(), quick=6, full=80)
def training_values(case: Any, record: Recorder) -> None:
    """Compare losses, coefficients, rates, statistics and parameters over two or four steps."""
    case, plain, batches = case
    batches = batches[: int(case.rng.choice([2, 4]))]
    before = {name: value.copy() for name, value in case.params.items()}
    state, steps = train_steadily(case, plain, batches, record)
    want = naive.train(case.net, case.params, case.buffers, batches, plain)
    clock = "D15" if plain["method"] == "shortcut" else "D16 EQ10"
    for index, step in enumerate(steps):
        record.close(clock, f"coefficient {index + 1}", step.side, want["sides"][index], 1e-15, 1.0)
        lr = naive.cosine(plain["lr"], index + 1, plain["total"])
        record.close("R3", f"learning rate {index + 1}", step.lr, lr, 1e-14)
        record.close(
            "D13 D7 ALG1-TRAIN", f"loss {index + 1}", step.loss, want["losses"][index], 1e-10
        )
    for name, value in want["buffers"].items():
        record.close("D25 ALG1-TRAIN", name, state.buffers[name], value, 1e-10, axes="c")
    record.equal("ALG1-TRAIN", "iterations", state.iteration, len(batches))
    compare_parameters(plain, steps, state.params, want["params"], record)
    for name, value in before.items():
        record.equal("ALG1-TRAIN", f"{name} of the first state", case.params[name], value)


@check(
    "rates of training steps", "oracle", "ALG1-TRAIN D15 D16 EQ10 R3", settings(), quick=2, full=20
)
def rates_of_steps(plain: Any, record: Recorder) -> None:
    """Compare branch weight and learning rate of each step, for all methods and clocks."""
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(2, 4, 4, 1)), np.array([0, 1])
    for method, clock, batches in product(METHODS, ("iteration", "epoch"), (2, 4)):
        case = plain | {"method": method, "lam_clock": clock, "lr": 0.01}
        case["batches_per_epoch"] = batches  # of 4 iterations: two epochs, or one
        config = config_of(case).changed(arch="1-1:1-1", ops="numpy")
        net = config.build_network(1, 2)
        state = initial_state(config, net)
        for i in range(1, case["total"] + 1):
            step = train_step(state, net, config, NUMPY, batch, case["batches_per_epoch"])
            name, want = (
                f"{method}, {clock}, {batches}: {{}} at {i}",
                naive.side_coefficient(i, case),
            )
            clause = "ALG1-TRAIN D15" if method == "shortcut" else "ALG1-TRAIN D16 EQ10"
            record.close(clause, name.format("weight"), step.side, want, 1e-15, 1.0)
            want = naive.cosine(case["lr"], i, case["total"])
            record.close("R3 ALG1-TRAIN", name.format("learning rate"), step.lr, want, 1e-14)


def train_steadily(
    case: Any, plain: dict[str, Any], batches: list[Any], record: Recorder
) -> tuple[State, list[Any]]:
    """Train with `train`, rejecting the draw where rounding errors grow.

    That is next to a threshold, where gradients explode, and where a gradient is all rounding and
    AdamW divides by the root of its square.
    """
    try:
        with np.errstate(all="ignore"):
            state, steps, neurons = train(case, plain, batches)
    except Diverged as error:
        if loops_survive(case, plain, batches):
            record.true("ALG1-TRAIN", f"loops diverge too ({error})", False)
        record.reject()
    for step, layers in zip(steps, neurons, strict=True):
        whole = max(float(np.abs(g).max()) for g in step.grads.values())
        near = min(cases.near_threshold(c.u_pre_seq, case.net["neuron"]) for c in layers)
        noise = plain["optimizer"] == "adamw" and any(
            ((g != 0) & (np.abs(g) < 1e-8 * whole)).any() for g in step.grads.values()
        )
        if near < 1e-6 or whole > 1e3 or noise:
            record.reject()
    return state, steps


def loops_survive(case: Any, plain: dict[str, Any], batches: list[Any]) -> bool:
    """Tell whether the naive loops get through where the package has diverged."""
    try:
        with np.errstate(all="ignore"):
            want = naive.train(case.net, case.params, case.buffers, batches, plain)
    except (ArithmeticError, ValueError):
        return False
    return all(bool((np.abs(value) < 1e6).all()) for value in want["params"].values())


def compare_parameters(
    plain: dict[str, Any], steps: list[Any], params: Any, want: Any, record: Recorder
) -> None:
    for name, value in want.items():
        record.close(
            "D17 ALG1-TRAIN", name, params[name], value, 1e-10, max(1.0, float(np.abs(value).max()))
        )


def lifs(run: Any) -> list[Any]:
    from refsnn.network import neuron_caches

    return [cache for _, cache in neuron_caches(run)]


@st.composite
def update_cases(draw: Any) -> Any:
    rng = np.random.default_rng(draw(cases.SEEDS))
    names = [
        "stem.conv0.weight",
        "stem.bn0.weight",
        "stem.bn0.bias",
        "head.fc.weight",
        "head.fc.bias",
        "branch.stage1.fc.bias",
        "stage2.block0.skip.bn.weight",
        "stem.lif0.weight",
        "stage2.block0.lif1.w",
    ]
    params = {name: rng.normal(size=3) for name in names}
    return params, [{n: rng.normal(size=3) for n in names} for _ in range(3)], draw(settings())


@check("optimisers against loops", "oracle", "D17 R3 R7", update_cases(), quick=40, full=1000)
def optimizers(case: Any, record: Recorder) -> None:
    """Compare three updates, number by number; check which parameters decay; inputs unmutated."""
    params, gradients, plain = case
    config, sgd = config_of(plain), plain["optimizer"] == "sgd"
    state, now = init_state(params, config.optimizer), params
    scalars = {name: [(float(w), 0.0, 0.0) for w in value] for name, value in params.items()}
    for i, grads in enumerate(gradients, 1):
        kept = copy.deepcopy((now, grads, state))
        lr = cosine(config.optimizer.lr, i, 4)
        record.close("R3", "learning rate", lr, naive.cosine(config.optimizer.lr, i, 4), 1e-15)
        new, moved = OPTIMIZERS[config.optimizer.optimizer](
            now, grads, state, i, lr, config.optimizer
        )
        for old, given in zip(kept, (now, grads, state), strict=True):
            for name, value in old.items():
                record.equal("D17", f"{name} unmutated", given[name], value)
        now, state = new, moved
        for name, values in scalars.items():
            is_weight = name.endswith((".conv0.weight", ".fc.weight"))
            of_neuron, every = ".lif" in name, plain["decay_on"] == "all"
            decays = (is_weight or every) and not of_neuron  # R7
            decay = plain["weight_decay"] if decays else 0.0
            for k, (w, a, b) in enumerate(values):
                g = float(grads[name][k])
                if sgd:
                    w, a = naive.sgd_step(w, g, a, lr, plain["momentum"], decay)[:2]
                else:
                    w, a, b = naive.adamw_step(w, g, a, b, i, lr, decay)
                values[k] = (w, a, b)
            want = [w for w, _, _ in values]
            clause = "R7" if of_neuron else "D17"
            record.close(clause, f"{name} after step {i}", now[name], want, 1e-13, 1.0)


@check("what never decays", "structure", "R7", update_cases(), quick=10, full=200)
def no_decay(case: Any, record: Recorder) -> None:
    """Check that a neuron's parameters stay where their gradients are 0, and weights do not."""
    params, _, plain = case
    config = config_of(plain | {"weight_decay": 0.25})
    still = {name: np.zeros_like(value) for name, value in params.items()}
    state = init_state(params, config.optimizer)
    update = OPTIMIZERS[config.optimizer.optimizer]
    moved, _ = update(params, still, state, 1, 0.5, config.optimizer)
    for name in ("stem.lif0.weight", "stage2.block0.lif1.w"):
        record.equal("R7", name, moved[name], params[name])
    shrunk = np.abs(moved["head.fc.weight"]) < np.abs(params["head.fc.weight"])
    record.true("R7", "weights decay", shrunk.all())


@check("presets", "structure", "D1 D2 D3 D4 D17 D10 D11 D12 D13 D15 D16 D24")
def presets(case: Any, record: Recorder) -> None:
    """Compare the presets with the decisions' values, which are written here independently."""
    for name in PRESETS:
        config = make_config(name)
        network = config.build_network(3, 10)
        code = name == "authors_code"
        record.equal(
            "D1",
            f"tau and v_th of {name}",
            (config.neuron.tau, config.neuron.v_th),
            (0.25, 0.5) if code else (0.5, 1.0),
        )
        record.equal(
            "D1",
            "tau and v_th of its neuron",
            (network.lif.tau, network.lif.v_th),
            (0.25, 0.5) if code else (0.5, 1.0),
        )
        surrogate = vars(network.lif.surrogate)
        want = {"a": 1.0, "edge": "outside"} if code else {"k": 0.5}
        record.equal("D4", f"surrogate of {name}", surrogate, want)
        record.equal("D2", f"firing on v_th in {name}", network.lif.fire_at_threshold, False)
        record.equal("D3", f"detached reset in {name}", network.lif.reset_gradient, "full")
        chosen = (
            config.optimizer.optimizer,
            config.optimizer.lr,
            config.optimizer.weight_decay,
            config.optimizer.decay_on,
        )
        optimizer = ("sgd", 0.1, 1e-4, "weights") if code else ("adamw", 0.01, 0.02, "all")
        record.equal("D17", f"optimiser of {name}", chosen, optimizer)
        if code:
            record.equal("D17", "momentum", config.optimizer.momentum, 0.9)
        if name != "digits":
            record.equal("D17", f"length of {name}", (config.batch_size, config.epochs), (128, 300))
        record.equal("D10", "readout", config.network.readout, "mean")
        record.equal(
            "D11",
            "branches",
            [b.branch for b in network.blocks() if b.branch],
            ["branch.stage1", "branch.stage2", "head"],
        )
        shapes = network.shapes()
        own = [n for n in shapes if n.startswith("branch.")]
        fc = [f"branch.stage{s}.fc.{part}" for s in (1, 2) for part in ("weight", "bias")]
        record.equal("D12", "parameters of branches", own, fc)
        record.equal("D13", "sum of", config.objective.branch_sum, "logits")
        record.equal("D15", "shortcut's weight", config.objective.shortcut_weight, 1.0)
        record.equal(
            "D16",
            "clock and lambda",
            (config.objective.lam_clock, config.objective.lam),
            ("iteration", 0.25),
        )
        record.equal("D24", "cutout", config.data.cutout, 0)


#: setting, another value of it, clause, the network's attribute that it sets
SETTINGS = [
    ("tau", 0.7, "D1", "lif.tau"),
    ("v_th", 0.7, "D1", "lif.v_th"),
    ("fire_at_threshold", True, "D2", "lif.fire_at_threshold"),
    ("reset_gradient", "detached", "D3", "lif.reset_gradient"),
    ("surrogate_shape", 0.7, "D4", "lif.surrogate.k"),
    ("norm_statistics", "per_step", "D8", "norm.statistics"),
    ("norm_scale", 0.7, "D8", "norm.scale"),
    ("downsample", "avgpool", "D9", "downsample"),
    ("readout", "sum", "D10", "readout"),
    ("branches", "block", "D11", "branches"),
]


@check("settings", "structure", "D1 D2 D3 D4 D8 D9 D10 D11")
def settings_arrive(case: Any, record: Recorder) -> None:
    """Check that a setting changes its own attribute of the network and no other."""
    paths = [path for *_, path in SETTINGS]
    default = {path: attrgetter(path)(make_config().build_network(1, 2)) for path in paths}
    for name, value, clause, path in SETTINGS:
        network = make_config(**{name: value}).build_network(1, 2)
        got = {p: attrgetter(p)(network) for p in paths}
        record.equal(clause, f"network with {name} {value}", got, default | {path: value})


@check("an iteration that diverges", "structure", "ALG1-TRAIN", training_cases(), quick=4, full=60)
def divergence(case: Any, record: Recorder) -> None:
    """Check that nothing changes where the loss is not finite, and that the layer is named."""
    case, plain, batches = case
    config = config_of(plain)
    bad = {name: value.copy() for name, value in case.params.items()}
    bad["head.fc.weight"][0, 0] = np.nan
    state = State(
        bad, dict(case.buffers), init_state(bad, config.optimizer), np.random.default_rng(0)
    )
    before = copy.deepcopy((state.params, state.buffers, state.optimizer))
    try:
        train_step(state, case.model, config, case.ops, batches[0], 2)
        said = "nothing"
    except Diverged as error:
        said = str(error)
    record.true(
        "ALG1-TRAIN", "iteration and layer are named", "iteration 1" in said and "head.fc" in said
    )
    for old, now in zip(before, (state.params, state.buffers, state.optimizer), strict=True):
        for name, value in old.items():
            same = np.array_equal(now[name], value, equal_nan=True)
            record.true("ALG1-TRAIN", f"{name} stays where it was", same)
    record.equal("ALG1-TRAIN", "iteration", state.iteration, 0)


@check("records of a step", "structure", "ALG1-TRAIN", training_cases(), quick=4, full=60)
def records(case: Any, record: Recorder) -> None:
    """Check that firing rates count spikes, and the first layer's gradient norm."""
    case, plain, batches = case
    _, steps, neurons = train(case, plain, batches[:1])
    rates = steps[0].rates
    for name, cache in zip(rates, neurons[0], strict=True):
        fired = np.count_nonzero(
            cache.u_pre_seq >= cache.p.v_th
            if cache.p.fire_at_threshold
            else cache.u_pre_seq > cache.p.v_th
        )
        record.close(
            "ALG1-TRAIN", f"rate of {name}", rates[name], fired / cache.o_seq.size, 1e-14, 1.0
        )
    first = [float(g) for g in steps[0].grads["stem.conv0.weight"].reshape(-1)]
    want = sum(g * g for g in first) ** 0.5
    record.close(
        "ALG1-TRAIN", "first gradient norm", first_gradient_norm(steps[0].grads), want, 1e-12
    )


@check("inference against loops", "oracle", "ALG1-INFER", training_cases(), quick=6, full=100)
def inference_values(case: Any, record: Recorder) -> None:
    """Compare main logits, accuracy and mean cross-entropy over batches of different sizes."""
    case, plain, batches = case
    net = case.net | {"branches": "none"}
    params = {name: value for name, value in case.params.items() if not name.startswith("branch.")}
    images = np.concatenate([images for images, _ in batches])[:-1]  # no multiple of the batch
    labels = np.concatenate([labels for _, labels in batches])[:-1]
    x_seq = np.stack([images] * plain["steps"])
    want = naive_network.forward(net, params, case.buffers, x_seq, False)
    for u_pre in want["u_pre"].values():
        if cases.near_threshold(u_pre, net["neuron"]) < 1e-9:
            record.reject()
    logits = want["branches"][0]
    got = main_logits(case.model, case.params, case.buffers, images, plain["steps"], case.ops)
    record.close("ALG1-INFER", "main logits", got, logits, 1e-12, axes="nk")
    state = State(case.params, case.buffers, {}, np.random.default_rng(0))
    thirds = ((images[i : i + 3], labels[i : i + 3]) for i in range(0, len(labels), 3))
    result = evaluate(state, case.model, config_of(plain), case.ops, thirds)
    correct = sum(
        max(range(len(row)), key=row.__getitem__) == label
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    )
    record.close("ALG1-INFER", "accuracy", result["accuracy"], correct / len(labels), 1e-14, 1.0)
    loss = objective.cross_entropy(logits, labels)
    record.close("ALG1-INFER", "loss", result["loss"], loss, 1e-12)


@check("initial parameters", "oracle", "D18", cases.net_cases(most=40), quick=15, full=200)
def initial_values(case: Any, record: Recorder) -> None:
    """Check that each parameter's mean and standard deviation are within six standard errors."""
    from refsnn.network import init_buffers, init_params

    params = init_params(case.model, np.random.default_rng(int(case.rng.integers(2**31))))
    for name, value in params.items():
        std = naive_data.initial_std(name, value.shape)
        mean = naive_data.initial_mean(name, value.shape)
        if std == 0:
            record.equal("D18", name, value, np.full(value.shape, mean))
            continue
        error = 6 * std / np.sqrt(2 * value.size)
        measured = float(np.sqrt(np.mean((value - mean) ** 2)))
        if value.size >= 100:
            record.close("D18", f"deviation of {name}", measured, std, 1.0, error)
            record.close("D18", f"mean of {name}", float(value.mean()), mean, 1.0, 2 * error)
    for name, value in init_buffers(case.model).items():
        record.equal("D18", name, value, np.full(value.shape, float(name.endswith("var"))))


@check("initial draws", "structure", "D18", cases.net_cases(most=40), quick=8, full=100)
def initial_draws(case: Any, record: Recorder) -> None:
    """Check that weights are normal (Kolmogorov-Smirnov), and the same without branches."""
    from scipy import stats

    from refsnn.network import init_params, without_branches

    seed = int(case.rng.integers(2**31))
    params = init_params(case.model, np.random.default_rng(seed))
    drawn = [
        value.reshape(-1) / value.std()
        for value in params.values()
        if value.ndim > 1 and value.size > 50
    ]
    if drawn:
        p_value = float(stats.kstest(np.concatenate(drawn), "norm").pvalue)
        record.true("D18", f"weights are normal (p = {p_value:.2g})", p_value > 1e-6)
    main, _ = without_branches(case.model, params)
    for name, value in init_params(main, np.random.default_rng(seed)).items():
        record.equal("D18", f"{name} without branches", value, params[name])
    run = forward(case.model, params, case.buffers, case.x_seq, case.ops)
    record.true(
        "D18", "a fresh network gives numbers", all(np.isfinite(b).all() for b in run.branches)
    )
