"""Neurons of other methods, one by one.

Sequences are (T, N, H, W, C), and every potential starts at 0. A gradient is a sum over the steps,
as in `neuron`: a change is made at one place and carried forward through all later steps to every
spike.

`neuron` is a dict of conventions: v_th, surrogate, surrogate_shape, reset, reset_amount,
reset_gradient ("full" or "detached") and fire_at_threshold; those that it lacks are the paper's.
Formulas show the reset to zero. With reset "subtract", u[t] = u_pre[t] - R o[t], where R is
reset_amount, a number or "v_th". GLIF and Diet-SNN have resets of their own and ignore both.

`fire`, where it is given, is a function (u_pre, v_th) -> o that replaces the step. With an
antiderivative of the slope the network is smooth, and the full gradients are its true ones, which
finite differences can check.
"""

import math

import numpy as np

from refsnn.oracle.naive.neuron import PAPER, amount, slope


def plif(c_seq, do_seq, w, neuron, input_decay=True, fire=None):
    """Compute a LIF with a learned leak (PLIF; Fang et al., 2021), one w for the layer.

    u_pre[t] = (1 - s) u[t-1] + s c[t], s = sigmoid(w); without input_decay, + c[t] (M7)
    u[t] = u_pre[t] (1 - o[t])
    """
    n, s = PAPER | neuron, _sigmoid(float(w))
    c_seq, do_seq = _sequences(c_seq, do_seq)
    found = {name: np.zeros(c_seq.shape) for name in ("u_pre", "o", "c")}
    dw, steps = 0.0, len(c_seq)
    gain = s if input_decay else 1.0
    for place in _places(c_seq):
        c, do = _over_time(c_seq, place), _over_time(do_seq, place)
        u_pre, o, u_before = _run_lif([gain * x for x in c], 1.0 - s, n, fire)
        h = [slope(value, n) for value in u_pre]
        for t in range(steps):
            found["u_pre"][t][place], found["o"][t][place] = u_pre[t], o[t]
            change = _only(t, gain, steps)
            found["c"][t][place] = _lif_effect(change, 1.0 - s, u_pre, o, h, do, n)
        by_s = [(c[t] if input_decay else 0.0) - u_before[t] for t in range(steps)]
        dw += _lif_effect(by_s, 1.0 - s, u_pre, o, h, do, n) * s * (1.0 - s)
    return found | {"w": dw}


def real_spike(c_seq, do_seq, a, tau, neuron, fire=None):
    """Compute a LIF that passes a o on (Real Spike; Guo et al., 2022), one a per channel (M13).

    u_pre[t] = tau u[t-1] + c[t]; u[t] = u_pre[t] (1 - o[t]): the reset sees the binary spike o,
    which is "spikes" in the answer.
    """
    n, tau = PAPER | neuron, float(tau)
    c_seq, do_seq = _sequences(c_seq, do_seq)
    found = {name: np.zeros(c_seq.shape) for name in ("u_pre", "o", "spikes", "c")}
    da, steps = np.zeros(c_seq.shape[-1]), len(c_seq)
    for place in _places(c_seq):
        channel = place[-1]
        height = float(a[channel])
        u_pre, o, _ = _run_lif(_over_time(c_seq, place), tau, n, fire)
        h = [slope(value, n) for value in u_pre]
        passed = _over_time(do_seq, place)
        do = [height * value for value in passed]  # of the binary spikes
        for t in range(steps):
            found["u_pre"][t][place], found["spikes"][t][place] = u_pre[t], o[t]
            found["o"][t][place] = height * o[t]
            change = _only(t, 1.0, steps)
            found["c"][t][place] = _lif_effect(change, tau, u_pre, o, h, do, n)
            da[channel] += passed[t] * o[t]
    return found | {"a": da}


