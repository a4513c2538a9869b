"""The test vectors' outputs by the naive loops, from and to PyTorch's axis order.

The loops keep no state, so that a case that is run several times gives the same outputs each time.
"""

import numpy as np

from refsnn.oracle.naive import (
    batchnorm,
    blocks,
    distillation,
    layers,
    network,
    neuron,
    neurons,
    norms,
    objective,
    potentials,
    training,
)

PARAMETERS = (".weight", ".bias")
STATISTICS = (".running_mean", ".running_var")

NUMBER = float  # stands for any number
FUNCTION = callable  # stands for a function that gives the slope h at one x = u_pre - v_th
#: what the loops compute: a convention -> its values
COMPUTED = {
    "tau": (NUMBER,),
    "leak": (
        "tau*u + c",
        "tau*u + (1-tau)*c",
        "(1-tau)*u + c",
        "(1-tau)*u + tau*c",
        "tau*(u + c)",
    ),
    "recurrence": ("none", "dense"),
    "input_gain": (NUMBER,),
    "synapse": (NUMBER,),
    "input_delay": (NUMBER,),
    "v_th": (NUMBER,),
    "fire_at_threshold": (False, True),
    "spikes": ("one", "several"),
    "refractory": (NUMBER,),
    "reset": (
        "zero",
        "subtract",
        "none",
        "zero, next step",
        "subtract, next step",
        "subtract o - v_th",
        "subtract o - v_th, next step",
    ),
    "reset_potential": (NUMBER,),
    "reset_amount": ("v_th", NUMBER),
    "output": ("same step", "one step late", NUMBER),
    "initial_potential": ("zero", NUMBER),
    "surrogate": (
        "tanh",
        "tanh_literal",
        "rectangular",
        "triangular",
        "sigmoid",
        "atan",
        "fast_sigmoid",
        "softsign",
        "super_spike",
        "piecewise_quadratic",
        "exponential",
        "gaussian",
        "dspike",
        "rectifier",
        "step",
        "straight_through",
        FUNCTION,
    ),
    "surrogate_shape": (NUMBER,),
    "surrogate_scale": ("as given", "without 1/a", "without k", "without any", NUMBER),
    "surrogate_edge": ("outside", "inside"),
    "surrogate_unit": ("1", "v_th"),
    "surrogate_at": ("u_pre - v_th", "u_pre", "u"),
    "reset_gradient": (
        "full",
        "detached",
        "ignored",
        "spike path only",
        "v_th for u_pre",
        "sign flipped",
    ),
    "neuron_model": ("lif", "plif", "glif", "diet", "mpbn", "real_spike"),
    "plif_input_decay": (True, False),
    "plif_leak": ("1 - sigmoid(w)",),
    "glif_gates": ("as given",),
    "glif_conductance": ("each step",),
    "diet_reset_leaks": (True, False),
    "mpbn_state": ("potential",),
    "real_spike_reset": ("spike",),
    "sigmoid_gradient": ("full",),
    "diet_slope": ("u_pre/v_th - 1",),
    "diet_v_th_gradient": ("full",),
    "convolution": ("cross-correlation",),
    "norm_statistics": ("pooled", "per_step", "frozen"),
    "norm_variance": ("biased",),
    "norm_eps": (NUMBER,),
    "norm_scale": ("1", "v_th", NUMBER),
    "norm_running": ("unbiased",),
    "norm_momentum": (NUMBER,),
    "norm_gradient": ("full",),
    "norm_model": ("bn", "tebn", "bntt", "psp"),
    "tebn_bias": (True,),
    "bntt_weight": ("each step",),
    "psp_root": (True, False),
    "skip": ("before firing",),
    "block": ("basic", "sew_add", "sew_and", "sew_iand", "ms"),
    "sew_iand": ("(1 - a) s",),
    "sew_gradient": ("full",),
    "pooling": ("mean",),
    "readout": ("mean", "sum"),
    "loss_at": ("mean", "each step"),
    "branch_sum": ("logits", "losses"),
    "branches_counted": ("all",),
    "loss": ("mean",),
    "tet_lam": (NUMBER,),
    "tet_phi": ("v_th", NUMBER),
    "tet_mean": ("classes",),
    "potential_loss": ("none", "im", "mpd_reconstructed"),
    "potential_lam": ("as published", NUMBER),
    "potential_layers": ("as published", "opposite"),
    "potential_gradient": ("carried back",),
    "teacher_loss": ("none", "logits"),
    "teacher_weight": (NUMBER,),
    "teacher_temperature": (NUMBER,),
    "teacher_factor": ("temperature squared",),
    "teacher_divergence": ("KL(teacher, student)",),
    "lam": ("as given", NUMBER),
    "shortcut_weight": ("as given", NUMBER),
    "lam_clock": ("iteration", "epoch"),
    "lr": ("as given", NUMBER),
    "schedule": ("from iteration 1",),
    "momentum": ("as given", NUMBER),
    "nesterov": (False, True),
    "adam_beta1": (NUMBER,),
    "adam_beta2": (NUMBER,),
    "adam_eps": (NUMBER,),
    # a case's settings hold these numbers
    "optimizer_bias_correction": (True, False),
    "weight_decay": ("as given", NUMBER),
    "decay_form": ("decoupled",),
    "decay_on": ("all", "weights"),
}


