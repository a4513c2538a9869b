"""Optimisers (D17) on flat dicts of parameters, and the learning rate's schedule."""

import math
from collections.abc import Callable

import numpy as np

from refsnn.network import Params, is_neuron, is_norm
from refsnn.ops import NUMPY, Ops
from refsnn.training.settings import OptimizerSettings

Stepped = tuple[Params, Params]  # parameters and optimiser's state after a step


def cosine(lr: float, i: int, total: int) -> float:
    """Return the learning rate at iteration i = 1 … I = `total`.

        lr(i) = lr (1 + cos(pi (i - 1)/I))/2

    It is `lr` at the first iteration, and would be 0 at iteration I + 1. Source: D17, R3.
    """
    return lr * (1 + math.cos(math.pi * (i - 1) / total)) / 2  # D17  # R3


def decay_of(name: str, settings: OptimizerSettings) -> float:
    """Return a parameter's weight decay.

    It is 0 for batch norm and biases unless `decay_on` is all, and for neurons' parameters always:
    0 means no more to them than any other value. Source: D17, R7.
    """
    if is_neuron(name):
        return 0.0  # R7
    is_weight = name.endswith(".weight") and not is_norm(name)
    return settings.weight_decay if is_weight or settings.decay_on == "all" else 0.0  # D17


def init_state(params: Params, settings: OptimizerSettings) -> Params:
    """Return zeros for each moment that the optimiser keeps of each parameter."""
    moments = {"sgd": ["momentum"], "adamw": ["mean", "square"]}[settings.optimizer]
    return {f"{m}.{name}": np.zeros_like(p) for m in moments for name, p in params.items()}


def sgd(
    params: Params,
    grads: Params,
    state: Params,
    i: int,
    lr: float,
    settings: OptimizerSettings,
    ops: Ops = NUMPY,
) -> Stepped:
    """Return parameters and state after iteration i of SGD (`equations/update.py`)."""
    new, kept = {}, {}
    for name, w in params.items():
        decay, v = decay_of(name, settings), f"momentum.{name}"
        new[name], kept[v] = ops.sgd_update(w, grads[name], state[v], lr, settings.momentum, decay)
    return new, kept


def adamw(
    params: Params,
    grads: Params,
    state: Params,
    i: int,
    lr: float,
    settings: OptimizerSettings,
    ops: Ops = NUMPY,
) -> Stepped:
    """Return parameters and state after iteration i of AdamW (`equations/update.py`)."""
    new, kept = {}, {}
    for name, w in params.items():
        decay, mean, square = decay_of(name, settings), f"mean.{name}", f"square.{name}"
        new[name], kept[mean], kept[square] = ops.adamw_update(
            w, grads[name], state[mean], state[square], i, lr, decay
        )
    return new, kept


OPTIMIZERS: dict[str, Callable[..., Stepped]] = {"sgd": sgd, "adamw": adamw}  # D17
