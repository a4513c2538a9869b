"""What other methods' parameters become for inference, one number at a time.

Weights w are (kh, kw, C_in, C_out), or (C_in, C_out) of a fully connected layer. The convolution
that a batch norm follows has no bias of its own.
"""

import math

import numpy as np

from refsnn.oracle.naive.neuron import PAPER


def batch_norm(w, gamma, beta, mean, var, scale=1.0, eps=1e-5):
    """Return weights, and a bias (C_out,), that give scale gamma xhat + beta of running statistics.

    scale is tdBN's alpha v_th (Zheng et al., 2021).
    """
    factors, bias = [], []
    for g, b, m, v in _channels(gamma, beta, mean, var):
        factor = scale * g / math.sqrt(v + eps)
        factors.append(factor)
        bias.append(b - factor * m)
    return _times_outputs(w, factors), np.array(bias)


def tebn(w, gamma, beta, p, mean, var, eps=1e-5):
    """Return the weights (T, ...) and biases (T, C_out) of each step (TEBN; Duan et al., 2022).

    y[t] = p[t] (gamma xhat + beta); p is (T,), all others (C_out,).
    """
    weights, biases = [], []
    for at_step in _list(p):
        factors, bias = [], []
        for g, b, m, v in _channels(gamma, beta, mean, var):
            factor = at_step * g / math.sqrt(v + eps)
            factors.append(factor)
            bias.append(at_step * b - factor * m)
        weights.append(_times_outputs(w, factors))
        biases.append(bias)
    return np.array(weights), np.array(biases)


def bntt(w, gamma, mean, var, eps=1e-4):
    """Return the weights (T, ...) and biases (T, C_out) of each step (BNTT; Kim & Panda, 2021).

    y[t] = gamma[t] xhat[t]; gamma, mean and var are (T, C_out).
    """
    weights, biases = [], []
    for gamma_t, mean_t, var_t in zip(gamma, mean, var, strict=True):
        factors, bias = [], []
        for g, m, v in _channels(gamma_t, mean_t, var_t):
            factor = g / math.sqrt(v + eps)
            factors.append(factor)
            bias.append(-factor * m)
        weights.append(_times_outputs(w, factors))
        biases.append(bias)
    return np.array(weights), np.array(biases)


def mpbn(gamma, beta, mean, var, v_th, eps=1e-5, fire_at_threshold=False):
    """Return thresholds and directions (C,) on u_pre that replace MPBN's frozen batch norm.

    A neuron fires where direction (u_pre - threshold) > 0: above its threshold if gamma > 0, below
    it if gamma < 0. With gamma = 0 it fires always or never, and the threshold is infinite. Source:
    Guo et al., 2023.
    """
    thresholds, directions = [], []
    for g, b, m, v in _channels(gamma, beta, mean, var):
        if g == 0.0:
            always = b > v_th or (fire_at_threshold and b == v_th)
            thresholds.append(-math.inf if always else math.inf)
            directions.append(1.0)
        else:
            thresholds.append((float(v_th) - b) * math.sqrt(v + eps) / g + m)
            directions.append(1.0 if g > 0.0 else -1.0)
    return np.array(thresholds), np.array(directions)


def mpbn_spikes(c_seq, thresholds, directions, neuron):
    """Return u_pre and o (T, N, H, W, C) of a LIF with the thresholds and directions of `mpbn`.

    Of the conventions in `neuron`, tau and fire_at_threshold are known. u[t] = u_pre[t] (1 - o[t]).
    """
    n = PAPER | neuron
    c_seq = np.asarray(c_seq, dtype=float)
    u_pre_seq, o_seq = np.zeros(c_seq.shape), np.zeros(c_seq.shape)
    for place in np.ndindex(*c_seq.shape[1:]):
        threshold, direction = float(thresholds[place[-1]]), float(directions[place[-1]])
        u = 0.0
        for t in range(len(c_seq)):
            u_pre = n["tau"] * u + float(c_seq[t, *place])
            beyond = direction * (u_pre - threshold)
            o = 1.0 if beyond > 0.0 or (n["fire_at_threshold"] and beyond == 0.0) else 0.0
            u = u_pre * (1.0 - o)
            u_pre_seq[t, *place], o_seq[t, *place] = u_pre, o
    return u_pre_seq, o_seq


def real_spike(w, a):
    """Return the weights a[c] w[..., c, :] for binary spikes (Real Spike; Guo et al., 2022).

    w are the next weights: of a convolution, of one after average pooling, or of a fully connected
    layer after global average pooling. Behind a maximum, a must not be negative.
    """
    return _times_inputs(w, _list(a))


def psp_bn(w, gamma, square, root=True, eps=1e-5):
    """Return the weights after PSP-BN that take what came before it (Ikegawa et al., 2022).

    square (C_in,) is the running mean of x^2; without root, x is divided by square + eps (M15).
    """
    factors = []
    for g, m2 in _channels(gamma, square):
        factors.append(g / (math.sqrt(m2 + eps) if root else m2 + eps))
    return _times_inputs(w, factors)


def _times_outputs(w, factors):
    return _times(w, factors, -1)


def _times_inputs(w, factors):
    return _times(w, factors, -2)


def _times(w, factors, axis):
    """Multiply every weight by the factor of its channel along this axis."""
    w = np.asarray(w, dtype=float)
    if len(factors) != w.shape[axis]:
        raise ValueError(f"{len(factors)} channels for weights {w.shape}")
    found = np.zeros(w.shape)
    for place in np.ndindex(*w.shape):
        found[place] = float(w[place]) * factors[place[axis]]
    return found


def _channels(*arrays):
    return zip(*(_list(array) for array in arrays), strict=True)


def _list(array):
    return np.asarray(array, dtype=float).tolist()
