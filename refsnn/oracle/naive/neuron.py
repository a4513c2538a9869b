"""The LIF neuron one by one, under any conventions: Eq. 1 to 4 and their variants.

A gradient is a sum over the steps: a change is made at one place (of c or u_pre at one step, of u0,
tau or v_th), and carried forward through all later steps to every spike.

`neuron` is a dict of conventions; those that it lacks are the paper's. Its surrogate may be a
function that gives the slope at one x = u_pre - v_th.
"""

import math

import numpy as np

from refsnn.oracle.naive import rectifier

PAPER = {
    "tau": 0.5,
    "leak": "tau*u + c",
    "input_gain": 1.0,
    "synapse": 0.0,
    "input_delay": 0,
    "v_th": 1.0,
    "fire_at_threshold": False,
    "spikes": "one",
    "refractory": 0,
    "reset": "zero",
    "reset_potential": 0.0,
    "reset_amount": "v_th",
    "output": "same step",
    "initial_potential": "zero",
    "surrogate": "tanh",
    "surrogate_shape": 0.5,
    "surrogate_scale": "as given",
    "surrogate_edge": "outside",
    "surrogate_unit": "1",
    "surrogate_at": "u_pre - v_th",
    "reset_gradient": "full",
}
LATE = ("zero, next step", "subtract, next step", "subtract o - v_th, next step")


def slope(u_pre, neuron):
    """Return the surrogate's slope do/du_pre at one u_pre (Eq. 4, D4, D5)."""
    n = PAPER | neuron
    where, v_th = n["surrogate_at"], n["v_th"]
    if where == "u_pre - v_th":
        x = u_pre - v_th
    elif where == "u_pre":
        x = u_pre
    elif where == "u":
        x = _after_reset(u_pre, _count(u_pre, n), n) - v_th
    else:
        raise ValueError(f"unknown surrogate_at {where!r}")
    if n["surrogate_unit"] == "v_th":
        return _scale(n) * _family(x / v_th, n | {"v_th": 1.0}) / v_th
    return _scale(n) * _family(x, n)


def _family(x, n):
    kind, shape = n["surrogate"], n["surrogate_shape"]
    distance = abs(x)
    if callable(kind):
        return kind(x)
    if kind == "tanh":
        return shape * (1.0 - math.tanh(x) ** 2)
    if kind == "tanh_literal":
        return shape * (1.0 - math.tanh(x)) ** 2
    if kind == "rectangular":
        inside = distance < shape / 2 or (n["surrogate_edge"] == "inside" and distance == shape / 2)
        return 1.0 / shape if inside else 0.0
    if kind == "triangular":
        return shape * max(0.0, 1.0 - distance / n["v_th"])
    if kind == "sigmoid":  # s (1 - s) is the same at -x, where exp may not overflow
        small = math.exp(-shape * distance)
        return shape * small / ((1.0 + small) * (1.0 + small))
    if kind == "atan":
        y = math.pi / 2 * shape * x
        return shape / 2 / (1.0 + y * y)
    if kind == "fast_sigmoid":
        y = 1.0 + shape * distance
        return 1.0 / (y * y)
    if kind == "piecewise_quadratic":
        return shape * max(0.0, 1.0 - shape * distance)
    if kind == "exponential":
        return shape / 2 * math.exp(-shape * distance)
    if kind == "gaussian":
        y = x / shape
        return math.exp(-y * y / 2) / (shape * math.sqrt(2 * math.pi))
    if kind == "softsign":
        y = 1.0 + shape * distance
        return shape / 2 / (y * y)
    if kind == "super_spike":
        y = 1.0 + distance
        return shape / (y * y)
    if kind == "dspike":
        if distance > 0.5:
            return 0.0
        y = math.tanh(shape * x)
        return shape * (1.0 - y * y) / (2.0 * math.tanh(shape / 2))
    if kind == "rectifier":
        return rectifier.slope(x + 0.5, shape)
    if kind == "straight_through":
        return 1.0
    if kind == "step":
        return 0.0 if x < -shape else 1.0 / n["v_th"]
    raise ValueError(f"unknown surrogate {kind!r}")


