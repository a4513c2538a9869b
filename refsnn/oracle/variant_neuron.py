"""The LIF layer under every convention that implementations are known to follow.

One step is u_pre[t+1] = F(u_pre[t], f[t], i[t+1]), with the spikes f before any delay and the
current i after the synapse. The conventions of leak and reset define F; the backward pass needs
only its derivatives.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refsnn.ops import Array, LIFGrads
from refsnn.oracle.conventions import Conventions
from refsnn.oracle.slopes import family_of

#: form of Eq. 1 -> function of tau that returns the factors of u and of i
LEAKS: dict[str, Callable[[float], tuple[float, float]]] = {
    "tau*u + c": lambda tau: (tau, 1.0),
    "tau*u + (1-tau)*c": lambda tau: (tau, 1 - tau),
    "(1-tau)*u + c": lambda tau: (1 - tau, 1.0),
    "(1-tau)*u + tau*c": lambda tau: (1 - tau, tau),
    "tau*(u + c)": lambda tau: (tau, tau),
}
#: the derivatives of these factors with respect to tau
LEAK_SLOPES = {name: np.subtract(leak(1.0), leak(0.0)) for name, leak in LEAKS.items()}


LATE = ", next step"  # ends the names of resets that come a step late


class VariantCache(NamedTuple):
    """The values that the backward pass needs."""

    u_pre_seq: Array  # (T, ...)
    o_seq: Array  # (T, ...) spikes as passed on
    u0: Array  # (...)
    conventions: Conventions
    fired_seq: Array  # (T, ...) spikes before a delay
    u_seq: Array  # (T, ...)
    drive_seq: Array  # (T, ...) leaked potential plus current, before a late reset
    i_seq: Array  # (T, ...) current after the synapse
    o0: Array  # (...) spikes before the first step
    v: Array | None  # (N, N) weights of the neurons' connections among themselves


def lif_forward(
    c_seq: Array,
    u0: Array | None,
    conventions: Conventions,
    o0: Array | None = None,
    decided: Array | None = None,
    v: Array | None = None,
) -> tuple[Array, VariantCache]:
    """Compute the spikes of currents `c_seq` (T, ...).

    `u0` and `o0` are potential and spikes before the first step (default: the conventions' initial
    potential, and no spikes). `decided` (T, ...) holds spikes that replace the threshold's; where
    it is NaN, the threshold decides. With `v` (N, N), spikes that were passed on at step t - 1
    add v o[t-1] to the currents c[t] (N,).
    """
    a, b = leak_of(conventions)
    is_late = str(conventions["reset"]).endswith(LATE)
    if u0 is None:
        start = conventions["initial_potential"]
        u0 = np.full_like(c_seq[0], 0.0 if isinstance(start, str) else start)
    u_pre_seq, fired_seq, u_seq, drive_seq = (np.empty_like(c_seq) for _ in range(4))
    o0 = np.zeros_like(u0) if o0 is None else o0
    i_seq, u, f = currents(c_seq, conventions), u0, o0
    for t, i in enumerate(i_seq):
        drive_seq[t] = u_pre = a * u + b * i
        if is_late:
            u_pre = after_reset(u_pre, f, conventions)
        f = fires(u_pre, conventions).astype(c_seq.dtype)
        f = np.where(is_refractory(fired_seq, t, conventions), 0, f)
        if decided is not None:
            f = np.where(np.isnan(decided[t]), f, decided[t])
        u = u_pre if is_late else after_reset(u_pre, f, conventions)
        u_pre_seq[t], fired_seq[t], u_seq[t] = u_pre, f, u
        if v is not None:
            i_seq += recurrent(f, t, len(c_seq), v, conventions)
    o_seq = delayed(fired_seq, delay_of(conventions))
    return o_seq, VariantCache(
        u_pre_seq, o_seq, u0, conventions, fired_seq, u_seq, drive_seq, i_seq, o0, v
    )


def after_reset(u: Array, f: Array, conventions: Conventions) -> Array:
    """Return potentials after the reset that the spikes f cause, now or a step late."""
    reset, amount, v_reset = constants_of(conventions)
    kind = reset.removesuffix(LATE)
    if kind == "zero":
        fired = np.minimum(f, 1)
        return u * (1 - fired) + v_reset * fired
    if kind == "subtract":
        return u - amount * f
    if kind == "subtract o - v_th":
        return u - (f - float(conventions["v_th"]))
    return u


def leak_of(conventions: Conventions) -> tuple[float, float]:
    """Return the factors of u and of the current i."""
    return LEAKS[str(conventions["leak"])](float(conventions["tau"]))


def gain_of(conventions: Conventions) -> float:
    """Return du_pre/dc of one step."""
    return leak_of(conventions)[1] * float(conventions["input_gain"])


def constants_of(conventions: Conventions) -> tuple[str, float, float]:
    """Return the reset, the amount that a soft reset subtracts, and a hard reset's potential."""
    amount = conventions["reset_amount"]
    amount = conventions["v_th"] if amount == "v_th" else amount
    return str(conventions["reset"]), float(amount), float(conventions["reset_potential"])


