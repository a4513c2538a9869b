"""Batch norms of other methods, one number at a time, and the sums of a spiking skip.

Sequences are (T, N, H, W, C). Batch statistics are those of a group of elements of one channel: all
of them, or those of one step. The variance that normalises is biased, the running one unbiased, and
both running statistics follow new = (1 - momentum) old + momentum batch. Without training, the
running ones normalise and stay as they are.

The gradient of an element is found by changing it alone: this moves the statistics of its group,
and so every output of the group.
"""

import math

import numpy as np


def tdbn(x_seq, dy_seq, gamma, beta, mean, var, factor, training, eps=1e-5, momentum=0.1):
    """Compute y = factor gamma xhat + beta (STBP-tdBN; Zheng et al., 2021), all steps together.

    The factor is alpha v_th, and remains one (M1).
    """
    x_seq, dy_seq, channels = _sequences(x_seq, dy_seq)
    y, dx = np.zeros(x_seq.shape), np.zeros(x_seq.shape)
    dgamma, dbeta = np.zeros(channels), np.zeros(channels)
    new_mean, new_var = np.array(mean, dtype=float), np.array(var, dtype=float)
    for c in range(channels):
        places = _places(x_seq, c)
        values = [float(x_seq[place]) for place in places]
        centre, spread = float(new_mean[c]), float(new_var[c])
        if training:
            centre, spread = _statistics(values)
            new_mean[c], new_var[c] = _moved(
                new_mean[c], new_var[c], centre, spread, len(values), momentum
            )
        normalised = _normalised(values, centre, spread, eps)
        by_normalised = []
        for place, xhat in zip(places, normalised, strict=True):
            dy = float(dy_seq[place])
            y[place] = factor * gamma[c] * xhat + beta[c]
            dgamma[c] += dy * factor * xhat
            dbeta[c] += dy
            by_normalised.append(dy * factor * float(gamma[c]))
        of_values = _gradient(values, by_normalised, centre, spread, eps, training)
        for place, value in zip(places, of_values, strict=True):
            dx[place] = value
    return {"y": y, "x": dx, "gamma": dgamma, "beta": dbeta, "mean": new_mean, "var": new_var}


def tebn(x_seq, dy_seq, gamma, beta, p, mean, var, training, eps=1e-5, momentum=0.1):
    """Compute y[t] = p[t] (gamma xhat[t] + beta) (TEBN; Duan et al., 2022), all steps together."""
    x_seq, dy_seq, channels = _sequences(x_seq, dy_seq)
    y, dx = np.zeros(x_seq.shape), np.zeros(x_seq.shape)
    dgamma, dbeta, dp = np.zeros(channels), np.zeros(channels), np.zeros(len(x_seq))
    new_mean, new_var = np.array(mean, dtype=float), np.array(var, dtype=float)
    for c in range(channels):
        places = _places(x_seq, c)
        values = [float(x_seq[place]) for place in places]
        centre, spread = float(new_mean[c]), float(new_var[c])
        if training:
            centre, spread = _statistics(values)
            new_mean[c], new_var[c] = _moved(
                new_mean[c], new_var[c], centre, spread, len(values), momentum
            )
        normalised = _normalised(values, centre, spread, eps)
        by_normalised = []
        for place, xhat in zip(places, normalised, strict=True):
            t, dy = place[0], float(dy_seq[place])
            before = gamma[c] * xhat + beta[c]
            y[place] = p[t] * before
            dp[t] += dy * before
            dgamma[c] += dy * p[t] * xhat
            dbeta[c] += dy * p[t]
            by_normalised.append(dy * float(p[t]) * float(gamma[c]))
        of_values = _gradient(values, by_normalised, centre, spread, eps, training)
        for place, value in zip(places, of_values, strict=True):
            dx[place] = value
    return {
        "y": y,
        "x": dx,
        "gamma": dgamma,
        "beta": dbeta,
        "p": dp,
        "mean": new_mean,
        "var": new_var,
    }


def bntt(x_seq, dy_seq, gamma, mean, var, training, eps=1e-4, momentum=0.1):
    """Compute y[t] = gamma[t] xhat[t] (BNTT; Kim & Panda, 2021), every step by itself.

    gamma, mean and var are (T, C); there is no beta.
    """
    x_seq, dy_seq, channels = _sequences(x_seq, dy_seq)
    y, dx, dgamma = np.zeros(x_seq.shape), np.zeros(x_seq.shape), np.zeros((len(x_seq), channels))
    new_mean, new_var = np.array(mean, dtype=float), np.array(var, dtype=float)
    for t in range(len(x_seq)):
        for c in range(channels):
            places = [place for place in _places(x_seq, c) if place[0] == t]
            values = [float(x_seq[place]) for place in places]
            centre, spread = float(new_mean[t, c]), float(new_var[t, c])
            if training:
                centre, spread = _statistics(values)
                new_mean[t, c], new_var[t, c] = _moved(
                    new_mean[t, c], new_var[t, c], centre, spread, len(values), momentum
                )
            normalised = _normalised(values, centre, spread, eps)
            by_normalised = []
            for place, xhat in zip(places, normalised, strict=True):
                dy = float(dy_seq[place])
                y[place] = gamma[t][c] * xhat
                dgamma[t, c] += dy * xhat
                by_normalised.append(dy * float(gamma[t][c]))
            of_values = _gradient(values, by_normalised, centre, spread, eps, training)
            for place, value in zip(places, of_values, strict=True):
                dx[place] = value
    return {"y": y, "x": dx, "gamma": dgamma, "mean": new_mean, "var": new_var}


