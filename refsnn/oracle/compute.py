"""Computation of a case by refsnn, under the case's conventions or any others.

There is one function per level. It takes inputs in PyTorch's axis order and yields the outputs with
their names, in the order of computing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from refsnn.network import (
    Architecture,
    Network,
    Params,
    backward,
    encode,
    forward,
    neuron_caches,
    potential_value,
)
from refsnn.network.blocks import KINDS
from refsnn.network.layers import (
    Context,
    conv_backward,
    conv_forward,
    neuron_backward,
    norms_after,
    norms_before,
    norms_of,
)
from refsnn.network.layers import neuron_forward as norm_neuron_forward
from refsnn.network.network import Block
from refsnn.ops import Array, Conv, NormInput, Running, reset
from refsnn.oracle import method_neuron, variant_neuron
from refsnn.oracle.conventions import FROM_SETTINGS, PAPER, Conventions
from refsnn.oracle.layout import (
    image_from_torch,
    param_to_torch,
    params_from_torch,
    params_to_torch,
    sequence_from_torch,
    sequence_to_torch,
)
from refsnn.oracle.method_network import criterion_of, norm_model_of, potential_loss_of
from refsnn.oracle.variant_neuron import weight_gradient
from refsnn.oracle.variants import Tape, lif_of, make_ops, norm_of
from refsnn.training.config import TrainConfig, make_config
from refsnn.training.optimizer import OPTIMIZERS, cosine, init_state

Arrays = dict[str, Array]
Settings = Mapping[str, Any]
LIFS = ("lif1", "lif2")  # the layers of neurons in a block
PARAMETERS = (".weight", ".bias", ".p")
STATISTICS = (".running_mean", ".running_var")
#: conventions that do not change a surrogate, which is given its u_pre
ALONE = (
    *("leak", "recurrence", "input_gain", "synapse", "input_delay", "output"),
    *("initial_potential", "reset", "reset_potential", "neuron_model"),
)


def compute(
    level: str,
    inputs: Arrays,
    settings: Settings,
    conventions: Conventions,
    repeat: int = 1,
    watch: Callable[[Array], None] | None = None,
    decided: Mapping[str, Array] | None = None,
) -> Arrays:
    """Return the outputs of the last of `repeat` runs.

    `watch` is called with every u_pre (T, ...). `decided` holds, by an output's name, spikes that
    replace the threshold's in the last run; where it is NaN, the threshold decides. ValueError
    for recurrent neurons without weights, which only level neuron has.
    """
    if conventions["recurrence"] == "dense" and level != "surrogate" and "v" not in inputs:
        raise ValueError(f"recurrence: got 'dense', but a case of level {level} without weights v")
    tape, outputs = Tape(), {}
    for left in reversed(range(repeat)):
        tape = Tape([last_state(cache) for cache in tape.neurons], watch)
        if decided and not left:
            names = spikes_of(level, inputs, settings, conventions)
            tape.decided = [in_our_order(decided.get(name)) for name in names]
        outputs = dict(COMPUTE[level](inputs, settings, conventions, tape))
    return {name: np.array(value, dtype=float) for name, value in outputs.items()}


def spikes_of(
    level: str, inputs: Arrays, settings: Settings, conventions: Conventions
) -> list[str]:
    """Return the names of the outputs o in the order in which the layers run."""
    if level == "block":
        fires = fires_in_skip(conventions) and "skip.conv.weight" in inputs
        return [f"{name}.o" for name in (*LIFS, *["skip.lif"] * fires)]
    if level != "network":
        return ["o"]
    net = network_of(settings, conventions, 1, 2)
    names = [] if conventions["block"] == "ms" else ["stem.lif0"]
    for block in net.blocks():
        fires = fires_in_skip(conventions) and net.has_projection(block)
        names += [f"{block.name}.{lif}" for lif in (*LIFS, *["skip.lif"] * fires)]
    return [f"{name}.o" for name in (*names, *["final.lif"] * (conventions["block"] == "ms"))]


def fires_in_skip(conventions: Conventions) -> bool:
    """Tell whether a projection in a skip has neurons after it."""
    return str(conventions["block"]).startswith("sew")


def in_our_order(o_seq: Array | None) -> Array | None:
    return sequence_from_torch(o_seq) if o_seq is not None and o_seq.ndim == 5 else o_seq


def potentials(cache: Any) -> Array:
    """Return u (T, ...) after the reset."""
    if isinstance(cache, variant_neuron.VariantCache):
        return cache.u_seq
    return reset(cache.u_pre_seq, cache.o_seq, cache.p)


def last_state(cache: Any) -> tuple[Array, Array]:
    """Return u and o (...) after the last step."""
    fired_seq = cache.o_seq
    if isinstance(cache, variant_neuron.VariantCache):
        fired_seq = cache.fired_seq
    return potentials(cache)[-1], fired_seq[-1]


def seen(cache: Any, order: Callable[[Array], Array]) -> Iterator[Any]:
    """Yield u_pre, o and u of a layer of neurons."""
    yield "u_pre", order(cache.u_pre_seq)
    yield "o", order(cache.o_seq)
    yield "u", order(potentials(cache))


def surrogate(x: Arrays, settings: Settings, conventions: Conventions, tape: Tape) -> Iterator[Any]:
    """Yield the surrogate's slope: one step with the potential as its input and dL/do = 1."""
    conventions = conventions | {name: PAPER[name] for name in ALONE}
    u_pre, p, ops = x["u_pre"][None], lif_of(conventions), make_ops(conventions, tape)
    _, cache = ops.lif_forward(u_pre, None, p)
    ops.lif_backward(np.ones_like(u_pre), cache)
    yield "h", tape.deltas[id(cache)][0]


