"""Algorithm 1 with the optimisers of D17, number by number."""

import math

import numpy as np

from refsnn.oracle.naive import network
from refsnn.oracle.naive.objective import coefficient, over_time

#: settings that may be left out
PAPER = {
    "loss_at": "mean",
    "optimizer_bias_correction": True,
    "nesterov": False,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_eps": 1e-8,
}


def cosine(lr, i, total):
    """Return the learning rate of iteration i = 1..total: `lr` at first, then towards 0 (D17)."""
    return lr * (1.0 + math.cos(math.pi * (i - 1) / total)) / 2.0


def sgd_step(w, g, v, lr, momentum, decay, nesterov=False):
    """Update one number by PyTorch's SGD with coupled decay; returns (w, v). v starts at 0."""
    g = g + decay * w
    v = momentum * v + g
    return w - lr * (g + momentum * v if nesterov else v), v


def adamw_step(w, g, m, s, i, lr, decay, given=PAPER):
    """Update one number by PyTorch's AdamW; returns (w, m, s).

    i = 1 at the first step; m and s start at 0. `given` holds the names of `PAPER`.
    """
    beta1, beta2 = given["adam_beta1"], given["adam_beta2"]
    m = beta1 * m + (1.0 - beta1) * g
    s = beta2 * s + (1.0 - beta2) * g * g
    mean, square = m, s
    if given["optimizer_bias_correction"]:
        mean, square = m / (1.0 - beta1**i), s / (1.0 - beta2**i)
    root = math.sqrt(square)
    return w * (1.0 - lr * decay) - lr * mean / (root + given["adam_eps"]), m, s


def train(net, params, buffers, batches, settings):
    """Run Algorithm 1 over [(images (N, H, W, C), labels), ...].

    Returns the final "params" and "buffers", and "losses" and "sides" of every iteration.
    """
    settings = PAPER | settings
    params = {name: np.asarray(value, dtype=float) for name, value in params.items()}
    memory = {name: [(0.0, 0.0)] * value.size for name, value in params.items()}
    losses, sides = [], []
    for i, (images, labels) in enumerate(batches, start=1):
        x_seq = np.asarray([images] * settings["steps"], dtype=float)  # D7
        result = network.forward(net, params, buffers, x_seq, training=True)
        side = side_coefficient(i, settings)
        loss, db = over_time(result, labels, side, settings["branch_sum"], settings["loss_at"])
        grads = network.gradients(net, params, buffers, x_seq, db, training=True)
        params = {
            name: _update(name, params[name], grads[name], memory[name], i, settings)
            for name in params
        }
        buffers = result["buffers"]
        losses.append(loss)
        sides.append(side)
    return {"params": params, "buffers": buffers, "losses": losses, "sides": sides}


def side_coefficient(i, settings):
    """Return the side branches' coefficient at iteration i = 1..total (D16)."""
    now, end = i, settings["total"]
    if settings["lam_clock"] == "epoch":
        now = (i - 1) // settings["batches_per_epoch"] + 1
        end = settings["total"] / settings["batches_per_epoch"]
    elif settings["lam_clock"] != "iteration":
        raise ValueError(f"unknown clock {settings['lam_clock']!r}")
    return coefficient(settings["method"], now, end, settings["lam"], settings["shortcut_weight"])


def _update(name, weights, gradient, memory, i, settings):
    """Return a parameter after one step; `memory` holds the optimiser's state of every number."""
    lr = cosine(settings["lr"], i, settings["total"])
    # batch norm's parameters and all biases are the ones with a single dimension
    decay = settings["weight_decay"] if settings["decay_on"] == "all" or weights.ndim > 1 else 0.0
    numbers, grads = weights.reshape(-1).tolist(), gradient.reshape(-1).tolist()
    for j, (w, g) in enumerate(zip(numbers, grads, strict=True)):
        m, s = memory[j]
        if settings["optimizer"] == "sgd":
            momentum, nesterov = settings["momentum"], settings["nesterov"]
            numbers[j], m = sgd_step(w, g, m, lr, momentum, decay, nesterov)
        elif settings["optimizer"] == "adamw":
            numbers[j], m, s = adamw_step(w, g, m, s, i, lr, decay, settings)
        else:
            raise ValueError(f"unknown optimizer {settings['optimizer']!r}")
        memory[j] = (m, s)
    return np.asarray(numbers, dtype=float).reshape(weights.shape)