def pspbn(x_seq, dy_seq, gamma, square, training, eps=1e-5, momentum=0.1, root=True):
    """Compute y = gamma x / sqrt(m + eps), m the mean of x^2 (PSP-BN; Ikegawa et al., 2022).

    All steps are taken together, and nothing is subtracted. Without root, y = gamma x / (m + eps)
    (M15). `square` (C,) is the running m, which takes the batch's as it is: without a mean to
    estimate there is nothing to correct for.
    """
    x_seq, dy_seq, channels = _sequences(x_seq, dy_seq)
    y, dx, dgamma = np.zeros(x_seq.shape), np.zeros(x_seq.shape), np.zeros(channels)
    new_square = np.array(square, dtype=float)
    for c in range(channels):
        places, scale = _places(x_seq, c), float(gamma[c])
        values = [float(x_seq[place]) for place in places]
        grads = [float(dy_seq[place]) for place in places]
        count = len(values)
        m = float(new_square[c])
        if training:
            m = _average([value * value for value in values])
            new_square[c] = (1.0 - momentum) * new_square[c] + momentum * m
        divisor = math.sqrt(m + eps) if root else m + eps
        for place, value, dy in zip(places, values, grads, strict=True):
            y[place] = scale * value / divisor
            dgamma[c] += dy * value / divisor
        for i in range(count):
            d_m = 2.0 * values[i] / count if training else 0.0
            d_divisor = d_m / (2.0 * divisor) if root else d_m
            total = 0.0
            for j in range(count):
                d_value = 1.0 if i == j else 0.0
                total += grads[j] * scale * (d_value / divisor - values[j] / divisor**2 * d_divisor)
            dx[places[i]] = total
    return {"y": y, "x": dx, "gamma": dgamma, "square": new_square}


def sew(kind, a, s, g):
    """Compute o, da and ds of an element-wise skip (SEW-ResNet; Fang et al., 2021).

    add: o = a + s; and: o = a s; iand: o = (1 - a) s. g is dL/do; a is the branch, s the skip.
    """
    a, s, g = (np.asarray(array, dtype=float) for array in (a, s, g))
    o, da, ds = np.zeros(a.shape), np.zeros(a.shape), np.zeros(a.shape)
    for place in np.ndindex(*a.shape):
        branch, skip, grad = float(a[place]), float(s[place]), float(g[place])
        if kind == "add":
            o[place], by_branch, by_skip = branch + skip, 1.0, 1.0
        elif kind == "and":
            o[place], by_branch, by_skip = branch * skip, skip, branch
        elif kind == "iand":
            o[place], by_branch, by_skip = (1.0 - branch) * skip, -skip, 1.0 - branch
        else:
            raise ValueError(f"unknown kind {kind!r}")
        da[place], ds[place] = grad * by_branch, grad * by_skip
    return o, da, ds


def _normalised(values, mean, var, eps):
    """Return xhat = (x - mean) / sqrt(var + eps)."""
    return [(value - mean) / math.sqrt(var + eps) for value in values]


def _gradient(values, by_normalised, mean, var, eps, of_batch):
    """Compute dL/dx of one group from dL/dxhat.

    A change of x_i by 1 changes the mean by 1/n and the variance by 2 (x_i - mean) / n, if they
    are those of the batch.
    """
    n, root = len(values), math.sqrt(var + eps)
    found = []
    for i in range(n):
        d_mean = 1.0 / n if of_batch else 0.0
        d_var = 2.0 * (values[i] - mean) / n if of_batch else 0.0
        d_root = d_var / (2.0 * root)
        total = 0.0
        for j in range(n):
            d_value = 1.0 if i == j else 0.0
            total += by_normalised[j] * (
                (d_value - d_mean) / root - (values[j] - mean) / root**2 * d_root
            )
        found.append(total)
    return found


def _statistics(values):
    """Return the mean and the biased variance."""
    mean = _average(values)
    return mean, _average([(value - mean) ** 2 for value in values])


def _moved(running_mean, running_var, mean, var, count, momentum):
    """Return the running statistics after a batch of so many values."""
    unbiased = var * count / max(count - 1, 1)
    return (
        (1.0 - momentum) * running_mean + momentum * mean,
        (1.0 - momentum) * running_var + momentum * unbiased,
    )


def _average(values):
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def _sequences(x_seq, dy_seq):
    """Return both as arrays of floats, and the number of channels."""
    x_seq = np.asarray(x_seq, dtype=float)
    return x_seq, np.asarray(dy_seq, dtype=float), x_seq.shape[-1]


def _places(seq, channel):
    """List the indices (step, image, row, column, channel) of one channel, in order of time."""
    steps, images, rows, columns, _ = seq.shape
    return [
        (t, image, row, column, channel)
        for t in range(steps)
        for image in range(images)
        for row in range(rows)
        for column in range(columns)
    ]
