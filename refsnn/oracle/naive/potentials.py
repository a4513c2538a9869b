"""Losses on the potentials before firing, and the LIF they act on, one by one.

Sequences are (T, ...), with the channels last. A loss gives its value and its gradient, which is
the partial derivative by every u_pre[t] while all other potentials stay as they are. `lif` adds
what these potentials do to each other and to the spikes.
"""

import math

import numpy as np

from refsnn.oracle.naive.neuron import PAPER, amount, slope

EPS = 1e-10  # added to a variance inside its root
# conventions that `lif` knows; all others must be the paper's
KNOWN = (
    "tau",
    "v_th",
    "fire_at_threshold",
    "reset",
    "reset_amount",
    "reset_gradient",
    "surrogate",
    "surrogate_shape",
    "surrogate_scale",
    "surrogate_edge",
    "surrogate_unit",
)


def information_maximization(u_pre_seq, v_th, lam):
    """Compute lam (mean u_pre - v_th)^2 of one layer and its gradient (IM-Loss; Guo et al., 2022).

    The mean is over all numbers of u_pre_seq (T, N, ...), channels too (M10). The gradient is as
    large at every place: what one u_pre adds to the mean.
    """
    u_pre_seq = np.asarray(u_pre_seq, dtype=float)
    values = u_pre_seq.ravel().tolist()
    distance = _average(values) - v_th
    gradient = []
    for _ in values:
        d_mean = 1.0 / len(values)
        gradient.append(lam * 2.0 * distance * d_mean)
    return lam * distance**2, np.asarray(gradient, dtype=float).reshape(u_pre_seq.shape)