def glif(c_seq, do_seq, raw, neuron, fire=None):
    """Compute gated neurons (GLIF; Yao et al., 2022); every value is the sigmoid of a raw one.

    u_pre[t] = A u_pre[t-1] (1 - gamma o[t-1]) - (1 - alpha) leak + B[t] c[t]
               - (1 - gamma) reset o[t-1]
    A = 1 - alpha (1 - tau), B[t] = 1 - beta (1 - gain[t]), o[t] = u_pre[t] > v_th

    raw["gain"] is (T, C), all others (C,). The state is u_pre itself, before the reset. Gradients
    are those of the raw values.
    """
    n = PAPER | neuron
    c_seq, do_seq = _sequences(c_seq, do_seq)
    steps = len(c_seq)
    found = {name: np.zeros(c_seq.shape) for name in ("u_pre", "o", "c")}
    names = ("alpha", "beta", "gamma", "tau", "v_th", "leak", "reset")
    grads = {name: np.zeros(c_seq.shape[-1]) for name in names}
    grads["gain"] = np.zeros((steps, c_seq.shape[-1]))
    for place in _places(c_seq):
        channel = place[-1]
        c, do = _over_time(c_seq, place), _over_time(do_seq, place)
        value = {name: _sigmoid(float(raw[name][channel])) for name in names}
        gain = [_sigmoid(float(raw["gain"][t][channel])) for t in range(steps)]
        alpha, beta, gamma = value["alpha"], value["beta"], value["gamma"]
        tau, v_th, leak, reset = value["tau"], value["v_th"], value["leak"], value["reset"]
        decay = 1.0 - alpha * (1.0 - tau)

        u_pre, o, h = [], [], []
        u_before, o_before = [], []  # u_pre and o of the step before
        for t in range(steps):
            u_before.append(u_pre[t - 1] if t else 0.0)
            o_before.append(o[t - 1] if t else 0.0)
            kept = decay * u_before[t] * (1.0 - gamma * o_before[t])
            driven = (1.0 - beta * (1.0 - gain[t])) * c[t]
            u_pre.append(kept - (1.0 - alpha) * leak + driven - (1.0 - gamma) * reset * o_before[t])
            o.append(_spike(u_pre[t], v_th, n, fire))
            h.append(slope(u_pre[t], n | {"v_th": v_th}))

        one = value | {"decay": decay, "u_pre": u_pre, "o": o, "h": h, "do": do}
        leftover = [u_before[t] * (1.0 - gamma * o_before[t]) for t in range(steps)]
        changes = {
            "alpha": [-(1.0 - tau) * leftover[t] + leak for t in range(steps)],
            "beta": [-(1.0 - gain[t]) * c[t] for t in range(steps)],
            "gamma": [(reset - decay * u_before[t]) * o_before[t] for t in range(steps)],
            "tau": [alpha * leftover[t] for t in range(steps)],
            "v_th": [0.0] * steps,
            "leak": [-(1.0 - alpha)] * steps,
            "reset": [-(1.0 - gamma) * o_before[t] for t in range(steps)],
        }
        for name in names:
            total = _glif_effect(changes[name], 1.0 if name == "v_th" else 0.0, one, n)
            grads[name][channel] += total * value[name] * (1.0 - value[name])
        for t in range(steps):
            found["u_pre"][t][place], found["o"][t][place] = u_pre[t], o[t]
            of_u_pre = _glif_effect(_only(t, 1.0, steps), 0.0, one, n)
            found["c"][t][place] = of_u_pre * (1.0 - beta * (1.0 - gain[t]))
            of_gain = of_u_pre * beta * c[t]
            grads["gain"][t][channel] += of_gain * gain[t] * (1.0 - gain[t])
    return found | grads