def _scale(n):
    """Return the factor of the slope."""
    scale, kind, shape = n["surrogate_scale"], n["surrogate"], n["surrogate_shape"]
    if not isinstance(scale, str):
        return scale
    if scale not in ("as given", "without 1/a", "without k", "without any"):
        raise ValueError(f"unknown surrogate_scale {scale!r}")
    if kind == "rectangular" and scale in ("without 1/a", "without any"):
        return shape
    if kind in ("tanh", "tanh_literal", "triangular") and scale in ("without k", "without any"):
        return 1.0 / shape
    return 1.0


def primitive(u_pre, neuron):
    """Return an antiderivative of `slope` with respect to u_pre.

    It knows the paper's surrogates and those in common use, as given and at u_pre - v_th.
    """
    n = PAPER | neuron
    kind, shape, v_th = n["surrogate"], n["surrogate_shape"], n["v_th"]
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
    side, distance = math.copysign(1.0, x), abs(x)
    if kind == "sigmoid":
        small = math.exp(-shape * distance)
        return (1.0 if x > 0 else small) / (1.0 + small)
    if kind == "atan":
        return math.atan(math.pi * shape * x / 2) / math.pi + 0.5
    if kind == "fast_sigmoid":
        return x / (1.0 + shape * distance)
    if kind == "softsign":
        return 0.5 + shape * x / (1.0 + shape * distance) / 2
    if kind == "super_spike":
        return shape * x / (1.0 + distance)
    if kind == "piecewise_quadratic":
        rest = max(0.0, 1.0 - shape * distance)  # the area beyond x is rest^2 / 2
        return 0.5 + side * (1.0 - rest * rest) / 2
    if kind == "exponential":
        return 0.5 + side * (1.0 - math.exp(-shape * distance)) / 2
    if kind == "gaussian":
        return math.erfc(-x / shape / math.sqrt(2.0)) / 2
    if kind == "dspike":
        z = min(distance, 0.5)
        return 0.5 + side * math.tanh(shape * z) / math.tanh(shape / 2) / 2
    if kind == "rectifier":
        return rectifier.primitive(x + 0.5, shape)
    raise ValueError(f"unknown surrogate {kind!r}")


def lif_forward(c_seq, u0, neuron):
    """Compute u_pre_seq and o_seq (T, ...) from c_seq (T, ...) (Eq. 1, 2).

    u0 is (...), or one number, or None for the convention initial_potential.
    """
    found = states(c_seq, u0, neuron)
    return found["u_pre"], found["o"]


def states(c_seq, u0, neuron):
    """Compute u_pre, o and u, which is after the reset, from c_seq; all are (T, ...)."""
    n, c_seq = PAPER | neuron, np.asarray(c_seq, dtype=float)
    found = {"u_pre": [], "o": [], "u": []}
    for c, u in zip(_by_neuron(c_seq), _start(u0, c_seq, n), strict=True):
        run = _run(c, u, n)
        late = _output_delay(n)
        found["u_pre"].append(run["u_pre"])
        found["o"].append(([0.0] * late + run["f"])[: len(c)])
        found["u"].append(run["u"])
    return {name: _by_step(lists, c_seq.shape) for name, lists in found.items()}


def lif_backward(do_seq, c_seq, u0, neuron):
    """Compute the gradients dc_seq (T, ...), du0 (...), dtau and dv_th from do_seq (T, ...).

    dtau and dv_th are floats, summed over all neurons. Source: Eq. 3, D3.
    """
    found = gradients(do_seq, c_seq, u0, neuron)
    return {name: found[name] for name in ("dc_seq", "du0", "dtau", "dv_th")}