def potential_distribution(u_pre_seq, v_th, half_width, lam_d, lam_s, lam_m, k_d=1.0, s=2.0, r=1.0):
    """Compute the loss of badly spread potentials of one layer, and its gradient.

    This is RecDis-SNN's loss as reconstructed here (M12), not the published formula; Guo et al.,
    2022. With x = (u_pre - v_th) / half_width, and mu and sigma the mean and the (biased) standard
    deviation of x of one channel over everything else, steps too:

    degeneration       L_D = mean over channels of (|mu| - k_d sigma)_+^2
    saturation         L_S = mean over channels of (sigma - s)_+^2
    gradient mismatch  L_M = mean over channels of (r - |mu| - sigma)_+^2
    L = lam_d L_D + lam_s L_S + lam_m L_M

    The root of sigma is of the variance + 1e-10. The derivative of |mu| at 0 is taken as 0.
    """
    u_pre_seq = np.asarray(u_pre_seq, dtype=float)
    if u_pre_seq.ndim < 2:
        raise ValueError(f"expected (T, ..., C), got {u_pre_seq.shape}")
    channels = u_pre_seq.shape[-1]
    rows = u_pre_seq.reshape(u_pre_seq.size // channels, channels).tolist()
    gradient = np.zeros((len(rows), channels))
    value = 0.0
    for channel in range(channels):
        x = [(row[channel] - v_th) / half_width for row in rows]
        mu = _average(x)
        sigma = math.sqrt(_average([(one - mu) ** 2 for one in x]) + EPS)
        degenerate = max(0.0, abs(mu) - k_d * sigma)
        saturated = max(0.0, sigma - s)
        mismatched = max(0.0, r - abs(mu) - sigma)
        terms = lam_d * degenerate**2 + lam_s * saturated**2 + lam_m * mismatched**2
        value += terms / channels
        for place, one in enumerate(x):
            d_x = 1.0 / half_width
            d_mu = d_x / len(x)
            # the mean moves too, but all deviations from it add up to 0
            d_variance = 2.0 * (one - mu) * d_x / len(x)
            d_sigma = d_variance / (2.0 * sigma)
            d_abs_mu = _sign(mu) * d_mu
            d_terms = lam_d * 2.0 * degenerate * (d_abs_mu - k_d * d_sigma)
            d_terms += lam_s * 2.0 * saturated * d_sigma
            d_terms += lam_m * 2.0 * mismatched * (-d_abs_mu - d_sigma)
            gradient[place, channel] = d_terms / channels
    return value, gradient.reshape(u_pre_seq.shape)


def lif(c_seq, do_seq, neuron, source, fire=None):
    """Compute LIF neurons whose potentials are in the loss themselves (M10, M12).

    u_pre[t] = tau u[t-1] + c[t]; o[t] = u_pre[t] > v_th; the first u is 0
    reset "zero": u[t] = u_pre[t] (1 - o[t]); "subtract": u[t] = u_pre[t] - reset_amount o[t]

    do_seq is dL/do. source(u_pre_seq) is what else the loss depends on, the partial derivative by
    every u_pre at fixed other potentials and spikes; such are the gradients of the losses above
    (IM-Loss; Guo et al., 2022. RecDis-SNN's loss as reconstructed here; Guo et al., 2022).
    "c" in the answer is all of dL/dc: a change of c at one step is carried forward through all
    later steps, to every spike and to every potential.

    `neuron` is a dict of conventions as in `neuron`, of which few are known here. `fire`, where it
    is given, is a function (u_pre, v_th) -> o that replaces the step, as in `neurons`.
    """
    n = PAPER | neuron
    _check(n)
    c_seq, do_seq = np.asarray(c_seq, dtype=float), np.asarray(do_seq, dtype=float)
    if do_seq.shape != c_seq.shape:
        raise ValueError(f"c_seq is {c_seq.shape}, do_seq {do_seq.shape}")
    steps, places = len(c_seq), list(np.ndindex(c_seq.shape[1:]))
    found = {name: np.zeros(c_seq.shape) for name in ("u_pre", "o", "c")}
    for place in places:
        u = 0.0
        for t in range(steps):
            u_pre = n["tau"] * u + float(c_seq[t, *place])
            o = _spike(u_pre, n, fire)
            u = u_pre * (1.0 - o) if n["reset"] == "zero" else u_pre - amount(n) * o
            found["u_pre"][t, *place], found["o"][t, *place] = u_pre, o

    # the potentials of all neurons come first, as a loss may tie them to each other
    direct = np.asarray(source(found["u_pre"].copy()), dtype=float)
    if direct.shape != c_seq.shape:
        raise ValueError(f"c_seq is {c_seq.shape}, its source {direct.shape}")
    for place in places:
        one = {
            "u_pre": [float(found["u_pre"][t, *place]) for t in range(steps)],
            "o": [float(found["o"][t, *place]) for t in range(steps)],
            "do": [float(do_seq[t, *place]) for t in range(steps)],
            "direct": [float(direct[t, *place]) for t in range(steps)],
        }
        one["h"] = [slope(u_pre, n) for u_pre in one["u_pre"]]
        for t in range(steps):
            found["c"][t, *place] = _effect(t, one, n)
    return found


def _effect(step, one, n):
    """Carry a change of 1 of c at this step forward, and return the change of L."""
    through_spike = 1.0 if n["reset_gradient"] == "full" else 0.0
    total, d_u = 0.0, 0.0
    for t in range(step, len(one["u_pre"])):
        d_u_pre = n["tau"] * d_u + (1.0 if t == step else 0.0)
        d_o = one["h"][t] * d_u_pre
        if n["reset"] == "zero":
            d_u = (1.0 - one["o"][t]) * d_u_pre - one["u_pre"][t] * through_spike * d_o
        else:
            d_u = d_u_pre - amount(n) * through_spike * d_o
        total += one["do"][t] * d_o + one["direct"][t] * d_u_pre
    return total


def _check(n):
    """Raise ValueError if there is a convention that `lif` does not know."""
    for name, value in n.items():
        if name not in KNOWN and (name not in PAPER or value != PAPER[name]):
            raise ValueError(f"unknown {name} {value!r}")
    if n["reset"] not in ("zero", "subtract"):
        raise ValueError(f"unknown reset {n['reset']!r}")
    if n["reset_gradient"] not in ("full", "detached"):
        raise ValueError(f"unknown reset_gradient {n['reset_gradient']!r}")


def _spike(u_pre, n, fire):
    """Return the spike, or what `fire` says."""
    if fire is not None:
        return fire(u_pre, n["v_th"])
    return 1.0 if u_pre > n["v_th"] or (n["fire_at_threshold"] and u_pre == n["v_th"]) else 0.0


def _average(values):
    return math.fsum(values) / len(values)


def _sign(x):
    if x == 0.0:
        return 0.0
    return math.copysign(1.0, x)