def outputs(level, inputs, settings, conventions):
    """Return all outputs of a case by name; ValueError for conventions not computed here."""
    for name, value in conventions.items():
        only_neurons = (name, value) == ("recurrence", "dense")
        if not is_computed(name, value) or (only_neurons and level != "neuron"):
            raise ValueError(
                f"{name}: {value} cannot be declared: the plain loops do not compute it"
            )
    return LEVELS[level](inputs, settings, description(settings, conventions), conventions)


def is_computed(name, value):
    """Tell whether the loops compute this value of a convention."""
    is_number = not isinstance(value, str | bool)
    kind = FUNCTION if callable(value) else NUMBER if is_number else value
    return kind in COMPUTED.get(name, ())


def description(settings, conventions):
    """Return the network as the plain dict that the loops read."""
    scale = conventions["norm_scale"]
    return {
        "depths": settings.get("depths"),
        "widths": settings.get("widths"),
        "hidden": 0,
        "stem": {
            "convs": 1,
            "kernel": 3,
            "stride": 1,
            "width": settings.get("stem_width"),
            "pool": None,
        },
        "branches": settings.get("branches"),
        "downsample": "conv",
        "readout": conventions["readout"],
        "norm": {
            "statistics": conventions["norm_statistics"],
            "scale": conventions["v_th"] if scale == "v_th" else float(scale),
            "eps": conventions["norm_eps"],
            "momentum": conventions["norm_momentum"],
        },
        "neuron": {name: conventions[name] for name in neuron.PAPER},
        "block": conventions.get("block", "basic"),
    }


def last(x):
    """Move channels last: (..., C, H, W) to (..., H, W, C)."""
    return np.moveaxis(x, -3, -1)


def first(x):
    """Move channels first: (..., H, W, C) to (..., C, H, W)."""
    return np.moveaxis(np.asarray(x), -1, -3)


def ours(name, x):
    """Convert a parameter from PyTorch's axis order to refsnn's."""
    if x.ndim == 4:
        return x.transpose(2, 3, 1, 0)
    return x.T if name.endswith(".weight") and x.ndim == 2 else x


def theirs(name, x):
    """Convert a parameter from refsnn's axis order to PyTorch's."""
    if x.ndim == 4:
        return x.transpose(3, 2, 0, 1)
    return x.T if name.endswith(".weight") and x.ndim == 2 else x


def numbers(inputs, endings, prefix=""):
    return {prefix + k: ours(k, v) for k, v in inputs.items() if k.endswith(endings)}


def gradients(grads, prefix=""):
    return {f"grad.{k.removeprefix(prefix)}": theirs(k, v) for k, v in grads.items()}


