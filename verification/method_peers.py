"""Checks of the published methods against the same in PyTorch, by autograd."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.equations.distillation import feature_loss
from refsnn.network import (
    BLOCKS,
    backward,
    forward,
    init_buffers,
    init_params,
    neuron_caches,
    outputs,
    potential_value,
)
from refsnn.ops import NEURONS, NORMS, POTENTIAL_LOSSES, IMLoss
from refsnn.training.algorithm import train_step
from refsnn.training.checkpoint import State
from refsnn.training.config import TrainConfig, make_config
from refsnn.training.optimizer import init_state
from refsnn.training.recipes import self_contained
from verification import cases, learning, models, potentials, torch_methods
from verification.record import Recorder
from verification.registry import check

TOLERANCE = 1e-10
RECIPES = self_contained()
#: recipes that change what is trained, or the network from epoch to epoch, and clauses of that
TRAINED = {
    **{"plif": "R7", "glif": "R7", "diet-snn": "R7 DIET", "mpbn": "R7", "real-spike": "R7"},
    **{"tebn": "", "bntt": "", "tet": "", "im-loss": "ESG M11"},
}
JUMPING = "rectangular", "dspike", "rectifier"  # surrogates whose slopes jump
USUAL = {"tanh": 0.5, "sigmoid": 2.0}  # a surrogate's number where the settings have none


def describe(net: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Return the plain description of a network: `net` with the method of these settings."""
    values = config.to_dict()
    neuron = {
        name: values[name]
        for name in (
            *("tau", "v_th", "surrogate", "surrogate_shape", "surrogate_edge", "reset"),
            *("reset_gradient", "reset_amount", "fire_at_threshold"),
        )
    }
    if neuron["surrogate_shape"] is None:
        neuron["surrogate_shape"] = USUAL[neuron["surrogate"]]
    options = {
        "plif": {"input_decay": values["plif_input_decay"]},
        "diet": {"reset_leaks": values["diet_reset_leaks"]},
    }
    phi = values["v_th"] if values["tet_phi"] is None else values["tet_phi"]
    kind = {"im": "im", "mpd_reconstructed": "mpd"}.get(values["potential_loss"])
    weight = values["potential_lam"]
    usual = {"im": 2.0, "mpd": 0.01}
    return net | {
        "neuron": neuron,
        "norm": {
            "statistics": values["norm_statistics"],
            "scale": values["norm_scale"],
            "eps": 1e-5,
            "momentum": 0.1,
        },
        "readout": values["readout"],
        "block": values["block"],
        "merge_scale": values["norm_merge_scale"],
        "norm_identity": values["norm_identity"],
        "neuron_model": values["neuron_model"],
        "neuron_options": options.get(values["neuron_model"], {}),
        "norm_model": values["norm_model"],
        "psp_root": values["psp_root"],
        "loss": {"lam": values["tet_lam"], "phi": phi} if values["loss"] == "tet" else None,
        "potential_loss": kind and {"kind": kind, "lam": usual[kind] if weight is None else weight},
    }


@dataclass(repr=False)
class MethodCase:
    net: dict[str, Any]
    config: TrainConfig
    model: Any
    params: dict[str, Any]
    buffers: dict[str, Any]
    drawn: cases.NetCase  # input, labels, side branches' weight, operations
    keep: str


#: neurons, and losses of their potentials, with their options
KINDS: list[dict[str, Any]] = [
    *({"neuron_model": "lif", "potential_loss": loss} for loss in ("none", *POTENTIAL_LOSSES)),
    *({"neuron_model": "plif", "plif_input_decay": option} for option in (True, False)),
    *({"neuron_model": "diet", "diet_reset_leaks": option} for option in (True, False)),
    *({"neuron_model": name} for name in NEURONS if name not in ("plif", "diet")),
]
NORM_KINDS: list[dict[str, Any]] = [
    *({"norm_model": name} for name in ("bn", *NORMS) if name != "psp"),
    *({"norm_model": "psp", "psp_root": option} for option in (True, False)),
]


