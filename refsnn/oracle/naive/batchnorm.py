"""Batch normalisation over a sequence (D8, D25), channel by channel.

Sequences are (T, ..., C). A group is the set of elements that share one mean and variance:
all steps ("pooled") or one step ("per_step"). "frozen" statistics are the running ones in training
too, which stay as they are.
"""

import math

import numpy as np


def forward(x_seq, gamma, beta, running_mean, running_var, norm, training):
    """Normalise x_seq; return y_seq and the new running mean and variance.

    y = gamma scale (x - mean) / sqrt(var + eps) + beta
    """
    x, shape = _flat(x_seq)
    gamma, beta = _list(gamma), _list(beta)
    new_mean, new_var = _list(running_mean), _list(running_var)
    of_batch = training and norm["statistics"] != "frozen"
    y = np.zeros((len(x), len(x[0]), shape[-1]))
    for c in range(shape[-1]):
        for group in _groups(x, norm):
            mean, var = new_mean[c], new_var[c]
            if of_batch:
                mean, var = _statistics([x[t][m][c] for t, m in group])
                unbiased = var * len(group) / max(len(group) - 1, 1)
                rate = norm["momentum"]
                new_mean[c] = (1.0 - rate) * new_mean[c] + rate * mean
                new_var[c] = (1.0 - rate) * new_var[c] + rate * unbiased
            root = math.sqrt(var + norm["eps"])
            for t, m in group:
                y[t, m, c] = gamma[c] * norm["scale"] * (x[t][m][c] - mean) / root + beta[c]
    return y.reshape(shape), np.asarray(new_mean, dtype=float), np.asarray(new_var, dtype=float)


def backward(dy_seq, x_seq, gamma, running_mean, running_var, norm, training):
    """Compute dx_seq, dgamma (C,) and dbeta (C,) from dy_seq (T, ..., C) by the chain rule."""
    x, shape = _flat(x_seq)
    dy, _ = _flat(dy_seq)
    gamma, running_mean, running_var = _list(gamma), _list(running_mean), _list(running_var)
    dx = np.zeros((len(x), len(x[0]), shape[-1]))
    dgamma, dbeta = np.zeros(shape[-1]), np.zeros(shape[-1])
    of_batch = training and norm["statistics"] != "frozen"
    for c in range(shape[-1]):
        for group in _groups(x, norm):
            values = [x[t][m][c] for t, m in group]
            grads = [dy[t][m][c] for t, m in group]
            mean, var = _statistics(values) if of_batch else (running_mean[c], running_var[c])
            deviations = [value - mean for value in values]
            root = math.sqrt(var + norm["eps"])
            factor = gamma[c] * norm["scale"]
            if of_batch:
                dx_group = _through_statistics(grads, deviations, root, factor)
            else:
                dx_group = [grad * factor / root for grad in grads]
            for (t, m), value in zip(group, dx_group, strict=True):
                dx[t, m, c] = value
            for grad, deviation in zip(grads, deviations, strict=True):
                dgamma[c] += grad * norm["scale"] * deviation / root
                dbeta[c] += grad
    return dx.reshape(shape), dgamma, dbeta


def _through_statistics(grads, deviations, root, factor):
    """Compute every dL/dx_i for y_j = factor (x_j - mean) / root + beta by the chain rule.

    L depends on x_i through y_i itself, through the mean, with dmean/dx_i = 1/n, and through the
    variance, with dvar/dx_i = sum_j 2 (x_j - mean)(d_ij - 1/n) / n.
    """
    n = len(grads)
    sum_of_deviations = 0.0  # zero but for rounding
    d_mean = 0.0  # dL/dmean where the variance stays
    d_inverse_root = 0.0  # dL/d(1 / root)
    for grad, deviation in zip(grads, deviations, strict=True):
        sum_of_deviations += deviation
        d_mean -= grad * factor / root
        d_inverse_root += grad * factor * deviation
    d_var = d_inverse_root * -0.5 / root**3
    dx = []
    for grad, deviation in zip(grads, deviations, strict=True):
        var_by_x = 2.0 * (deviation - sum_of_deviations / n) / n
        dx.append(grad * factor / root + d_mean / n + d_var * var_by_x)
    return dx


def _statistics(values):
    """Return the mean and the biased variance."""
    total = 0.0
    for value in values:
        total += value
    mean = total / len(values)
    squares = 0.0
    for value in values:
        squares += (value - mean) ** 2
    return mean, squares / len(values)


def _groups(x, norm):
    """List the groups of (step, position) pairs that are normalised together, in order of time."""
    by_step = [[(t, m) for m in range(len(x[t]))] for t in range(len(x))]
    if norm["statistics"] == "per_step":
        return by_step
    if norm["statistics"] in ("pooled", "frozen"):
        return [[pair for step in by_step for pair in step]]
    raise ValueError(f"unknown statistics {norm['statistics']!r}")


def _flat(seq):
    """Return (T, ..., C) as nested lists [T][positions][C], and the original shape."""
    seq = np.asarray(seq, dtype=float)
    positions = math.prod(seq.shape[1:-1])
    return seq.reshape(seq.shape[0], positions, seq.shape[-1]).tolist(), seq.shape


def _list(array):
    return np.asarray(array, dtype=float).tolist()