def delay_of(conventions: Conventions) -> int:
    """Return the number of steps by which spikes are passed on late."""
    named = {"same step": 0, "one step late": 1}
    return int(named.get(str(conventions["output"]), conventions["output"]))


def currents(c_seq: Array, conventions: Conventions) -> Array:
    """Return the current after gain, delay and synapse: i[t] = alpha i[t-1] + gain c[t - n]."""
    gain, alpha = float(conventions["input_gain"]), float(conventions["synapse"])
    return filtered(delayed(gain * c_seq, int(conventions["input_delay"])), alpha)


def recurrent(f: Array, t: int, steps: int, v: Array, conventions: Conventions) -> Array:
    """Return the currents i (T, N) that the spikes f (N,) of step t cause in later steps.

    They are passed on at step t + delay, and act on the currents c[t + delay + 1].
    """
    c_seq, at = np.zeros((steps, len(v))), t + delay_of(conventions) + 1
    if at < steps:
        c_seq[at] = v @ f
    return currents(c_seq, conventions)


def weight_gradient(dc_seq: Array, o_seq: Array) -> Array:
    """Return dL/dv (N, N) of the connections among the neurons.

    forward: c'[t] = c[t] + v o[t-1], and no spikes come before the first step.
    """
    return dc_seq[1:].T @ o_seq[:-1]


def filtered(seq: Array, alpha: float) -> Array:
    """Return i[t] = alpha i[t-1] + seq[t]."""
    if alpha == 0:
        return seq
    i_seq = seq.copy()
    for t in range(1, len(seq)):
        i_seq[t] += alpha * i_seq[t - 1]
    return i_seq


def delayed(seq: Array, steps: int) -> Array:
    """Delay a sequence by some steps."""
    if steps == 0:
        return seq
    steps = min(steps, len(seq))
    return np.concatenate([np.zeros_like(seq[:steps]), seq[: len(seq) - steps]])


def fires(u_pre: Array, conventions: Conventions) -> Array:
    """Return the number of spikes, before any refractory period."""
    v_th, at_threshold = float(conventions["v_th"]), conventions["fire_at_threshold"]
    if conventions["spikes"] == "several":
        passed = np.floor(u_pre / v_th) if at_threshold else np.ceil(u_pre / v_th) - 1
        return np.maximum(passed, 0)
    fired: Array = u_pre >= v_th if at_threshold else u_pre > v_th
    return fired


def is_refractory(fired_seq: Array, t: int, conventions: Conventions) -> Array:
    """Tell where step t lies in the refractory period after a spike."""
    steps = int(conventions["refractory"])
    return np.asarray(fired_seq[max(t - steps, 0) : t].any(0))


def slopes(cache: VariantCache) -> Array:
    """Return df/du_pre (T, ...), which is zero in refractory periods."""
    conventions, v_th = cache.conventions, float(cache.conventions["v_th"])
    at = conventions["surrogate_at"]
    x = (cache.u_seq if at == "u" else cache.u_pre_seq) - (0.0 if at == "u_pre" else v_th)
    h_seq = slope(x, conventions)
    if conventions["refractory"]:
        for t in range(len(h_seq)):
            h_seq[t] *= ~is_refractory(cache.fired_seq, t, conventions)
    return h_seq


def slope(x: Array, conventions: Conventions, v_th: Any = None) -> Array:
    """Return the surrogate's slope at x = u_pre - v_th.

    `v_th` is an array that x's shape ends with, where channels differ (None: the conventions').
    """
    name, shape = str(conventions["surrogate"]), float(conventions["surrogate_shape"])
    v_th = float(conventions["v_th"]) if v_th is None else v_th
    if conventions["surrogate_unit"] == "v_th":
        return slope(x / v_th, conventions | {"surrogate_unit": "1"}, 1.0) / v_th
    h = family_of(name).slope(x, shape, v_th)
    if name == "rectangular" and conventions["surrogate_edge"] == "inside":
        h = np.where(np.abs(x) == shape / 2, 1 / shape, h)
    scale = conventions["surrogate_scale"]
    if isinstance(scale, str):
        missing_a = scale in ("without 1/a", "without any") and name == "rectangular"
        missing_k = scale in ("without k", "without any") and name in ("tanh", "tanh_literal")
        missing_k |= scale in ("without k", "without any") and name == "triangular"
        scale = shape if missing_a else 1 / shape if missing_k else 1.0  # "as given"
    return h if scale == 1 else h * scale