@st.composite
def settings(draw: Any, of_neurons: Any, of_norms: Any, block: str) -> dict[str, Any]:
    """Draw settings that combine a block, neurons and a batch norm with losses."""
    neuron, kind, norm = draw(cases.neurons()), of_neurons["neuron_model"], of_norms["norm_model"]
    neuron["reset_amount"] = None if neuron["reset_amount"] == "v_th" else neuron["reset_amount"]
    values = neuron | {
        **of_neurons,
        **of_norms,
        "block": block,
        "norm_statistics": draw(st.sampled_from(["pooled", "per_step"])),
        "norm_scale": draw(st.sampled_from([1.0, 0.5])),
        "readout": draw(st.sampled_from(["mean", "sum"])),
        "branch_sum": draw(st.sampled_from(["logits", "losses"])),
    }
    if norm == "psp":
        values |= {"norm_statistics": "pooled", "norm_scale": 1.0}
    elif not block.startswith("sew"):
        values["norm_merge_scale"] = draw(st.sampled_from([1.0, 0.75]))
        values["norm_identity"] = draw(st.booleans())
    if kind == "plif":
        values["tau"] = min(values["tau"], 0.9)
    if kind == "glif":
        values |= {"tau": min(values["tau"], 0.9), "v_th": min(values["v_th"], 0.75)}
        values |= {"reset": "zero", "reset_amount": None}
    if kind == "diet":
        values |= {"reset": "subtract", "reset_amount": None}
    if values.get("potential_loss", "none") != "none":
        values["potential_lam"] = draw(st.sampled_from([None, 0.5]))
    if block in ("ms", "sew_add", "sew_iand"):
        values["zero_init"] = draw(st.booleans())
    if draw(st.booleans()):
        values |= {"loss": "tet", "tet_lam": draw(st.sampled_from([1e-3, 0.5]))}
        values["tet_phi"] = draw(st.sampled_from([None, 0.25]))
    return values


@st.composite
def method_cases(draw: Any, given: Any, starts: bool | None = None) -> MethodCase:
    """Draw a network of these settings, as training starts or with random parameters."""
    drawn = draw(cases.net_cases(most=4, images=4, room=2))
    config = make_config(**draw(given), dtype="float64", steps=len(drawn.x_seq))
    model = config.build_network(drawn.net["in_channels"], drawn.net["num_classes"])
    plain = drawn.model
    model = replace(model, arch=plain.arch, branches=plain.branches, downsample=plain.downsample)
    params, buffers = cases.random_numbers(model, drawn.rng)
    if draw(st.booleans()) if starts is None else starts:
        params, buffers = init_params(model, drawn.rng), init_buffers(model)
    for name in params:
        if name.endswith(".v_th"):
            params[name] = np.maximum(params[name], cases.LEAST_THRESHOLD)
    keep = draw(st.sampled_from(["all", "spikes"]))
    net = describe(drawn.net, config)
    return MethodCase(net, config, model, params, buffers, drawn, keep)