def surrogate(inputs, settings, net, conventions):
    alone = net["neuron"] | {"reset": "zero", "reset_potential": 0.0}
    return {"h": np.array([neuron.slope(u, alone) for u in inputs["u_pre"].tolist()])}


#: conventions of a LIF that the neurons with parameters follow; model -> further ones
SHARED = (
    *("fire_at_threshold", "reset_gradient", "surrogate", "surrogate_shape"),
    *("surrogate_scale", "surrogate_edge", "surrogate_unit"),
)
FURTHER = {
    "plif": ("v_th",),
    "glif": (),
    "diet": (),
    "mpbn": ("tau", "v_th"),
    "real_spike": ("tau", "v_th"),
}
#: parameters of GLIF -> the loops' names for them, where they are others
GLIF_NAMES = {"l": "leak", "r": "reset", "g": "gain"}


def with_parameters(inputs, settings, net, conventions):
    """Return the outputs of a layer of neurons with parameters and the currents c (T, N, C)."""
    model = conventions["neuron_model"]
    wanted = neuron.PAPER | ({"reset": "subtract"} if model == "diet" else {})
    for name, value in net["neuron"].items():
        if name not in (*SHARED, *FURTHER[model]) and value != wanted[name]:
            raise ValueError(
                f"{name}: {value} cannot be declared with neuron_model {model}: the plain loops do "
                "not compute it"
            )
    c, do = (inputs[name][:, :, None, None] for name in ("c", "do"))
    n = net["neuron"]
    if model == "plif":
        found = neurons.plif(c, do, inputs["w"][0], n, conventions["plif_input_decay"])
    elif model == "glif":
        parameters = [name for name in inputs if name not in ("c", "do")]
        raw = {GLIF_NAMES.get(name, name): inputs[name] for name in parameters}
        found = neurons.glif(c, do, raw, n)
        for name, theirs_name in GLIF_NAMES.items():
            found[name] = found.pop(theirs_name)
    elif model == "diet":
        leak, v_th = inputs["leak"][0], inputs["v_th"][0]
        found = neurons.diet(c, do, leak, v_th, n, conventions["diet_reset_leaks"])
    elif model == "real_spike":
        found = neurons.real_spike(c, do, inputs["a"], n["tau"], n)
        found |= {"y": found["o"], "o": found.pop("spikes")}
    else:
        names = ("weight", "bias", "running_mean", "running_var")
        found = neurons.mpbn(c, do, *(inputs[k] for k in names), n, settings["training"])
        found |= {"weight": found.pop("gamma"), "bias": found.pop("beta")}
        new = {"new.running_mean": found.pop("mean"), "new.running_var": found.pop("var")}
        found |= new if settings["training"] else {}
    shown = {"u_pre": "u_pre", "v": "v", "o": "o", "y": "y", "c": "dc"}
    made = {shown[k]: value[:, :, 0, 0] for k, value in found.items() if k in shown}
    for name, value in found.items():
        if name not in shown:
            whole = np.reshape(value, inputs[name].shape) if name in inputs else value
            made[name if name in ("new.running_mean", "new.running_var") else f"grad.{name}"] = (
                whole
            )
    return made


def one_neuron(inputs, settings, net, conventions):
    if conventions.get("neuron_model", "lif") != "lif":
        return with_parameters(inputs, settings, net, conventions)
    c, do, found = inputs["c"], inputs["do"], {}
    if conventions.get("recurrence", "none") == "dense":
        states = neuron.coupled_states(c, inputs["v"], None, net["neuron"])
        grads = neuron.coupled_gradients(do, c, inputs["v"], None, net["neuron"])
        found["dv"] = grads["dv"]
    else:
        states = neuron.states(c, None, net["neuron"])
        grads = neuron.gradients(do, c, None, net["neuron"])
    found |= {
        "du_pre": grads["du_pre_seq"],
        "dc": grads["dc_seq"],
        "du0": grads["du0"],
        "dtau": np.asarray(grads["dtau"]),
        "dv_th": np.asarray(grads["dv_th"]),
    }
    return states | found