def by_potential(cache: VariantCache, t: int) -> tuple[Array, Array]:
    """Return dF/du_pre[t] and dF/df[t] of the step from t to t + 1.

    They follow the convention of the reset's gradient.
    """
    a, _ = leak_of(cache.conventions)
    reset, amount, v_reset = constants_of(cache.conventions)
    kept, ones = 1 - np.minimum(cache.fired_seq[t], 1), np.ones_like(cache.u0)
    through, by_spike = {
        "zero": (a * kept, a * (v_reset - cache.u_pre_seq[t])),
        "subtract": (a * ones, -a * amount * ones),
        "subtract o - v_th": (a * ones, -a * ones),
        "subtract o - v_th, next step": (a * ones, -ones),
        "none": (a * ones, 0 * ones),
        "zero, next step": (a * kept, v_reset - cache.drive_seq[t + 1]),
        "subtract, next step": (a * ones, -amount * ones),
    }[reset]
    v_th = float(cache.conventions["v_th"])
    by_v_th = {"zero": -a * v_th * ones, "zero, next step": -v_th * ones}.get(reset, by_spike)
    return {
        "full": (through, by_spike),
        "detached": (through, 0 * ones),
        "ignored": (a * ones, 0 * ones),
        "spike path only": (0 * ones, by_spike),
        "v_th for u_pre": (through, by_v_th),
        "sign flipped": (through, -by_spike),
    }[str(cache.conventions["reset_gradient"])]


def lif_backward(
    do_seq: Array, cache: VariantCache, source_seq: Array | None = None
) -> tuple[LIFGrads, Array]:
    """Compute the gradients with respect to c, u0, tau and v_th, and dL/du_pre (T, ...).

    `source_seq` (T, ...) is the gradient of a loss of the potentials themselves.
    """
    conventions, steps = cache.conventions, len(do_seq)
    a, b = leak_of(conventions)
    df_seq = delayed(do_seq[::-1], delay_of(conventions))[::-1].copy()
    h_seq, delta_seq = slopes(cache), np.empty_like(do_seq)
    gain, alpha = float(conventions["input_gain"]), float(conventions["synapse"])
    arrives = np.ones_like(delta_seq)
    before = np.concatenate([cache.o0[None], cache.fired_seq[:-1]])
    if conventions["reset"] == "zero, next step":
        arrives -= np.minimum(before, 1)
    # steps from a spike to the currents i that it changes by way of v
    late = delay_of(conventions) + 1 + int(conventions["input_delay"])
    di_seq = np.empty_like(delta_seq)
    for t in reversed(range(steps)):
        delta_seq[t] = 0.0
        if cache.v is not None and t + late < steps:
            df_seq[t] += gain * di_seq[t + late] @ cache.v
        if t + 1 < steps:
            through, by_spike = by_potential(cache, t)
            df_seq[t] += delta_seq[t + 1] * by_spike
            delta_seq[t] = delta_seq[t + 1] * through
        delta_seq[t] += df_seq[t] * h_seq[t]
        if source_seq is not None:
            delta_seq[t] += source_seq[t]
        di_seq[t] = b * delta_seq[t] * arrives[t]
        if alpha and t + 1 < steps:
            di_seq[t] += alpha * di_seq[t + 1]
    reached = delta_seq * arrives
    dc_seq = delayed(di_seq[::-1], int(conventions["input_delay"]))[::-1] * gain
    slope_a, slope_b = LEAK_SLOPES[str(conventions["leak"])]
    u_before = np.concatenate([cache.u0[None], cache.u_seq[:-1]])
    dtau = float((reached * (slope_a * u_before + slope_b * cache.i_seq)).sum())
    # f is a function of u_pre - v_th
    dv_th = float((delta_seq * by_threshold(cache) - h_seq * df_seq).sum())
    return LIFGrads(dc_seq, a * reached[0], dtau, dv_th), delta_seq


def by_threshold(cache: VariantCache) -> Array:
    """Return du_pre/dv_th (T, ...) by way of what a soft reset subtracts."""
    conventions, (a, _) = cache.conventions, leak_of(cache.conventions)
    before = np.concatenate([cache.o0[None], cache.fired_seq[:-1]])
    later = np.ones_like(before)
    later[0] = 0.0  # u0 is given, whatever a reset subtracted before
    by_amount = float(conventions["reset_amount"] == "v_th")
    return {
        "subtract": -a * by_amount * before * later,
        "subtract, next step": -by_amount * before,
        "subtract o - v_th": a * later,
        "subtract o - v_th, next step": np.ones_like(before),
    }.get(str(conventions["reset"]), np.zeros_like(before))