def gradients(do_seq, c_seq, u0, neuron):
    """Compute what `lif_backward` does, and du_pre_seq (T, ...)."""
    n, c_seq = PAPER | neuron, np.asarray(c_seq, dtype=float)
    dos = _by_neuron(np.asarray(do_seq, dtype=float))
    dc_seq, du_pre_seq, du0, dtau, dv_th = [], [], [], 0.0, 0.0
    for do, c, u in zip(dos, _by_neuron(c_seq), _start(u0, c_seq, n), strict=True):
        one = _one_neuron(do, c, u, n)
        dc_seq.append(one["dc"])
        du_pre_seq.append(one["du_pre"])
        du0.append(one["du0"])
        dtau += one["dtau"]
        dv_th += one["dv_th"]
    return {
        "dc_seq": _by_step(dc_seq, c_seq.shape),
        "du_pre_seq": _by_step(du_pre_seq, c_seq.shape),
        "du0": np.asarray(du0, dtype=float).reshape(c_seq.shape[1:]),
        "dtau": dtau,
        "dv_th": dv_th,
    }


def coupled_states(c_seq, v, u0, neuron):
    """Compute `states` of neurons that drive each other; c_seq is (T, N).

    v[i][j] is what a spike of neuron j adds to the current of neuron i one step later.
    """
    return states(_driven(c_seq, v, u0, neuron), u0, neuron)


def coupled_gradients(do_seq, c_seq, v, u0, neuron):
    """Compute `gradients` of the neurons of `coupled_states`, and dL/dv, "dv" (N, N).

    A spike of step t - 1 changes L by itself and by the currents of step t. The gradients of these
    are known once those of the spikes of step t and later are, so the last step comes first.
    """
    c_seq = _driven(c_seq, v, u0, neuron)
    do, v = np.asarray(do_seq, dtype=float).tolist(), np.asarray(v, dtype=float).tolist()
    steps, count = c_seq.shape
    for t in range(steps - 1, 0, -1):
        dc = gradients(do, c_seq, u0, neuron)["dc_seq"][t].tolist()
        for j in range(count):
            for i in range(count):
                do[t - 1][j] += dc[i] * v[i][j]
    found = gradients(do, c_seq, u0, neuron)
    dc, o = found["dc_seq"].tolist(), states(c_seq, u0, neuron)["o"].tolist()
    dv = np.zeros((count, count))
    for t in range(1, steps):
        for i in range(count):
            for j in range(count):
                dv[i, j] += dc[t][i] * o[t - 1][j]
    return found | {"dv": dv}


def _driven(c_seq, v, u0, neuron):
    """Return the currents (T, N) of coupled neurons: c_seq and what the spikes before add."""
    driven, v = np.array(c_seq, dtype=float), np.asarray(v, dtype=float).tolist()
    steps, count = driven.shape
    for t in range(1, steps):
        o = states(driven[:t], u0, neuron)["o"][t - 1].tolist()
        for i in range(count):
            from_others = 0.0
            for j in range(count):
                from_others += v[i][j] * o[j]
            driven[t, i] += from_others
    return driven


def _run(c, u, n):
    """Compute one neuron from its potential u before the first step; return lists over time.

    i is the current, drive the potential after the leak, f the number of spikes, u the potential
    after the reset, "rests" whether the neuron cannot fire.
    """
    a, b, _, _ = _leak(n)
    gain, synapse, delay, rest = n["input_gain"], n["synapse"], n["input_delay"], n["refractory"]
    run = {name: [] for name in ("i", "drive", "u_pre", "f", "u", "rests")}
    i, f = 0.0, 0.0
    for t in range(len(c)):
        x = gain * c[t - int(delay)] if t >= delay else 0.0
        i = synapse * i + x
        drive = a * u + b * i
        u_pre = drive
        if n["reset"] == "zero, next step" and f:
            u_pre = n["reset_potential"]
        if n["reset"] == "subtract, next step":
            u_pre = drive - amount(n) * f
        if n["reset"] == "subtract o - v_th, next step":
            u_pre = drive - (f - n["v_th"])
        rests = any(run["f"][max(0, t - int(rest)) : t])
        f = 0.0 if rests else _count(u_pre, n)
        u = _after_reset(u_pre, f, n)
        for name, value in zip(run, (i, drive, u_pre, f, u, rests), strict=True):
            run[name].append(value)
    return run