def start(inputs, net, prefix, is_training):
    """Return the state of a pass before its first layer; `prefix` precedes parameters' names."""
    run = {
        "net": net,
        "params": numbers(inputs, PARAMETERS, prefix),
        "training": is_training,
        "buffers": numbers(inputs, STATISTICS, prefix),
    }
    return run | {"inputs": {}, "spikes": {}, "u_pre": {}, "u": {}, "du_pre": {}, "branches": []}


def seen(run, name, as_):
    """Return u_pre, o and u of a layer of neurons."""
    return {
        f"{as_}u_pre": first(run["u_pre"][name]),
        f"{as_}o": first(run["spikes"][name]),
        f"{as_}u": first(run["u"][name]),
    }


def moved(run, prefix=""):
    """Return the new running statistics of a training pass."""
    if not run["training"]:
        return {}
    return {f"new.{name.removeprefix(prefix)}": value for name, value in run["buffers"].items()}


#: norms of other methods -> the statistics that the loops take for them
NORM_STATISTICS = {"tebn": "pooled", "bntt": "per_step", "psp": "pooled"}


def other_norm(model, x, dy, inputs, net, conventions, is_training):
    """Return a norm's output and gradients, with the names of a layer's parameters and outputs."""
    for name, wanted in (("statistics", NORM_STATISTICS[model]), ("scale", 1.0)):
        if net["norm"][name] != wanted:
            raise ValueError(
                f"norm_{name}: {net['norm'][name]} cannot be declared with norm_model {model}: the "
                "plain loops do not compute it"
            )
    own = {name.removeprefix("bn."): value for name, value in inputs.items() if "bn." in name}
    more = {"eps": net["norm"]["eps"], "momentum": net["norm"]["momentum"]}
    gamma, var = own["weight"], own["running_var"]
    if model == "tebn":
        given = gamma, own["bias"], own["p"], own["running_mean"], var
        found = norms.tebn(x, dy, *given, is_training, **more)
    elif model == "bntt":
        found = norms.bntt(x, dy, gamma, own["running_mean"], var, is_training, **more)
    else:
        found = norms.pspbn(x, dy, gamma, var, is_training, root=conventions["psp_root"], **more)
    new = {"running_mean": found.get("mean"), "running_var": found.get("var", found.get("square"))}
    grads = {"weight": found["gamma"], "bias": found.get("beta"), "p": found.get("p")}
    return (
        found["y"],
        found["x"],
        {f"bn.{k}": v for k, v in new.items() if v is not None},
        {f"grad.bn.{k}": v for k, v in grads.items() if v is not None},
    )


def layer_with_norm(model, inputs, settings, net, conventions):
    """Return the outputs of a layer with the norm of another method."""
    stride, padding = settings["stride"], settings["padding"]
    x, do, w = last(inputs["x"]), last(inputs["do"]), ours("conv.weight", inputs["conv.weight"])
    told = inputs, net, conventions, settings["training"]

    def conv(y):
        return network.split(layers.conv_forward(network.merge(y), w, stride, padding), y)

    def conv_back(dy, y):
        dx, dw = layers.conv_backward(network.merge(dy), network.merge(y), w, stride, padding)
        return network.split(dx, y), dw

    if model == "psp":
        y, _, new, _ = other_norm(model, x, np.zeros(x.shape), *told)
        c = made = conv(y)
    else:
        c = conv(x)
        made, _, new, _ = other_norm(model, c, np.zeros(c.shape), *told)
    states = neuron.states(made, None, net["neuron"])
    found = neuron.gradients(do, made, None, net["neuron"])
    if model == "psp":
        dy, dw = conv_back(found["dc_seq"], y)
        _, dx, _, grads = other_norm(model, x, dy, *told)
    else:
        _, dc, _, grads = other_norm(model, c, found["dc_seq"], *told)
        dx, dw = conv_back(dc, x)
    outputs = {"conv": first(c), "bn": first(made)}
    if model == "psp":
        del outputs["bn"]
    outputs |= {name: first(states[name]) for name in ("u_pre", "o", "u")}
    if settings["training"]:
        outputs |= {f"new.{name}": value for name, value in new.items()}
    outputs |= {"du_pre": first(found["du_pre_seq"]), "dx": first(dx)}
    return outputs | gradients({"conv.weight": dw}) | grads