def _glif_effect(changes, shift, one, n):
    """Carry changes of u_pre forward while v_th changes by shift; return the change of L."""
    u_pre, o, decay, gamma = one["u_pre"], one["o"], one["decay"], one["gamma"]
    total, d_u_pre, d_o = 0.0, 0.0, 0.0
    for t in range(len(changes)):
        d_before, d_spike_before = d_u_pre, d_o
        d_u_pre = changes[t]
        if t:
            by_spike = -decay * gamma * u_pre[t - 1] - (1.0 - gamma) * one["reset"]
            d_u_pre += decay * (1.0 - gamma * o[t - 1]) * d_before
            d_u_pre += by_spike * _through_spike(n) * d_spike_before
        d_o = one["h"][t] * (d_u_pre - shift)
        total += one["do"][t] * d_o
    return total


def diet(c_seq, do_seq, leak, v_th, neuron, reset_leaks=True, fire=None):
    """Compute a neuron with learned leak and threshold (Diet-SNN; Rathi & Roy, 2020).

    o[t] = z[t] > 0, z[t] = u_pre[t] / v_th - 1; the slope is that in z, of a threshold of 1.
    reset_leaks (M8): u_pre[t] = leak (u_pre[t-1] - v_th o[t-1]) + c[t]
    otherwise:        u_pre[t] = leak u_pre[t-1] - v_th o[t-1] + c[t]

    leak and v_th are one number each for the layer. A detached reset still moves with v_th, only
    not with the spike. `fire` is called with u_pre / v_th and 1.
    """
    n = PAPER | neuron | {"v_th": 1.0}
    leak, v_th = float(leak), float(v_th)
    c_seq, do_seq = _sequences(c_seq, do_seq)
    steps = len(c_seq)
    found = {name: np.zeros(c_seq.shape) for name in ("u_pre", "o", "c")}
    dleak, dv_th = 0.0, 0.0
    reset_factor = leak if reset_leaks else 1.0  # of what a spike takes off the next u_pre
    for place in _places(c_seq):
        c, do = _over_time(c_seq, place), _over_time(do_seq, place)
        u_pre, o, h = [], [], []
        by_leak, by_v_th = [], []  # what u_pre changes by, at fixed spikes
        for t in range(steps):
            u_before, o_before = (u_pre[t - 1], o[t - 1]) if t else (0.0, 0.0)
            if reset_leaks:
                u = u_before - v_th * o_before
                u_pre.append(leak * u + c[t])
                by_leak.append(u)
            else:
                u_pre.append(leak * u_before + c[t] - v_th * o_before)
                by_leak.append(u_before)
            by_v_th.append(-reset_factor * o_before)
            z = u_pre[t] / v_th - 1.0
            o.append(_spike(1.0 + z, 1.0, n, fire))
            h.append(slope(1.0 + z, n))
        one = {"u_pre": u_pre, "h": h, "do": do, "leak": leak, "v_th": v_th, "reset": reset_factor}
        for t in range(steps):
            found["u_pre"][t][place], found["o"][t][place] = u_pre[t], o[t]
            found["c"][t][place] = _diet_effect(_only(t, 1.0, steps), 0.0, one, n)
        dleak += _diet_effect(by_leak, 0.0, one, n)
        dv_th += _diet_effect(by_v_th, 1.0, one, n)
    return found | {"leak": dleak, "v_th": dv_th}


def _diet_effect(changes, shift, one, n):
    """Carry changes of u_pre forward while the v_th of every z changes by shift.

    Return the change of L.
    """
    v_th = one["v_th"]
    total, d_u_pre, d_o = 0.0, 0.0, 0.0
    for t in range(len(changes)):
        by_reset = one["reset"] * v_th * _through_spike(n) * d_o
        d_u_pre = one["leak"] * d_u_pre - by_reset + changes[t]
        d_z = d_u_pre / v_th - one["u_pre"][t] / v_th**2 * shift
        d_o = one["h"][t] * d_z
        total += one["do"][t] * d_o
    return total


