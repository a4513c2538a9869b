"""The choice of Dspike's temperature b by finite differences (Li et al., 2021)."""

import math

import numpy as np


def choose(loss, gradient, w, b, indices, eps, delta_b, least=0.1):
    """Choose the b whose gradient points most along the differences of the spiking network's loss.

    loss(w) is the loss of the spiking network, which no b is in; gradient(w, b) is that of its
    back-propagation, in the shape of w. Only the weights at `indices`, places in w.ravel(), are
    compared. Each is moved by eps, an absolute distance, to both sides.

    The candidates are b, b + delta_b and b - delta_b, each at least `least`. The largest cosine
    wins, and of equal ones the first, so that b stays. A gradient of length 0 has cosine 0.

    Returns "b", the "candidates", their "cosines", and "differences" in the order of `indices`.
    """
    w = np.asarray(w, dtype=float)
    differences = []
    for index in indices:
        above, below = w.copy(), w.copy()
        above.flat[index] += eps
        below.flat[index] -= eps
        differences.append((float(loss(above)) - float(loss(below))) / (2.0 * eps))
    candidates = [max(float(value), float(least)) for value in (b, b + delta_b, b - delta_b)]
    cosines = []
    for candidate in candidates:
        found = np.asarray(gradient(w.copy(), candidate), dtype=float).ravel().tolist()
        cosines.append(_cosine(differences, [found[index] for index in indices]))
    best = 0
    for i in range(1, len(candidates)):
        if cosines[i] > cosines[best]:
            best = i
    return {
        "b": candidates[best],
        "candidates": candidates,
        "cosines": cosines,
        "differences": differences,
    }


def _cosine(first, second):
    product, first_square, second_square = 0.0, 0.0, 0.0
    for a, b in zip(first, second, strict=True):
        product += a * b
        first_square += a * a
        second_square += b * b
    if first_square == 0.0 or second_square == 0.0:
        return 0.0
    return product / (math.sqrt(first_square) * math.sqrt(second_square))