def one_layer(inputs, settings, net, conventions):
    model = conventions.get("norm_model", "bn")
    if model != "bn":
        return layer_with_norm(model, inputs, settings, net, conventions)
    run = start(inputs, net, "", settings["training"])
    stride, padding = settings["stride"], settings["padding"]
    x = last(inputs["x"])
    c = network.split(
        layers.conv_forward(network.merge(x), run["params"]["conv.weight"], stride, padding), x
    )
    names = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    gamma, beta, mean, var = (inputs[name] for name in names)
    y, *new = batchnorm.forward(c, gamma, beta, mean, var, net["norm"], run["training"])
    states = neuron.states(y, None, net["neuron"])
    neurons = neuron.gradients(last(inputs["do"]), y, None, net["neuron"])
    dc, dgamma, dbeta = batchnorm.backward(
        neurons["dc_seq"], c, gamma, mean, var, net["norm"], run["training"]
    )
    dx, dw = layers.conv_backward(
        network.merge(dc), network.merge(x), run["params"]["conv.weight"], stride, padding
    )
    run["u_pre"]["lif"], run["spikes"]["lif"], run["u"]["lif"] = (
        states[name] for name in ("u_pre", "o", "u")
    )
    run["buffers"] = dict(zip(names[2:], new, strict=True))
    grads = {"conv.weight": dw, "bn.weight": dgamma, "bn.bias": dbeta}
    found = {"conv": first(c), "bn": first(y)} | seen(run, "lif", "") | moved(run)
    found |= {"du_pre": first(neurons["du_pre_seq"]), "dx": first(network.split(dx, x))}
    return found | gradients(grads)


def one_block(inputs, settings, net, conventions):
    run = start(inputs, net, "block.", settings["training"])
    weight = inputs["conv1.weight"]
    shape = {
        "name": "block",
        "in": weight.shape[1],
        "out": weight.shape[0],
        "stride": settings["stride"],
        "project": "skip.conv.weight" in inputs,
        "branch": None,
    }
    kind = network if net["block"] == "basic" else blocks
    y, found = kind.block_forward(run, shape, last(inputs["x"])), {}
    names = [name for name in ("lif1", "lif2", "skip.lif") if f"block.{name}" in run["u_pre"]]
    for name in names:
        found |= seen(run, f"block.{name}", f"{name}.")
    if net["block"] != "basic":
        found["y"] = first(y)
    found |= moved(run, "block.")
    run["buffers"] = numbers(inputs, STATISTICS, "block.")
    grads = {}
    dx = kind.block_back(run, grads, shape, last(inputs["do"]))
    found |= {f"{n}.du_pre": first(run["du_pre"][f"block.{n}"]) for n in names}
    return found | {"dx": first(dx)} | gradients(grads, "block.")


def whole_network(inputs, settings, net, conventions):
    net |= {"in_channels": inputs["images"].shape[1], "num_classes": len(inputs["head.fc.bias"])}
    params, buffers = numbers(inputs, PARAMETERS), numbers(inputs, STATISTICS)
    x_seq = np.asarray([last(inputs["images"])] * settings["steps"])
    kind = network if net["block"] == "basic" else blocks
    run = kind.forward(net, params, buffers, x_seq, settings["training"])
    found = {}
    for name in run["u_pre"]:
        found |= seen(run, name, f"{name}.")
    sides = [block["branch"] for block in network.blocks(net) if block["branch"]]
    found |= {f"{k}.logits": b for k, b in zip([*sides, "head"], run["branches"], strict=True)}
    if not settings["training"]:
        return found
    side = settings["side"]
    loss, db = of_logits(run, inputs, side, conventions)
    more, sources = of_potentials(run["u_pre"], net, conventions)
    grads, du_pre = kind.gradients_and_potentials(net, params, buffers, x_seq, db, sources=sources)
    found |= {"loss": np.asarray(loss + more)} | moved(run | {"training": True})
    found |= {f"{name}.du_pre": first(value) for name, value in du_pre.items()}
    return found | gradients(grads)