def mpbn(
    c_seq,
    do_seq,
    gamma,
    beta,
    mean,
    var,
    neuron,
    training,
    eps=1e-5,
    momentum=0.1,
    fire=None,
):
    """Compute a LIF with batch norm on its potential (MPBN; Guo et al., 2023).

    u_pre[t] = tau u[t-1] + c[t]; v[t] = gamma (u_pre[t] - mean) / sqrt(var + eps) + beta
    o[t] = v[t] > v_th; u[t] = u_pre[t] (1 - o[t]), not normalised (M6)

    In training, mean and var (biased) are those of one step and channel, so that all neurons of a
    channel act on each other. The running ones, "mean" and "var" (unbiased) in the answer, move
    once per step; they are used when not training. tau is the one of `neuron`; "v" is v.
    """
    n = PAPER | neuron
    c_seq, do_seq = _sequences(c_seq, do_seq)
    steps, channels = len(c_seq), c_seq.shape[-1]
    found = {name: np.zeros(c_seq.shape) for name in ("u_pre", "v", "o", "c")}
    grads = {"gamma": np.zeros(channels), "beta": np.zeros(channels)}
    new_mean = np.array(mean, dtype=float)
    new_var = np.array(var, dtype=float)
    for channel in range(channels):
        places = [place for place in _places(c_seq) if place[-1] == channel]
        count = len(places)
        c = [[float(c_seq[t][place]) for place in places] for t in range(steps)]
        do = [[float(do_seq[t][place]) for place in places] for t in range(steps)]
        scale, offset = float(gamma[channel]), float(beta[channel])

        u = [0.0] * count
        run = {name: [] for name in ("u_pre", "deviation", "root", "v", "o", "h")}
        for t in range(steps):
            u_pre = [n["tau"] * u[m] + c[t][m] for m in range(count)]
            centre, spread = float(new_mean[channel]), float(new_var[channel])
            if training:
                centre = _average(u_pre)
                spread = _average([(value - centre) ** 2 for value in u_pre])
                unbiased = spread * count / max(count - 1, 1)
                new_mean[channel] = (1.0 - momentum) * new_mean[channel] + momentum * centre
                new_var[channel] = (1.0 - momentum) * new_var[channel] + momentum * unbiased
            root = math.sqrt(spread + eps)
            deviation = [value - centre for value in u_pre]
            v = [scale * deviation[m] / root + offset for m in range(count)]
            o = [_spike(value, n["v_th"], n, fire) for value in v]
            h = [slope(value, n) for value in v]
            u = [_after_reset(u_pre[m], o[m], n) for m in range(count)]
            for name, values in zip(run, (u_pre, deviation, root, v, o, h), strict=True):
                run[name].append(values)
            for m, place in enumerate(places):
                found["u_pre"][t][place], found["v"][t][place] = u_pre[m], v[m]
                found["o"][t][place] = o[m]

        nothing = [[0.0] * count for _ in range(steps)]
        for t in range(steps):
            for m, place in enumerate(places):
                change = [list(row) for row in nothing]
                change[t][m] = 1.0
                found["c"][t][place] = _mpbn_effect(change, nothing, run, do, scale, training, n)
        normalised = [
            [run["deviation"][t][m] / run["root"][t] for m in range(count)] for t in range(steps)
        ]
        ones = [[1.0] * count for _ in range(steps)]
        grads["gamma"][channel] = _mpbn_effect(nothing, normalised, run, do, scale, training, n)
        grads["beta"][channel] = _mpbn_effect(nothing, ones, run, do, scale, training, n)
    return found | grads | {"mean": new_mean, "var": new_var}


