"""Optimisers (D17) and the learning rate's schedule; all they work on are flat dicts."""

import math
from collections.abc import Callable

import numpy as np

from refsnn.network import Params
from refsnn.training.config import TrainConfig

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # PyTorch's defaults
Stepped = tuple[Params, Params]  # parameters and optimiser's state after a step


def cosine(lr: float, i: int, total: int) -> float:
    """Learning rate at iteration i = 1 … total: `lr` at the first, on its way to 0."""
    return lr * (1 + math.cos(math.pi * (i - 1) / total)) / 2  # D17  # R3


def decay_of(name: str, config: TrainConfig) -> float:
    """The weight decay of a parameter: batch norm and biases are left out unless `decay_all`."""
    is_weight = name.endswith(".weight") and not name.split(".")[-2].startswith("bn")
    return config.weight_decay if is_weight or config.decay_all else 0.0  # D17


def init_state(params: Params, config: TrainConfig) -> Params:
    """Zeros for each moment that the optimiser keeps of each parameter."""
    moments = {"sgd": ["momentum"], "adamw": ["mean", "square"]}[config.optimizer]
    return {f"{m}.{name}": np.zeros_like(p) for m in moments for name, p in params.items()}


def sgd(
    params: Params, grads: Params, state: Params, i: int, lr: float, config: TrainConfig
) -> Stepped:
    """v <- momentum v + (g + decay w);  w <- w - lr v."""
    new, kept = {}, {}
    for name, w in params.items():
        g = grads[name] + decay_of(name, config) * w
        v = config.momentum * state[f"momentum.{name}"] + g
        kept[f"momentum.{name}"] = v
        new[name] = w - lr * v  # Alg. 1 line 8
    return new, kept


def adamw(
    params: Params, grads: Params, state: Params, i: int, lr: float, config: TrainConfig
) -> Stepped:
    """Adam with decoupled decay (Loshchilov and Hutter 2019): w shrinks apart from g."""
    new, kept = {}, {}
    for name, w in params.items():
        g = grads[name]
        mean = BETA1 * state[f"mean.{name}"] + (1 - BETA1) * g
        square = BETA2 * state[f"square.{name}"] + (1 - BETA2) * (g * g)
        kept[f"mean.{name}"], kept[f"square.{name}"] = mean, square
        direction = (mean / (1 - BETA1**i)) / (np.sqrt(square / (1 - BETA2**i)) + EPS)
        new[name] = w * (1 - lr * decay_of(name, config)) - lr * direction  # Alg. 1 line 8
    return new, kept


OPTIMIZERS: dict[str, Callable[..., Stepped]] = {"sgd": sgd, "adamw": adamw}  # D17
