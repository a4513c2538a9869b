"""The test vectors' outputs by the naive loops, from and to PyTorch's axis order.

The loops keep no state, so that a case that is run several times gives the same outputs each time.
"""

import numpy as np

from refsnn.oracle.naive import batchnorm, layers, network, neuron, objective, training

PARAMETERS = (".weight", ".bias")
STATISTICS = (".running_mean", ".running_var")


def outputs(level, inputs, settings, conventions):
    """Return all outputs of a case by name."""
    return LEVELS[level](inputs, settings, description(settings, conventions), conventions)


def description(settings, conventions):
    """Return the network as the plain dict that the loops read."""
    scale = conventions["v_th"] if conventions["norm_scale"] == "v_th" else 1.0
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
            "scale": scale,
            "eps": conventions["norm_eps"],
            "momentum": 0.1,
        },
        "neuron": {
            "tau": conventions["tau"],
            "v_th": conventions["v_th"],
            "surrogate": conventions["surrogate"],
            "surrogate_shape": conventions["surrogate_shape"],
            "surrogate_edge": conventions["surrogate_edge"],
            "reset_gradient": conventions["reset_gradient"],
            "fire_at_threshold": conventions["fire_at_threshold"],
        },
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
    return {"h": np.array([neuron.slope(u, net["neuron"]) for u in inputs["u_pre"].tolist()])}


def one_neuron(inputs, settings, net, conventions):
    u_pre, o = neuron.lif_forward(inputs["c"], 0.0, net["neuron"])
    dc = neuron.lif_backward(inputs["do"], inputs["c"], 0.0, net["neuron"])["dc_seq"]
    return {"u_pre": u_pre, "o": o, "u": u_pre * (1 - o), "du_pre": dc, "dc": dc}


def start(inputs, net, prefix, is_training):
    """Return the state of a pass before its first layer; `prefix` precedes parameters' names."""
    run = {
        "net": net,
        "params": numbers(inputs, PARAMETERS, prefix),
        "training": is_training,
        "buffers": numbers(inputs, STATISTICS, prefix),
    }
    return run | {"inputs": {}, "spikes": {}, "u_pre": {}, "du_pre": {}, "branches": []}


def seen(run, name, as_):
    """Return u_pre, o and u of a layer of neurons."""
    u_pre, o = run["u_pre"][name], run["spikes"][name]
    return {f"{as_}u_pre": first(u_pre), f"{as_}o": first(o), f"{as_}u": first(u_pre * (1 - o))}


def moved(run, prefix=""):
    """Return the new running statistics of a training pass."""
    if not run["training"]:
        return {}
    return {f"new.{name.removeprefix(prefix)}": value for name, value in run["buffers"].items()}


def one_layer(inputs, settings, net, conventions):
    run = start(inputs, net, "", settings["training"])
    stride, padding = settings["stride"], settings["padding"]
    x = last(inputs["x"])
    c = network.split(
        layers.conv_forward(network.merge(x), run["params"]["conv.weight"], stride, padding), x
    )
    names = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    gamma, beta, mean, var = (inputs[name] for name in names)
    y, *new = batchnorm.forward(c, gamma, beta, mean, var, net["norm"], run["training"])
    u_pre, o = neuron.lif_forward(y, 0.0, net["neuron"])
    du_pre = neuron.lif_backward(last(inputs["do"]), y, 0.0, net["neuron"])["dc_seq"]
    dc, dgamma, dbeta = batchnorm.backward(
        du_pre, c, gamma, mean, var, net["norm"], run["training"]
    )
    dx, dw = layers.conv_backward(
        network.merge(dc), network.merge(x), run["params"]["conv.weight"], stride, padding
    )
    run["u_pre"]["lif"], run["spikes"]["lif"] = u_pre, o
    run["buffers"] = dict(zip(names[2:], new, strict=True))
    grads = {"conv.weight": dw, "bn.weight": dgamma, "bn.bias": dbeta}
    found = {"conv": first(c), "bn": first(y)} | seen(run, "lif", "") | moved(run)
    found |= {"du_pre": first(du_pre), "dx": first(network.split(dx, x))}
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
    network.block_forward(run, shape, last(inputs["x"]))
    found = seen(run, "block.lif1", "lif1.") | seen(run, "block.lif2", "lif2.")
    found |= moved(run, "block.")
    run["buffers"] = numbers(inputs, STATISTICS, "block.")
    grads = {}
    dx = network.block_back(run, grads, shape, last(inputs["do"]))
    found |= {f"{n}.du_pre": first(run["du_pre"][f"block.{n}"]) for n in ("lif1", "lif2")}
    return found | {"dx": first(dx)} | gradients(grads, "block.")


def whole_network(inputs, settings, net, conventions):
    net |= {"in_channels": inputs["images"].shape[1], "num_classes": len(inputs["head.fc.bias"])}
    params, buffers = numbers(inputs, PARAMETERS), numbers(inputs, STATISTICS)
    x_seq = np.asarray([last(inputs["images"])] * settings["steps"])
    run = network.forward(net, params, buffers, x_seq, settings["training"])
    found = {}
    for name in run["u_pre"]:
        found |= seen(run, name, f"{name}.")
    sides = [block["branch"] for block in network.blocks(net) if block["branch"]]
    found |= {f"{k}.logits": b for k, b in zip([*sides, "head"], run["branches"], strict=True)}
    if not settings["training"]:
        return found
    loss, db = objective.objective(
        run["branches"], inputs["labels"], settings["side"], conventions["branch_sum"]
    )
    grads, du_pre = network.gradients_and_potentials(net, params, buffers, x_seq, db)
    found |= {"loss": np.asarray(loss)} | moved(run | {"training": True})
    found |= {f"{name}.du_pre": first(value) for name, value in du_pre.items()}
    return found | gradients(grads)


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