def neuron(x: Arrays, settings: Settings, conventions: Conventions, tape: Tape) -> Iterator[Any]:
    """Yield the outputs of neurons, and dv where there are connections v (N, N) among them."""
    if conventions["neuron_model"] != "lif":
        yield from method_neuron.outputs(x, settings, conventions, tape.watch)
        return
    tape.v = x.get("v")
    ops = make_ops(conventions, tape)
    o_seq, cache = ops.lif_forward(x["c"], None, lif_of(conventions))
    yield from seen(cache, np.asarray)
    grads = ops.lif_backward(x["do"], cache)
    yield "du_pre", tape.deltas[id(cache)]
    yield "dc", grads.dc_seq
    if "v" in x:
        used = conventions["recurrence"] == "dense"
        yield "dv", weight_gradient(grads.dc_seq, o_seq) if used else np.zeros_like(x["v"])
    yield "du0", grads.du0
    yield "dtau", np.asarray(grads.dtau)
    yield "dv_th", np.asarray(grads.dv_th)


def split_inputs(x: Arrays) -> tuple[Params, Params]:
    """Return parameters and running statistics in refsnn's axis order."""
    params = params_from_torch({k: v for k, v in x.items() if k.endswith(PARAMETERS)})
    return params, {k: v for k, v in x.items() if k.endswith(STATISTICS)}


def network_of(
    settings: Settings, conventions: Conventions, in_channels: int, classes: int, steps: int = 0
) -> Network:
    """Return the network of a case; a norm with parameters for each step needs `steps`."""
    arch = Architecture(
        tuple(settings.get("depths", (1,))),
        tuple(settings.get("widths", (1,))),
        settings.get("stem_width", 1),
    )
    return Network(
        arch,
        in_channels,
        classes,
        settings.get("branches", "none"),
        lif_of(conventions),
        norm_of(conventions),
        readout=str(conventions["readout"]),
        norm_model=norm_model_of(conventions),
        block=str(conventions["block"]),
        steps=steps,
    )


def make_context(x: Arrays, settings: Settings, conventions: Conventions, tape: Tape) -> Context:
    params, buffers = split_inputs(x)
    net = network_of(settings, conventions, 1, 2, len(x["x"]))
    if conventions["norm_model"] == "psp":
        buffers["bn.running_mean"] = np.zeros_like(buffers["bn.running_var"])
    return Context(net, params, buffers, make_ops(conventions, tape), settings["training"])


def moved(norms: Iterable[tuple[str, Running]], context: Context) -> Iterator[Any]:
    if context.training:
        for name, (mean, var) in norms:
            if context.net.norm_model is None or not context.net.norm_model.of_inputs:
                yield f"new.{name}.running_mean", mean
            yield f"new.{name}.running_var", var