def _mpbn_effect(of_u_pre, of_v, run, do, scale, training, n):
    """Carry changes of u_pre and v of one channel forward, and return the change of L.

    All lists are [step][neuron].
    """
    count = len(of_v[0])
    total, d_u = 0.0, [0.0] * count
    for t in range(len(of_v)):
        u_pre, deviation, root = run["u_pre"][t], run["deviation"][t], run["root"][t]
        o, h = run["o"][t], run["h"][t]
        d_u_pre = [n["tau"] * d_u[m] + of_u_pre[t][m] for m in range(count)]
        d_centre, d_spread = 0.0, 0.0
        if training:
            d_centre = _average(d_u_pre)
            d_spread = _average(
                [2.0 * deviation[m] * (d_u_pre[m] - d_centre) for m in range(count)]
            )
        d_root = d_spread / (2.0 * root)
        for m in range(count):
            d_normalised = (d_u_pre[m] - d_centre) / root - deviation[m] / root**2 * d_root
            d_v = scale * d_normalised + of_v[t][m]
            d_o = h[m] * d_v
            by_u_pre, by_o = _through_reset(u_pre[m], o[m], n)
            d_u[m] = by_u_pre * d_u_pre[m] + by_o * d_o
            total += do[t][m] * d_o
    return total


def _run_lif(currents, leak, n, fire):
    """Run one LIF; return u_pre, o, and u before each step."""
    u_pre, o, u_before = [], [], []
    u = 0.0
    for current in currents:
        u_before.append(u)
        u_pre.append(leak * u + current)
        o.append(_spike(u_pre[-1], n["v_th"], n, fire))
        u = _after_reset(u_pre[-1], o[-1], n)
    return u_pre, o, u_before


def _lif_effect(changes, leak, u_pre, o, h, do, n):
    """Carry changes made to u_pre at each step forward, and return the change of L."""
    total, d_u = 0.0, 0.0
    for t in range(len(changes)):
        d_u_pre = leak * d_u + changes[t]
        d_o = h[t] * d_u_pre
        by_u_pre, by_o = _through_reset(u_pre[t], o[t], n)
        d_u = by_u_pre * d_u_pre + by_o * d_o
        total += do[t] * d_o
    return total


def _spike(u_pre, v_th, n, fire):
    """Return the spike, or what `fire` says."""
    if fire is not None:
        return fire(u_pre, v_th)
    return 1.0 if u_pre > v_th or (n["fire_at_threshold"] and u_pre == v_th) else 0.0


def _after_reset(u_pre, o, n):
    """Return u after a spike o, which is any number from 0 to 1 in a smooth network."""
    if n["reset"] == "subtract":
        return u_pre - amount(n) * o
    return u_pre * (1.0 - o)


def _through_reset(u_pre, o, n):
    """Return du/du_pre at a fixed spike, and du/do, which is 0 where the reset is detached."""
    if n["reset"] == "subtract":
        return 1.0, -amount(n) * _through_spike(n)
    return 1.0 - o, -u_pre * _through_spike(n)


def _through_spike(n):
    """Return 1 where a reset is differentiated through its spike, and 0 where it is not."""
    kind = n["reset_gradient"]
    if kind not in ("full", "detached"):
        raise ValueError(f"unknown reset_gradient {kind!r}")
    return 1.0 if kind == "full" else 0.0


def _sigmoid(x):
    if x < 0.0:  # exp(-x) may overflow
        small = math.exp(x)
        return small / (1.0 + small)
    return 1.0 / (1.0 + math.exp(-x))


def _average(values):
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def _only(step, value, steps):
    """Return a list over time that is 0 but at one step."""
    return [value if t == step else 0.0 for t in range(steps)]


def _sequences(c_seq, do_seq):
    return np.asarray(c_seq, dtype=float), np.asarray(do_seq, dtype=float)


def _places(seq):
    """List (image, row, column, channel) of every neuron of (T, N, H, W, C)."""
    _, images, rows, columns, channels = seq.shape
    return [
        (image, row, column, channel)
        for image in range(images)
        for row in range(rows)
        for column in range(columns)
        for channel in range(channels)
    ]


def _over_time(seq, place):
    """Return what one neuron has at each step, as floats."""
    return [float(step[place]) for step in seq]
