"""The optimisers' update rules (D17) for one parameter of any shape, element by element."""

import numpy as np

from refsnn.equations.surrogate import Array

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # PyTorch's defaults


def sgd_update(
    w: Array, g: Array, v: Array, lr: float, momentum: float, decay: float
) -> tuple[Array, Array]:
    """Return the weights and the velocity after a step of SGD with momentum.

        v <- momentum v + (g + decay w)
        w <- w - lr v

    As in PyTorch, the decay is part of the gradient, and lr does not enter the velocity.
    """
    v = momentum * v + (g + decay * w)
    return w - lr * v, v  # Alg. 1 line 8


def adamw_update(
    w: Array, g: Array, mean: Array, square: Array, i: int, lr: float, decay: float
) -> tuple[Array, Array, Array]:
    """Return w and the moments of its gradient after iteration i = 1, 2, … of AdamW.

        mean <- beta1 mean + (1 - beta1) g
        square <- beta2 square + (1 - beta2) g^2
        w <- (1 - lr decay) w - lr (mean/(1 - beta1^i))/(sqrt(square/(1 - beta2^i)) + eps)

    The decay is decoupled from the gradient (Loshchilov and Hutter 2019).
    """
    mean = BETA1 * mean + (1 - BETA1) * g
    square = BETA2 * square + (1 - BETA2) * (g * g)
    direction = (mean / (1 - BETA1**i)) / (np.sqrt(square / (1 - BETA2**i)) + EPS)
    return w * (1 - lr * decay) - lr * direction, mean, square  # Alg. 1 line 8