def layer(x: Arrays, settings: Settings, conventions: Conventions, tape: Tape) -> Iterator[Any]:
    """Yield the outputs of a convolution, its batch norm and neurons."""
    context = make_context(x, settings, conventions, tape)
    conv = Conv((settings["stride"],) * 2, (settings["padding"],) * 2)
    f, cache = conv_forward(sequence_from_torch(x["x"]), "conv", "bn", conv, context)
    _, neurons = norm_neuron_forward(f, None, "lif", norms_after(cache), context)
    yield "conv", sequence_to_torch(f.x_seq if isinstance(f, NormInput) else f)
    if tape.norms:
        yield "bn", sequence_to_torch(tape.norms[0])
    yield from seen(tape.neurons[0], sequence_to_torch)
    yield from moved([*norms_before(cache), *norms_of(neurons)], context)
    d, _, _ = neuron_backward(sequence_from_torch(x["do"]), neurons, context)
    dx_seq, grads = conv_backward(d, cache, context)
    yield "du_pre", sequence_to_torch(tape.deltas[id(tape.neurons[0])])
    assert dx_seq is not None
    yield "dx", sequence_to_torch(dx_seq)
    yield from gradients(grads)


def gradients(grads: Params) -> Iterator[Any]:
    contiguous = {name: np.ascontiguousarray(value) for name, value in grads.items()}
    for name, value in params_to_torch(contiguous).items():
        yield f"grad.{name}", value


def block(x: Arrays, settings: Settings, conventions: Conventions, tape: Tape) -> Iterator[Any]:
    """Yield the outputs of a residual block; `y` where what it passes on is not lif2's spikes."""
    x = {  # parameters as a network names them
        f"block.{k}" if k.endswith((*PARAMETERS, *STATISTICS)) else k: v for k, v in x.items()
    }
    context = make_context(x, settings, conventions, tape)
    _, _, c_in, c_out = context.params["block.conv1.weight"].shape
    shape, kind = Block("block", c_in, c_out, settings["stride"], None), KINDS[context.net.block]
    y_seq, cache = kind.forward(sequence_from_torch(x["x"]), shape, context)
    layers = dict(zip((*LIFS, "skip.lif"), tape.neurons, strict=False))
    for name, lif in layers.items():
        yield from ((f"{name}.{what}", a) for what, a in seen(lif, sequence_to_torch))
    if context.net.block != "basic":
        yield "y", sequence_to_torch(y_seq)
    norms = [norm for unit in cache.units for norm in unit.norms]
    yield from moved([(name.removeprefix("block."), r) for name, r in norms], context)
    dx_seq, grads = kind.backward(sequence_from_torch(x["do"]), cache, context)
    for name, lif in reversed(layers.items()):
        yield f"{name}.du_pre", sequence_to_torch(tape.deltas[id(lif)])
    yield "dx", sequence_to_torch(dx_seq)
    wanted = [name for name in x if name.endswith(PARAMETERS)]
    yield from gradients({name.removeprefix("block."): grads[name] for name in wanted})


def network(x: Arrays, settings: Settings, conventions: Conventions, tape: Tape) -> Iterator[Any]:
    """Yield the outputs of a network, with the side branches' coefficient `side` (Eq. 6, 7, 10)."""
    params, buffers = split_inputs(x)
    images, ops = image_from_torch(x["images"]), make_ops(conventions, tape)
    net = network_of(settings, conventions, images.shape[-1], len(x["head.fc.bias"]))
    training, of_potentials = settings["training"], potential_loss_of(conventions)
    x_seq = encode(images, settings["steps"])
    run = forward(net, params, buffers, x_seq, ops, training, potential_loss=of_potentials)
    logits = iter(run.branches)
    sides = {block.name: block.branch for block in net.blocks() if block.branch != "head"}
    layers = dict(neuron_caches(run))
    owners = [".".join(name.split(".")[:2]) for name in layers]  # the blocks
    for (name, lif), owner, after in zip(layers.items(), owners, [*owners[1:], None], strict=True):
        yield from ((f"{name}.{what}", a) for what, a in seen(lif, sequence_to_torch))
        if owner != after and sides.get(owner):
            yield f"{sides[owner]}.logits", next(logits)
    yield "head.logits", next(logits)
    if not training:
        return
    loss, cache = ops.objective_forward(
        run.branches,
        x["labels"].astype(int),
        settings["side"],
        str(conventions["branch_sum"]),
        criterion_of(conventions, x.get("teacher")),
    )
    yield "loss", np.asarray(loss + potential_value(run))
    yield from ((f"new.{name}", value) for name, value in run.buffers.items())
    grads = backward(run, ops.objective_backward(cache))
    for name, lif in reversed(layers.items()):
        yield f"{name}.du_pre", sequence_to_torch(tape.deltas[id(lif)])
    yield from gradients({name: grads[name] for name in params})


