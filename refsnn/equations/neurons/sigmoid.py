"""The logistic function, which keeps a learnt constant between 0 and 1."""

import math

import numpy as np

from refsnn.equations.surrogate import Array


def sigmoid(x: Array) -> Array:
    """Return 1/(1 + exp(-x)) in x's shape and dtype, by tanh, which doesn't overflow."""
    return (1 + np.tanh(x / 2)) / 2


def logit(y: float) -> float:
    """Return the x with sigmoid(x) = y, for y between 0 and 1."""
    return math.log(y / (1 - y))
