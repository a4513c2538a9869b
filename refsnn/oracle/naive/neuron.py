"""The LIF neuron one by one: Eq. 1 to 4, and the gradient as a sum over paths through time."""

import math

import numpy as np


def slope(u_pre, neuron):
    """Return the surrogate's slope do/du_pre at one u_pre (Eq. 4, D4, D5)."""
    kind, shape, v_th = neuron["surrogate"], neuron["surrogate_shape"], neuron["v_th"]
    x = u_pre - v_th
    if kind == "tanh":
        return shape * (1.0 - math.tanh(x) ** 2)
    if kind == "tanh_literal":
        return shape * (1.0 - math.tanh(x)) ** 2
    if kind == "rectangular":
        inside = abs(x) < shape / 2 or (
            neuron["surrogate_edge"] == "inside" and abs(x) == shape / 2
        )
        return 1.0 / shape if inside else 0.0
    if kind == "triangular":
        return shape * max(0.0, 1.0 - abs(u_pre / v_th - 1.0))
    raise ValueError(f"unknown surrogate {kind!r}")


def primitive(u_pre, neuron):
    """Return an antiderivative of `slope` with respect to u_pre."""
    kind, shape, v_th = neuron["surrogate"], neuron["surrogate_shape"], neuron["v_th"]
    x = u_pre - v_th
    if kind == "tanh":
        return shape * (1.0 + math.tanh(x))
    if kind == "tanh_literal":
        # ln cosh x = |x| + ln(1 + exp(-2|x|)) - ln 2 never overflows
        rest = math.log1p(math.exp(-2.0 * abs(x))) - math.log(2.0)
        return shape * (2.0 * (x - abs(x)) - math.tanh(x) - 2.0 * rest)
    if kind == "rectangular":
        return min(max(x / shape + 0.5, 0.0), 1.0)
    if kind == "triangular":
        z = min(max(x / v_th, -1.0), 1.0)
        return shape * v_th * (0.5 + z - z * abs(z) / 2.0)
    raise ValueError(f"unknown surrogate {kind!r}")


def lif_forward(c_seq, u0, neuron):
    """Compute u_pre_seq and o_seq (T, ...) from c_seq (T, ...) (Eq. 1, 2).

    u0 is (...) or one number.
    """
    c_seq = np.asarray(c_seq, dtype=float)
    currents, starts = _by_neuron(c_seq), _start(u0, c_seq)
    u_pre_seq, o_seq = [], []
    for c, u in zip(currents, starts, strict=True):
        u_pre, o = _run(c, u, neuron)
        u_pre_seq.append(u_pre)
        o_seq.append(o)
    return _by_step(u_pre_seq, c_seq.shape), _by_step(o_seq, c_seq.shape)


def lif_backward(do_seq, c_seq, u0, neuron):
    """Compute the gradients dc_seq (T, ...), du0 (...), dtau and dv_th from do_seq (T, ...).

    dtau and dv_th are floats, summed over all neurons. Source: Eq. 3, D3.
    """
    c_seq = np.asarray(c_seq, dtype=float)
    spikes_grad = _by_neuron(np.asarray(do_seq, dtype=float))
    dc_seq, du0, dtau, dv_th = [], [], 0.0, 0.0
    for do, c, u in zip(spikes_grad, _by_neuron(c_seq), _start(u0, c_seq), strict=True):
        u_pre, o = _run(c, u, neuron)
        dc_seq.append(_current_gradient(do, u_pre, o, neuron))
        du0.append(_parameter_gradient(do, u_pre, o, u, neuron, "u0"))
        dtau += _parameter_gradient(do, u_pre, o, u, neuron, "tau")
        dv_th += _parameter_gradient(do, u_pre, o, u, neuron, "v_th")
    return {
        "dc_seq": _by_step(dc_seq, c_seq.shape),
        "du0": np.asarray(du0, dtype=float).reshape(c_seq.shape[1:]),
        "dtau": dtau,
        "dv_th": dv_th,
    }


def _run(c, u, neuron):
    """Compute one neuron's lists u_pre and o over time."""
    tau, v_th = neuron["tau"], neuron["v_th"]
    u_pre, o = [], []
    for current in c:
        before = tau * u + current
        fired = before > v_th or (neuron["fire_at_threshold"] and before == v_th)
        u_pre.append(before)
        o.append(1.0 if fired else 0.0)
        u = 0.0 if fired else before
    return u_pre, o


def _current_gradient(do, u_pre, o, neuron):
    """Compute one neuron's dL/dc over time.

    dL/dc[t] = sum_{s>=t} do[s] h[s] prod_{r=t}^{s-1} du_pre[r+1]/du_pre[r]
    """
    steps = len(do)
    h = [slope(value, neuron) for value in u_pre]
    carry = []
    for r in range(steps):
        kept = 1.0 - o[r]
        if neuron["reset_gradient"] != "detached":
            kept -= u_pre[r] * h[r]
        carry.append(neuron["tau"] * kept)
    dc = []
    for t in range(steps):
        total, path = 0.0, 1.0
        for s in range(t, steps):
            total += do[s] * h[s] * path
            path *= carry[s]
        dc.append(total)
    return dc


def _parameter_gradient(do, u_pre, o, u0, neuron, parameter):
    """Compute dL/dp = sum_t do[t] do[t]/dp of one neuron, for p = u0, tau or v_th.

    The derivative with respect to p is carried forward with the state.
    """
    tau = neuron["tau"]
    u, du = u0, 1.0 if parameter == "u0" else 0.0
    shift = 1.0 if parameter == "v_th" else 0.0
    total = 0.0
    for t in range(len(do)):
        du_pre = tau * du
        if parameter == "tau":
            du_pre += u
        d_spike = slope(u_pre[t], neuron) * (du_pre - shift)
        total += do[t] * d_spike
        du = du_pre * (1.0 - o[t])
        if neuron["reset_gradient"] != "detached":
            du -= u_pre[t] * d_spike
        u = u_pre[t] * (1.0 - o[t])
    return total


def _by_neuron(seq):
    """Return (T, ...) as one list over time for every neuron."""
    steps = seq.shape[0]
    rows = seq.reshape(steps, math.prod(seq.shape[1:])).tolist()
    return [[rows[t][i] for t in range(steps)] for i in range(len(rows[0]))]


def _by_step(lists, shape):
    """Return the lists of `_by_neuron` as an array of this shape."""
    rows = [[values[t] for values in lists] for t in range(shape[0])]
    return np.asarray(rows, dtype=float).reshape(shape)


def _start(u0, c_seq):
    """Return the initial u of every neuron, as a list."""
    count = math.prod(c_seq.shape[1:])
    starts = np.asarray(u0, dtype=float)
    return [float(starts)] * count if starts.ndim == 0 else starts.reshape(count).tolist()