def _count(u_pre, n):
    """Return the number of spikes of a neuron that can fire: multiples k v_th that are passed."""

    def passes(k):
        return u_pre > k * n["v_th"] or (n["fire_at_threshold"] and u_pre == k * n["v_th"])

    if not passes(1):
        return 0.0
    if n["spikes"] == "one":
        return 1.0
    if n["spikes"] != "several":
        raise ValueError(f"unknown spikes {n['spikes']!r}")
    count = math.floor(u_pre / n["v_th"])  # but for the rounding of the quotient
    if passes(count + 1):
        count += 1
    elif not passes(count):
        count -= 1
    return float(count)


def _after_reset(u_pre, f, n):
    """Return u after f spikes."""
    reset = n["reset"]
    if reset == "zero":
        return n["reset_potential"] if f else u_pre
    if reset == "subtract":
        return u_pre - amount(n) * f
    if reset == "subtract o - v_th":
        return u_pre - (f - n["v_th"])
    if reset == "none" or reset in LATE:
        return u_pre
    raise ValueError(f"unknown reset {reset!r}")


def _one_neuron(do, c, u0, n):
    """Compute dL/dc, dL/du_pre (lists over time), dL/du0, dL/dtau and dL/dv_th of one neuron."""
    run, steps = _run(c, u0, n), len(c)
    a, b, da, db = _leak(n)
    u, f = [u0, *run["u"]], [0.0, *run["f"]]  # the ones before a step t, at index t
    do = (do + [0.0] * _output_delay(n))[_output_delay(n) :]  # of the step of the spikes
    h = [
        0.0 if rests else slope(u_pre, n)
        for u_pre, rests in zip(run["u_pre"], run["rests"], strict=True)
    ]
    # u_pre of step t from drive, which a late reset discards
    kept = [0.0 if n["reset"] == "zero, next step" and f[t] else 1.0 for t in range(steps)]
    through_u, through_f = _links(run, n)

    def effect(changes, shift=0.0):
        """Carry changes made to u_pre at each step forward, and return the change of L.

        Each spike changes by h times the change of u_pre - v_th; `shift` is that of v_th.
        """
        total, d_u_pre, d_f = 0.0, 0.0, 0.0
        for t in range(steps):
            before = through_u[t - 1] * d_u_pre + through_f[t - 1] * d_f if t else 0.0
            d_u_pre = before + changes[t]
            d_f = h[t] * (d_u_pre - shift)
            total += do[t] * d_f
        return total

    dc, du_pre = [], []
    for s in range(steps):
        du_pre.append(effect([1.0 if t == s else 0.0 for t in range(steps)]))
        changes, di = [], 0.0
        for t in range(steps):
            di = n["synapse"] * di + (n["input_gain"] if t == s + n["input_delay"] else 0.0)
            changes.append(b * di * kept[t])
        dc.append(effect(changes))
    first = [a * kept[t] if t == 0 else 0.0 for t in range(steps)]
    by_tau = [(da * u[t] + db * run["i"][t]) * kept[t] for t in range(steps)]
    by_v_th = [0.0] * steps
    if n["reset_amount"] == "v_th" and n["reset"] == "subtract":
        by_v_th = [-a * f[t] for t in range(steps)]
    if n["reset_amount"] == "v_th" and n["reset"] == "subtract, next step":
        by_v_th = [-f[t] for t in range(steps)]
    if n["reset"] == "subtract o - v_th":
        by_v_th = [a if t else 0.0 for t in range(steps)]
    if n["reset"] == "subtract o - v_th, next step":
        by_v_th = [1.0] * steps
    return {
        "dc": dc,
        "du_pre": du_pre,
        "du0": effect(first),
        "dtau": effect(by_tau),
        "dv_th": effect(by_v_th, shift=1.0),
    }


