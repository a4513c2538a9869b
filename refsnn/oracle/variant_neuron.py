"""The LIF layer under every convention that implementations are known to follow.

One step is u_pre[t+1] = F(u_pre[t], o[t], c[t+1]). The conventions of leak and reset define F; the
backward pass needs only its derivatives with respect to u_pre, o and c.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from refsnn.ops import LIF, SURROGATES, Array, LIFGrads, Surrogate
from refsnn.oracle.conventions import Conventions

#: form of Eq. 1 -> function of tau that returns the factors of u and of c
DECAYS: dict[str, Callable[[float], tuple[float, float]]] = {
    "tau*u + c": lambda tau: (tau, 1.0),
    "tau*u + (1-tau)*c": lambda tau: (tau, 1 - tau),
    "(1-tau)*u + c": lambda tau: (1 - tau, 1.0),
    "(1-tau)*u + tau*c": lambda tau: (1 - tau, tau),
    "tau*(u + c)": lambda tau: (tau, tau),
}
#: slopes of other libraries' surrogates as functions of the distance from the threshold
OTHERS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / np.cosh(np.minimum(np.abs(2 * x), 300)) ** 2,  # 4 s (1 - s), s(4x)
    "atan": lambda x: 1 / (1 + (np.pi * x) ** 2),
    "fast_sigmoid": lambda x: 1 / (1 + 25 * np.abs(x)) ** 2,
    "superspike": lambda x: 1 / (1 + 100 * np.abs(x)) ** 2,
    "superspike, alpha 1": lambda x: 1 / (1 + np.abs(x)) ** 2,
}


class VariantCache(NamedTuple):
    """The values that the backward pass needs."""

    u_pre_seq: Array  # (T, ...)
    o_seq: Array  # (T, ...) spikes as passed on
    u0: Array  # (...)
    p: LIF
    fired_seq: Array  # (T, ...) spikes before a delay
    u_seq: Array  # (T, ...)
    drive_seq: Array  # (T, ...) leaked potential plus input, before a late reset
    o0: Array  # (...) spikes before the first step
    conventions: Conventions


def lif_forward(
    c_seq: Array,
    u0: Array | None,
    p: LIF,
    conventions: Conventions,
    o0: Array | None = None,
    decided: Array | None = None,
) -> tuple[Array, VariantCache]:
    """Compute the spikes of currents `c_seq` (T, ...).

    `u0` and `o0` are potential and spikes before the first step (default: zeros). `decided` (T,
    ...) holds spikes that replace the threshold's; where it is NaN, the threshold decides.
    """
    a, b = DECAYS[str(conventions["leak"])](p.tau)
    u0 = np.zeros_like(c_seq[0]) if u0 is None else u0
    u_pre_seq, fired_seq, u_seq, drive_seq = (np.empty_like(c_seq) for _ in range(4))
    o0 = np.zeros_like(u0) if o0 is None else o0
    u, o = u0, o0
    for t, c in enumerate(c_seq):
        drive_seq[t] = u_pre = a * u + b * c
        if conventions["reset"] == "zero, next step":
            u_pre = u_pre * (1 - o)
        elif conventions["reset"] == "subtract, next step":
            u_pre = u_pre - p.v_th * o
        o = (u_pre >= p.v_th if p.fire_at_threshold else u_pre > p.v_th).astype(c.dtype)
        if decided is not None:
            o = np.where(np.isnan(decided[t]), o, decided[t])
        u = u_pre
        if conventions["reset"] == "zero":
            u = u_pre * (1 - o)
        elif conventions["reset"] == "subtract":
            u = u_pre - p.v_th * o
        u_pre_seq[t], fired_seq[t], u_seq[t] = u_pre, o, u
    o_seq = late(fired_seq) if conventions["output"] == "one step late" else fired_seq
    return o_seq, VariantCache(
        u_pre_seq, o_seq, u0, p, fired_seq, u_seq, drive_seq, o0, conventions
    )


def late(seq: Array) -> Array:
    """Delay a sequence by one step."""
    return np.concatenate([np.zeros_like(seq[:1]), seq[:-1]])


def slopes(cache: VariantCache) -> Array:
    """Return do/du_pre (T, ...)."""
    p, conventions = cache.p, cache.conventions
    x = (cache.u_seq if conventions["surrogate_at"] == "u" else cache.u_pre_seq) - p.v_th
    return slope(x + p.v_th if conventions["surrogate_at"] == "u_pre" else x, p, conventions)


def slope(x: Array, p: LIF, conventions: Conventions) -> Array:
    """Return the surrogate's slope."""
    name, scale = str(conventions["surrogate"]), conventions["surrogate_scale"]
    if name not in SURROGATES:
        return OTHERS[name](x)
    h = p.surrogate.slope(x, p.v_th)
    if scale in ("without 1/a", "without any") and name == "rectangular":
        return h * height(p.surrogate)
    if scale in ("without k", "without any") and name != "rectangular":
        return h / height(p.surrogate)
    return h


def height(surrogate: Surrogate) -> float:
    """Return the surrogate's k, a or gamma."""
    return next(float(getattr(surrogate, s)) for s in ("k", "a", "gamma") if hasattr(surrogate, s))


def by_potential(cache: VariantCache, t: int) -> tuple[Array, Array]:
    """Return dF/du_pre[t] and dF/do[t] of the step from t to t + 1.

    They follow the convention of the reset's gradient.
    """
    p, conventions = cache.p, cache.conventions
    a, _ = DECAYS[str(conventions["leak"])](p.tau)
    o, ones = cache.fired_seq[t], np.ones_like(cache.u0)
    through, by_spike = {
        "zero": (a * (1 - o), -a * cache.u_pre_seq[t]),
        "subtract": (a * ones, -a * p.v_th * ones),
        "none": (a * ones, 0 * ones),
        "zero, next step": (a * (1 - o), -cache.drive_seq[t + 1]),
        "subtract, next step": (a * ones, -p.v_th * ones),
    }[str(conventions["reset"])]
    by_v_th = {"zero": -a * p.v_th * ones, "zero, next step": -p.v_th * ones}.get(
        str(conventions["reset"]), by_spike
    )
    return {
        "full": (through, by_spike),
        "detached": (through, 0 * ones),
        "ignored": (a * ones, 0 * ones),
        "spike path only": (0 * ones, by_spike),
        "v_th for u_pre": (through, by_v_th),
        "sign flipped": (through, -by_spike),
    }[str(conventions["reset_gradient"])]


def lif_backward(do_seq: Array, cache: VariantCache) -> tuple[LIFGrads, Array]:
    """Compute the gradients with respect to c and u0, and dL/du_pre (T, ...)."""
    conventions, steps = cache.conventions, len(do_seq)
    a, b = DECAYS[str(conventions["leak"])](cache.p.tau)
    if conventions["output"] == "one step late":
        do_seq = late(do_seq[::-1])[::-1]
    h_seq, delta_seq = slopes(cache), np.empty_like(do_seq)
    for t in reversed(range(steps)):
        delta_seq[t] = do_seq[t] * h_seq[t]
        if t + 1 < steps:
            through, by_spike = by_potential(cache, t)
            delta_seq[t] += delta_seq[t + 1] * (through + by_spike * h_seq[t])
    arrives = np.ones_like(delta_seq)
    if conventions["reset"] == "zero, next step":
        arrives -= np.concatenate([cache.o0[None], cache.fired_seq[:-1]])
    return LIFGrads(b * delta_seq * arrives, a * delta_seq[0], None, None), delta_seq