def training(x: Arrays, settings: Settings, conventions: Conventions, tape: Tape) -> Iterator[Any]:
    """Yield the outputs of Algorithm 1, with one iteration for each batch of images."""
    settings = overridden(settings, conventions)
    params, buffers = split_inputs(x)
    config = config_of(settings, conventions)
    net = network_of(settings, conventions, x["images"].shape[2], len(params["head.fc.bias"]))
    state, first = init_state(params, config.optimizer), dict(params)
    update = OPTIMIZERS[config.optimizer.optimizer]
    rows: list[Any] = []
    for i, (images, labels) in enumerate(zip(x["images"], x["labels"], strict=True), 1):
        ops = make_ops(conventions, tape)
        side, lr = (
            side_of(i, settings, config, conventions),
            lr_of(i, settings, config, conventions),
        )
        x_seq = encode(image_from_torch(images), settings["steps"])  # Alg. 1 line 3
        run = forward(net, params, buffers, x_seq, ops)
        loss, cache = ops.objective_forward(
            run.branches, labels.astype(int), side, str(conventions["branch_sum"])
        )  # Alg. 1 line 5
        grads = backward(run, ops.objective_backward(cache))  # Alg. 1 line 7
        params, state = update(params, grads, state, i, lr, config.optimizer, ops)
        buffers, first = run.buffers, params if i == 1 else first
        rows.append((side, lr, loss))
        tape.before = [last_state(lif) for lif in tape.neurons]
        tape.neurons.clear()
    yield from zip(("side", "lr", "loss"), np.transpose(rows), strict=True)
    for when, values in (("first", first), ("last", params)):
        yield from ((f"{when}.{name}", param_to_torch(value)) for name, value in values.items())
    yield from ((f"new.{name}", value) for name, value in buffers.items())


def overridden(settings: Settings, conventions: Conventions) -> dict[str, Any]:
    """Return a training's settings with the numbers that conventions give in their place."""
    given = {name: conventions[name] for name in FROM_SETTINGS if name in conventions}
    return {**settings, **{name: value for name, value in given.items() if value != "as given"}}


def config_of(settings: Settings, conventions: Conventions) -> TrainConfig:
    names = (
        "method",
        "epochs",
        "lam",
        "shortcut_weight",
        "optimizer",
        "lr",
        "momentum",
        "weight_decay",
    )
    return make_config(
        **{name: settings[name] for name in names},
        lam_clock="epoch" if conventions["lam_clock"] == "epoch" else "iteration",
        decay_on=str(conventions["decay_on"]),
    )


def side_of(i: int, settings: Settings, config: TrainConfig, conventions: Conventions) -> float:
    if config.objective.method == "evolutionary" and conventions["lam_clock"] == "constant":
        return config.objective.lam
    if config.objective.method == "evolutionary" and conventions["lam_clock"] == "iteration from 0":
        return config.objective.lam * (1 - (i - 1) / (config.epochs * settings["batches"]))
    return config.side_coefficient(i, settings["batches"])


def lr_of(i: int, settings: Settings, config: TrainConfig, conventions: Conventions) -> float:
    if conventions["schedule"] == "constant":
        return config.optimizer.lr
    total = config.epochs * settings["batches"]
    return cosine(
        config.optimizer.lr, i + (conventions["schedule"] == "one iteration ahead"), total
    )


COMPUTE: dict[str, Callable[..., Iterator[Any]]] = {
    "surrogate": surrogate,
    "neuron": neuron,
    "layer": layer,
    "block": block,
    "network": network,
    "training": training,
}