def _links(run, n):
    """List the derivatives of the next step's u_pre: by u_pre at fixed spikes, by the spikes."""
    a, _, _, _ = _leak(n)
    reset, kind = n["reset"], n["reset_gradient"]
    known = ("full", "detached", "ignored", "spike path only", "v_th for u_pre", "sign flipped")
    if kind not in known:
        raise ValueError(f"unknown reset_gradient {kind!r}")
    through_u, through_f = [], []
    for t in range(len(run["u"]) - 1):
        fired = run["f"][t] > 0.0
        p, q = a, 0.0
        if reset == "zero":
            p = 0.0 if fired else a
            q = a * (n["reset_potential"] - run["u_pre"][t])
        if reset == "zero, next step":
            p = 0.0 if fired else a
            q = n["reset_potential"] - run["drive"][t + 1]
        if reset == "subtract":
            q = -a * amount(n)
        if reset == "subtract, next step":
            q = -amount(n)
        if reset == "subtract o - v_th":
            q = -a
        if reset == "subtract o - v_th, next step":
            q = -1.0
        if kind == "v_th for u_pre" and reset == "zero":
            q = -a * n["v_th"]
        if kind == "v_th for u_pre" and reset == "zero, next step":
            q = -n["v_th"]
        if kind == "sign flipped":
            q = -q
        if kind == "spike path only":
            p = 0.0
        if kind == "ignored":
            p = a
        if kind in ("ignored", "detached"):
            q = 0.0
        through_u.append(p)
        through_f.append(q)
    return through_u, through_f


def _leak(n):
    """Return a, b of drive = a u + b i, and their derivatives by tau."""
    tau = n["tau"]
    return {
        "tau*u + c": (tau, 1.0, 1.0, 0.0),
        "tau*u + (1-tau)*c": (tau, 1.0 - tau, 1.0, -1.0),
        "(1-tau)*u + c": (1.0 - tau, 1.0, -1.0, 0.0),
        "(1-tau)*u + tau*c": (1.0 - tau, tau, -1.0, 1.0),
        "tau*(u + c)": (tau, tau, 1.0, 1.0),
    }[n["leak"]]


def amount(n):
    """Return what a soft reset subtracts for each spike."""
    return n["v_th"] if n["reset_amount"] == "v_th" else n["reset_amount"]


def _output_delay(n):
    """Return by how many steps spikes are passed on late."""
    return int({"same step": 0, "one step late": 1}.get(n["output"], n["output"]))


def _by_neuron(seq):
    """Return (T, ...) as one list over time for every neuron."""
    steps = seq.shape[0]
    rows = seq.reshape(steps, math.prod(seq.shape[1:])).tolist()
    return [[rows[t][i] for t in range(steps)] for i in range(len(rows[0]))]


def _by_step(lists, shape):
    """Return the lists of `_by_neuron` as an array of this shape."""
    rows = [[values[t] for values in lists] for t in range(shape[0])]
    return np.asarray(rows, dtype=float).reshape(shape)


def _start(u0, c_seq, n):
    """Return the initial u of every neuron, as a list."""
    if u0 is None:
        if n["initial_potential"] == "kept":
            raise ValueError("the loops keep no potentials")
        u0 = 0.0 if n["initial_potential"] == "zero" else n["initial_potential"]
    count = math.prod(c_seq.shape[1:])
    starts = np.asarray(u0, dtype=float)
    return [float(starts)] * count if starts.ndim == 0 else starts.reshape(count).tolist()