def of_logits(run, inputs, side, conventions):
    """Return the loss of the branches' logits, and its gradients at them."""
    labels, branches = inputs["labels"], run["branches"]
    branch_sum, loss_at = conventions["branch_sum"], conventions.get("loss_at", "mean")
    lam = conventions.get("tet_lam", 0.0)
    if lam:
        if branch_sum != "logits" or loss_at != "each step" or "teacher" in inputs:
            raise ValueError(
                f"tet_lam: {lam} cannot be declared without loss_at each step and branch_sum "
                "logits: the plain loops do not compute it"
            )
        phi = conventions["v_th"] if conventions["tet_phi"] == "v_th" else conventions["tet_phi"]
        return objective.tet(run["step_logits"], labels, side, lam, phi)
    if "teacher" not in inputs:
        return objective.over_time(run, labels, side, branch_sum, loss_at)
    if branch_sum != "logits" or loss_at != "mean":
        raise ValueError("teacher_loss: logits cannot be declared with branch_sum or loss_at")
    told = conventions["teacher_temperature"], conventions["teacher_weight"]
    combined = objective.combine(branches, side)
    loss, slope = distillation.of_logits(combined, inputs["teacher"], labels, *told)
    return loss, [side * slope for _ in branches[:-1]] + [slope]


def of_potentials(u_pre, net, conventions):
    """Return the loss of the layers' potentials, and its gradients at those of each layer."""
    kind, sources, total = conventions.get("potential_loss", "none"), {}, 0.0
    if kind == "none":
        return total, sources
    lam, v_th = conventions["potential_lam"], conventions["v_th"]
    everywhere = (kind == "im") == (conventions["potential_layers"] == "opposite")
    for name, values in u_pre.items():
        end = "lif1" if net["block"] == "ms" else "lif2"
        ends = name.startswith("stem.") or name == "final.lif" or name.endswith(f".{end}")
        if not (everywhere or ends):
            continue
        if kind == "im":
            weight = 2.0 if lam == "as published" else lam
            found = potentials.information_maximization(values, v_th, weight)
        else:
            weight = 0.01 if lam == "as published" else lam
            found = potentials.potential_distribution(values, v_th, v_th, weight, weight, weight)
        total += found[0]
        sources[name] = found[1]
    return total, sources


def whole_training(inputs, settings, net, conventions):
    net |= {"in_channels": inputs["images"].shape[2], "num_classes": len(inputs["head.fc.bias"])}
    total = len(inputs["images"])
    options = (
        dict(settings)
        | {
            "total": total,
            "batches_per_epoch": settings["batches"],
        }
        | {name: conventions[name] for name in ("lam_clock", "branch_sum", "decay_on")}
        | {name: conventions.get(name, value) for name, value in training.PAPER.items()}
    )
    params, buffers = numbers(inputs, PARAMETERS), numbers(inputs, STATISTICS)
    batches = [(last(x), y) for x, y in zip(inputs["images"], inputs["labels"], strict=True)]
    after_one = training.train(net, params, buffers, batches[:1], options)
    after_all = training.train(net, params, buffers, batches, options)
    found = {
        "side": np.asarray(after_all["sides"]),
        "loss": np.asarray(after_all["losses"]),
        "lr": np.asarray([training.cosine(settings["lr"], i + 1, total) for i in range(total)]),
    }
    for when, run in (("first", after_one), ("last", after_all)):
        found |= {f"{when}.{name}": theirs(name, value) for name, value in run["params"].items()}
    return found | {f"new.{name}": value for name, value in after_all["buffers"].items()}


LEVELS = {
    "surrogate": surrogate,
    "neuron": one_neuron,
    "layer": one_layer,
    "block": one_block,
    "network": whole_network,
    "training": whole_training,
}