@st.composite
def combined(draw: Any) -> list[MethodCase]:
    """Draw a network of each kind of neurons; with them come all blocks and batch norms.

    Hypothesis would choose in clusters, and leave some out.
    """
    first, other = (draw(st.integers(0, len(kinds) - 1)) for kinds in (BLOCKS, NORM_KINDS))
    found = []
    for index, kind in enumerate(KINDS):
        block = BLOCKS[(first + index) % len(BLOCKS)]
        norm = NORM_KINDS[(other + index + index // len(BLOCKS)) % len(NORM_KINDS)]
        found.append(draw(method_cases(settings(kind, norm, block))))
    return found


#: clauses of each part of a method, and the paper's where the part is the paper's
NEURON = {"lif": "EQ1", **models.CLAUSES}
PARTS = f"{' '.join(models.CLAUSES.values())} TEBN BNTT PSPBN SEW MS TET IMLOSS MPD"
DECISIONS = "M1 M2 M3 M5 M10 M12 M15 R5 R6"
PAPERS = "EQ1 EQ4 EQ5 EQ9 D5 D8 D13 D25"


def neuron_clauses(net: dict[str, Any]) -> str:
    """Return the clauses of a network's neurons."""
    clauses, options = NEURON[net["neuron_model"]], net["neuron_options"]
    if options:  # decisions that have another value
        method, decision = clauses.split()
        clauses = method if all(options.values()) else f"{decision} {method}"
    return clauses + " R6" * (net["neuron"]["reset"] == "subtract" and "DIET" not in clauses)


def norm_clauses(net: dict[str, Any]) -> str:
    """Return the clauses of a network's batch norms."""
    if net["norm_model"] == "psp":
        return "PSPBN" if net["psp_root"] else "M15"
    clauses = "D8" if net["norm_model"] == "bn" else net["norm_model"].upper()
    clauses += " M1" * (net["norm"]["scale"] != 1)
    return clauses + " M2" * (net["norm_identity"] or net["merge_scale"] != 1)


def loss_clauses(net: dict[str, Any]) -> str:
    """Return the clauses of a network's losses."""
    clauses = "D13" if net["loss"] is None else "TET M3"
    kind = (net["potential_loss"] or {}).get("kind")
    return {"im": "IMLOSS M10 ", "mpd": "MPD M12 "}.get(kind, "") + clauses


def block_clauses(net: dict[str, Any]) -> str:
    """Return the clauses of a network's blocks."""
    return {"basic": "EQ5", "ms": "MS M5"}.get(net["block"], "SEW")


def nearest_jump(x: Any, neuron: dict[str, Any]) -> float:
    """Return the least distance of what is fired from the threshold or a jump of the slope."""
    jumps = cases.kinks(neuron) if neuron["surrogate"] in JUMPING else []
    return min(float(np.abs(x - jump).min()) for jump in [0.0, *jumps])


def compare(case: MethodCase, record: Recorder) -> None:
    """Compare spikes, potentials, outputs, running statistics, loss and every gradient."""
    net, config, drawn = case.net, case.config, case.drawn
    objective = config.objective
    want = torch_methods.run(
        net,
        case.params,
        case.buffers,
        drawn.x_seq,
        drawn.labels,
        drawn.side,
        objective.branch_sum,
        drawn.training,
    )
    if any(nearest_jump(one.x, net["neuron"]) < 1e-9 for one in want["layers"].values()):
        record.reject()
    loss, of_potentials = config.make_loss(), objective.make_potential_loss()
    given = case.model, case.params, case.buffers, drawn.x_seq, drawn.ops, drawn.training
    run = forward(*given, case.keep if drawn.training else "all", of_potentials)
    of_neurons, of_norms = neuron_clauses(net), norm_clauses(net)
    layers = dict(neuron_caches(run))
    record.equal(block_clauses(net), "layers of neurons", sorted(layers), sorted(want["layers"]))
    for name, one in want["layers"].items():
        clauses, cache = f"{of_neurons} {of_norms}", layers[name]
        unit = case.params[f"{name}.v_th"] if net["neuron_model"] == "diet" else 1.0
        record.close(clauses, f"u_pre of {name}", cache.u_pre_seq * unit, one.u_pre, TOLERANCE)
        record.equal(clauses, f"spikes of {name}", cache.o_seq, one.o)
    for index, (head, y_seq) in enumerate(zip(run.heads, want["outputs"], strict=True), 1):
        scale = 1 + float(np.abs(y_seq).max())
        record.close(block_clauses(net), f"branch {index}", head.y_seq, y_seq, TOLERANCE, scale)
    for name, value in want["buffers"].items():
        owner = "D25" if ".lif" not in name else "MPBN"
        scale = 1 + float(np.abs(value).max())  # means of normalised currents are rounding
        record.close(f"{owner} {of_norms}", name, run.buffers[name], value, TOLERANCE, scale)
    known = outputs(run, loss), drawn.labels, drawn.side, objective.branch_sum, loss
    value, cache = drawn.ops.objective_forward(*known)
    value += potential_value(run)
    record.close(loss_clauses(net), "loss", value, want["loss"], TOLERANCE, 1 + abs(want["loss"]))
    record.values_ok()
    compare_gradients(backward(run, drawn.ops.objective_backward(cache)), want, net, record)


def compare_gradients(
    grads: dict[str, Any], want: dict[str, Any], net: dict[str, Any], record: Recorder
) -> None:
    """Compare gradients, from output to input, as `networks.gradient_unit` relates them.

    The terms that arrive at the outputs may cancel, where the images' classes are balanced; they
    count as the largest gradient does.
    """
    largest = {name: float(np.abs(g).max()) for name, g in want["grads"].items()}
    floor = 1e-3 * max(want["arriving"], *largest.values())
    rest = f"{block_clauses(net)} {loss_clauses(net)} {cases.slope_clause(net['neuron'])} EQ9"
    record.equal("EQ9", "names of gradients", sorted(grads), sorted(largest))
    for name in reversed(list(grads)):
        parts = neuron_clauses(net), norm_clauses(net)
        if ".bn" in name:
            parts = parts[::-1]
        unit = want["steepest"] * max(largest[name], floor) or 1.0
        clauses = f"{' '.join(parts)} {rest}"
        wanted = want["grads"][name]
        record.close(clauses, f"gradient of {name}", grads[name], wanted, TOLERANCE, unit)


@check(
    "methods in PyTorch",
    "peer",
    f"{PARTS} {DECISIONS} {PAPERS}",
    combined(),
    quick=1,
    full=8,
)
def combinations(drawn: list[MethodCase], record: Recorder) -> None:
    """Compare networks that combine any block, neurons, batch norm and losses."""
    for case in drawn:
        compare(case, record)


@check(
    "SEW-ResNet's AND before training in PyTorch",
    "peer",
    "M4",
    method_cases(
        cases.neurons().map(
            lambda neuron: {
                **neuron,
                "reset_amount": None,
                "block": "sew_and",
                "zero_init": True,
            }
        ),
        starts=True,
    ),
    quick=4,
    full=20,
)
def start_of_and(case: MethodCase, record: Recorder) -> None:
    """Check that each block's last neurons fire at every step, so that it is its skip."""
    drawn = case.drawn
    known = case.params, case.buffers, drawn.x_seq, drawn.labels, drawn.side
    want = torch_methods.run(case.net, *known, training=drawn.training)
    for name, one in want["layers"].items():
        if name.endswith(".lif2"):
            record.equal("M4", f"spikes of {name}", one.o, np.ones_like(one.o))


def clauses_of(recipe: str) -> str:
    """Return the clauses that `compare` judges by a recipe's networks."""
    net = describe({}, make_config(recipe=recipe))
    parts = neuron_clauses(net), norm_clauses(net), block_clauses(net), loss_clauses(net)
    found = f"{' '.join(parts)} {cases.slope_clause(net['neuron'])} D25 EQ9"
    return found + " MPBN" * (recipe == "mpbn")


def check_recipe(recipe: str) -> None:
    """Register a check of a recipe's networks."""

    def published(case: MethodCase, record: Recorder) -> None:
        compare(case, record)

    drawn = method_cases(st.just({"recipe": recipe}))
    clauses = " ".join(dict.fromkeys(clauses_of(recipe).split()))
    check(f"recipe {recipe} in PyTorch", "peer", clauses, drawn, quick=2, full=8)(published)


for recipe in RECIPES:
    check_recipe(recipe)


#: the decisions that neurons alone show where their options are the usual ones
SHOWN = {"mpbn": "MPBN M6", "real_spike": "REALSPIKE M13"}


@models.check_each("autograd of", "peer", 8, 100)
def neurons(case: models.ModelCase, record: Recorder) -> None:
    """Compare a layer of neurons: what it computes, its statistics and all gradients."""
    options = {}
    if case.method in models.OPTIONS:
        name = models.OPTIONS[case.method]
        options = {name: getattr(case.model, name)}
    if case.method == "mpbn" and case.training and case.c_seq[0, ..., 0].size == 1:
        record.reject()  # PyTorch refuses batch norm of a single value
    if case.method == "diet":
        case.params["v_th"] = np.maximum(case.params["v_th"], 0.25)
    want = torch_methods.neurons_alone(
        case.method,
        case.c_seq,
        case.dy_seq,
        case.params,
        case.neuron,
        options,
        case.running,
        case.training,
    )
    if nearest_jump(want["layer"].x, case.neuron) < 1e-9:
        record.reject()
    y_seq, running, cache, dc_seq, grads = models.compute(case)
    clauses = SHOWN.get(case.method, case.clause)
    unit = case.params["v_th"] if case.method == "diet" else 1.0
    found = cache.u_pre_seq * unit
    record.close(clauses, "u_pre", found, want["layer"].u_pre, TOLERANCE, axes="tnhwc")
    record.close(clauses, "what is passed on", y_seq, want["y_seq"], TOLERANCE, axes="tnhwc")
    if case.method == "mpbn":
        for name, value in zip(("mean", "var"), running, strict=True):
            wanted = want["buffers"][f"lif.running_{name}"]
            record.close(clauses, f"running {name}", value, wanted, TOLERANCE, 1.0)
    record.values_ok()
    largest = max(float(np.abs(g).max()) for g in want["grads"].values())
    for name, g in {"c": dc_seq, **grads}.items():
        scale = want["steepest"] * largest or 1.0
        record.close(clauses, f"dL/d{name}", g, want["grads"][name], TOLERANCE, scale)


@check(
    "other batch norms in PyTorch",
    "peer",
    "TEBN BNTT",
    st.tuples(models.norm_model_cases(), st.sampled_from([1.0, 0.5])),
    quick=30,
    full=300,
)
def norms(drawn: Any, record: Recorder) -> None:
    """Compare values, running statistics and all gradients."""
    case, scale = drawn
    case.norm = replace(case.norm, scale=scale)
    values = case.x_seq[0] if case.method == "bntt" else case.x_seq
    over = tuple(range(values.ndim - 1))
    if case.training and (values[..., 0].size == 1 or values.std(over).min() < 1e-2):
        record.reject()  # PyTorch refuses batch norm of a single value
    norm = {"statistics": "pooled", "scale": scale, "eps": 1e-5, "momentum": case.norm.momentum}
    want = torch_methods.norm_alone(
        case.method, case.x_seq, case.dy_seq, case.params, norm, case.running, case.training
    )
    y_seq, running, dx_seq, grads = models.compute_norm(case)
    clause = case.method.upper()
    record.close(clause, "y", y_seq, want["y_seq"], TOLERANCE, axes="tnhwc")
    for name, value in zip(("mean", "var"), running, strict=True):
        record.close(clause, f"running {name}", value, want["buffers"][f"bn.running_{name}"], 1e-12)
    record.values_ok()
    unit = float(np.abs(case.dy_seq).sum())
    for name, g in {"x": dx_seq, **grads}.items():
        record.close(clause, f"dL/d{name}", g, want["grads"][name], TOLERANCE, unit)


@check(
    "losses of potentials in PyTorch",
    "peer",
    "IMLOSS M10 MPD M12",
    potentials.potentials(),
    quick=40,
    full=300,
)
def losses_of_potentials(case: Any, record: Recorder) -> None:
    """Compare the loss of a layer and its gradient."""
    loss, u_pre_seq, p = case
    given = {"kind": "im" if isinstance(loss, IMLoss) else "mpd", "lam": loss.lam}
    if given["kind"] == "mpd":
        given["half_width"] = loss.half_width
    value, gradient = torch_methods.potentials_alone(u_pre_seq, p.v_th, given)
    clauses = potentials.clauses_of(loss)
    record.close(clauses, "value", loss.value(u_pre_seq, p), value, 1e-12, 1 + abs(value))
    record.values_ok()
    scale = 1e-3 + float(np.abs(gradient).max())
    record.close(clauses, "dL/du_pre", loss.gradient(u_pre_seq, p), gradient, TOLERANCE, scale)


@check(
    "losses with a teacher in PyTorch",
    "peer",
    "KDSNN M16",
    st.tuples(learning.lessons(), st.booleans(), cases.SEEDS),
    quick=30,
    full=300,
)
def losses_with_a_teacher(drawn: Any, record: Recorder) -> None:
    """Compare the losses of logits and of features, and their gradients."""
    (loss, logits, labels), aligned, seed = drawn
    value, dlogits = torch_methods.distillation(
        logits, loss.teacher, labels, loss.temperature, loss.alpha
    )
    got, cache = loss.forward(logits, labels)
    record.close("KDSNN M16", "L of logits", got, value, 1e-12, 1 + abs(value))
    rng = np.random.default_rng(seed)
    rates, features = rng.uniform(size=(2, len(logits), 2, 3, 3))
    align = rng.normal(size=(1, 1, 3, 3)) if aligned else None
    value, drates, dalign = torch_methods.of_features(rates, features, align, 0.3)
    of_features, got_rates, got_align = feature_loss(rates, features, align, 0.3)
    record.close("KDSNN", "L of features", of_features, value, 1e-12, 1 + value)
    record.values_ok()
    record.close("KDSNN M16", "dL/dz", loss.backward(cache), dlogits, 1e-12, 1.0)
    record.close("KDSNN", "dL/drates", got_rates, drates, 1e-12, 1 + float(np.abs(drates).max()))
    if dalign is not None:
        scale = 1 + float(np.abs(dalign).max())
        record.close("KDSNN", "dL/dA", got_align, dalign, 1e-12, scale)


@st.composite
def trainings(draw: Any, recipe: str) -> tuple[MethodCase, list[Any]]:
    """Draw a recipe's network, settings of its training, and two batches of images."""
    given = {
        "recipe": recipe,
        "optimizer": draw(st.sampled_from(["sgd", "adamw"])),
        "lr": draw(st.sampled_from([0.01, 0.1])),
        "weight_decay": draw(st.sampled_from([0.02, 0.3])),
        "decay_on": draw(st.sampled_from(["all", "weights"])),
        "epochs": 2,
    }
    case = draw(method_cases(st.just(given)))
    drawn = case.drawn
    shape = drawn.x_seq.shape[1:]
    classes = drawn.net["num_classes"]
    batches = [
        (drawn.rng.normal(size=shape), drawn.rng.integers(0, classes, shape[0])) for _ in range(2)
    ]
    return case, batches


def training(drawn: Any, record: Recorder) -> None:
    """Compare two epochs of two iterations with torch.optim."""
    case, batches = drawn
    config, net = case.config, case.net
    want = torch_methods.train(net, case.params, case.buffers, batches, config.to_dict())
    for step in want["steps"]:
        whole = max(float(np.abs(g).max()) for g in step["grads"].values())
        near = min(nearest_jump(one.x, net["neuron"]) for one in step["layers"].values())
        noise = config.optimizer.optimizer == "adamw" and any(
            ((g != 0) & (np.abs(g) < 1e-8 * whole)).any() for g in step["grads"].values()
        )
        if not np.isfinite(whole) or whole > 1e3 or near < 1e-6 or noise:
            record.reject()
    moments = init_state(case.params, config.optimizer)
    state = State(dict(case.params), dict(case.buffers), moments, np.random.default_rng(0))
    clauses = "ESG M11" if config.neuron.surrogate_end is not None else "ALG1-TRAIN"
    for index, step in enumerate(want["steps"]):
        given = case.drawn.ops, batches[index % len(batches)], len(batches), case.keep == "all"
        found = train_step(state, case.model, config, *given)
        scale = 1 + abs(step["loss"])
        record.close(clauses, f"loss {index + 1}", found.loss, step["loss"], TOLERANCE, scale)
    for name, value in want["buffers"].items():
        scale = 1 + float(np.abs(value).max())
        record.close("ALG1-TRAIN", name, state.buffers[name], value, TOLERANCE, scale)
    for name, value in want["params"].items():
        owner = "DIET " * name.endswith(".leak") + ("R7" if ".lif" in name else clauses)
        scale = 1 + float(np.abs(value).max())
        record.close(owner, name, state.params[name], value, TOLERANCE, scale)


for recipe, clauses in TRAINED.items():
    check(
        f"training of {recipe} in PyTorch",
        "peer",
        f"ALG1-TRAIN {clauses}",
        trainings(recipe),
        quick=4 if recipe == "diet-snn" else 2,
        full=5,
    )(training)
