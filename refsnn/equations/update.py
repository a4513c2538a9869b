"""The optimisers' rules (D17) for one parameter, element by element."""

import numpy as np

from refsnn.equations.surrogate import Array

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # PyTorch's defaults


def sgd_update(
    w: Array, g: Array, v: Array, lr: float, momentum: float, decay: float
) -> tuple[Array, Array]:
    """v <- momentum v + (g + decay w);  w <- w - lr v."""
    v = momentum * v + (g + decay * w)
    return w - lr * v, v  # Alg. 1 line 8


def adamw_update(
    w: Array, g: Array, mean: Array, square: Array, i: int, lr: float, decay: float
) -> tuple[Array, Array, Array]:
    """Adam with decoupled decay (Loshchilov and Hutter 2019): w shrinks apart from g.

    (w, mean, square) after iteration i = 1, 2, …
    """
    mean = BETA1 * mean + (1 - BETA1) * g
    square = BETA2 * square + (1 - BETA2) * (g * g)
    direction = (mean / (1 - BETA1**i)) / (np.sqrt(square / (1 - BETA2**i)) + EPS)
    return w * (1 - lr * decay) - lr * direction, mean, square  # Alg. 1 line 8
