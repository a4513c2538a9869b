"""The leaky integrate-and-fire layer: Eq. 1 and 2 forward, Eq. 3 backward.

Shapes: `c_seq`, `u_pre_seq`, `o_seq` are (T, ...); `u0` is (...), the same trailing
shape. tau is the leak factor per step; currents, potentials and v_th share one unit.
Formulas count steps from 1: o[t] is `o_seq[t - 1]`, and u[0] is `u0`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from refsnn.equations.surrogate import SURROGATES, Array, Surrogate, Tanh, slopes
from refsnn.equations.validate import (
    as_floats,
    finite,
    flag,
    floating,
    like,
    number,
    one_of,
    positive,
    shown,
)

RESET_GRADIENTS = ("full", "detached")  # D3
RESETS = ("zero", "subtract")  # R6


@dataclass(frozen=True)
class LIF:
    """The neuron's constants: tau and v_th (D1), surrogate (D4), reset (R6) and its gradient (D3).

    A reset by subtraction takes `reset_amount` off the potential, or where that is None, v_th.
    """

    tau: float = 0.5  # D1
    v_th: float = 1.0  # D1
    surrogate: Surrogate = field(default_factory=Tanh)  # D4
    reset_gradient: str = "full"  # D3: "full", or "detached"
    fire_at_threshold: bool = False  # D2: fire at u_pre == v_th too
    smooth: bool = False  # fire the surrogate's primitive instead of a step
    reset: str = "zero"  # R6: to "zero" (Eq. 2), or "subtract"
    reset_amount: float | None = None  # R6

    def __post_init__(self) -> None:
        if not 0 < number("tau", self.tau) <= 1:
            raise ValueError(f"tau: got {shown(self.tau)}, want a leak factor in (0, 1]")
        positive("v_th", self.v_th)
        as_floats(self, "tau", "v_th")
        one_of("reset_gradient", self.reset_gradient, RESET_GRADIENTS)
        one_of("reset", self.reset, RESETS)
        if self.reset_amount is not None:
            got = shown(self.reset_amount)
            if self.reset != "subtract":
                raise ValueError(f"reset_amount: got {got}, want it for reset subtract alone")
            if not finite(number("reset_amount", self.reset_amount)):
                raise ValueError(f"reset_amount: got {got}, want a finite number")
            as_floats(self, "reset_amount")
        for name in ("fire_at_threshold", "smooth"):
            flag(name, getattr(self, name))
        wanted, given = "primitive" if self.smooth else "slope", self.surrogate
        if isinstance(given, type) or not callable(getattr(given, wanted, None)):
            known = isinstance(given, str) and given in SURROGATES
            hint = f": make_surrogate({given!r})" if known else ""
            raise TypeError(
                f"surrogate: got {shown(given)}, want an object with {wanted}(x, v_th){hint}"
            )


class LIFCache(NamedTuple):
    """The values that the backward pass needs."""

    u_pre_seq: Array  # (T, ...) membrane potential before firing
    o_seq: Array  # (T, ...) spikes, 0 or 1 (any real number where p.smooth)
    u0: Array  # (...) potential before the first step
    p: LIF

    @property
    def relative_seq(self) -> Array:
        """Return the potentials before firing over the threshold, (T, ...)."""
        return self.u_pre_seq / self.p.v_th


class LIFGrads(NamedTuple):
    """The gradients of a layer of neurons."""

    dc_seq: Array  # (T, ...)
    du0: Array  # (...)
    dtau: float | None  # None if the constants' gradients were not asked for
    dv_th: float | None


def fire(u_pre: Array, p: LIF) -> Array:
    """Return the spikes, of the shape and dtype of `u_pre`.

        o[t] = 1 if u_pre[t] > v_th else 0

    Source: Eq. 2, D2.
    """
    if p.smooth:
        return p.surrogate.primitive(u_pre - p.v_th, p.v_th)
    if p.fire_at_threshold:
        return (u_pre >= p.v_th).astype(u_pre.dtype)  # D2
    return (u_pre > p.v_th).astype(u_pre.dtype)  # Eq. (2)  # D2


def reset(u_pre: Array, o: Array, p: LIF) -> Array:
    """Reset the neurons that fired and return the potentials, in the shape of `u_pre`.

        u[t] = u_pre[t] (1 - o[t])

    or where the reset subtracts R, the reset amount,

        u[t] = u_pre[t] - R o[t]

    Source: Eq. 2, R6.
    """
    if p.reset == "subtract":
        return u_pre - amount_of(p) * o  # R6
    return u_pre * (1 - o)  # Eq. (2)


def reset_slopes(u_pre: Array, o: Array, p: LIF) -> tuple[Array, Array]:
    """Return the derivatives of `reset` by u_pre at the same spikes, and by o, like `u_pre`.

    They are 1 - o[t] and -u_pre[t]; where the reset subtracts R, 1 and -R. Source: Eq. 3, R6.
    """
    if p.reset == "subtract":
        return np.ones_like(u_pre), np.full_like(u_pre, -amount_of(p))  # R6
    return 1 - o, -u_pre  # Eq. (3)


def amount_of(p: LIF) -> float:
    """Return what a reset by subtraction takes off the potential: by default v_th (R6)."""
    return p.v_th if p.reset_amount is None else p.reset_amount  # R6


def initial_potential(c_seq: Array, u0: Array | None) -> Array:
    """Return the potential before the first step: `u0`, or where that is None, u[0] = 0.

    ValueError or TypeError where `c_seq` is no sequence of floats, or `u0` does not fit it.
    Source: D6.
    """
    floating("c_seq", c_seq)
    if c_seq.ndim < 1 or len(c_seq) == 0:
        raise ValueError(f"c_seq: got shape {c_seq.shape}, want at least one time step")
    if u0 is None:
        return np.zeros_like(c_seq[0])  # D6
    like("u0", u0, c_seq.shape[1:], c_seq.dtype, "c_seq[0]")
    return u0


def lif_forward(c_seq: Array, u0: Array | None, p: LIF) -> tuple[Array, LIFCache]:
    """Compute the spikes `o_seq` (T, ...) of a layer of neurons from its currents `c_seq` (T, ...).

        u_pre[t+1] = tau u[t] + c[t+1]

    with `fire` and `reset` after each step. The currents are c[t] = W x[t], after batch norm where
    there is one. The cache holds what `lif_backward` needs. Source: Eq. 1 and 2.
    """
    u0 = initial_potential(c_seq, u0)
    u_pre_seq, o_seq = np.empty(c_seq.shape, c_seq.dtype), np.empty(c_seq.shape, c_seq.dtype)
    u = u0
    for t in range(len(c_seq)):
        u_pre_seq[t] = p.tau * u + c_seq[t]  # Eq. (1)
        o_seq[t] = fire(u_pre_seq[t], p)
        u = reset(u_pre_seq[t], o_seq[t], p)
    return o_seq, LIFCache(u_pre_seq, o_seq, u0, p)


def lif_backward(
    do_seq: Array, cache: LIFCache, constants: bool = True, source_seq: Array | None = None
) -> LIFGrads:
    """Compute dL/dc, dL/du0 (and dL/dtau, dL/dv_th) by back-propagation through time.

        delta[t] = g_o[t] h[t] + delta[t+1] tau ((1 - o[t]) - u_pre[t] h[t])
        dL/dc[t] = delta[t]

    `do_seq` (T, ...) is g_o = dL/do, h the surrogate slope, delta = dL/du_pre, delta[T+1] = 0.
    Where the reset is detached, the bracket is 1 - o[t] alone; where it subtracts R, the bracket is
    1 - R h[t], or 1. `constants=False` leaves out dL/dtau and dL/dv_th, which cost two more passes.
    `source_seq` (T, ...) is what the loss depends on the potentials by directly (`potentials`): it
    is added to delta[t]. Source: Eq. 3, D3, R6.
    """
    u_pre_seq, o_seq, _, p = cache
    like("do_seq", do_seq, o_seq.shape, o_seq.dtype, "o_seq")
    h_seq = slopes(p.surrogate, u_pre_seq - p.v_th, p.v_th)
    delta_seq = np.empty(do_seq.shape, do_seq.dtype)
    du = np.zeros_like(cache.u0)  # dL/du[t] by way of step t+1; delta[T+1] = 0
    for t in reversed(range(len(do_seq))):
        # forward: u[t] = u_pre[t] (1 - o[t]), and o[t] is a function of u_pre[t] too
        bracket, by_o = reset_slopes(u_pre_seq[t], o_seq[t], p)
        if p.reset_gradient == "full":  # D3
            bracket = bracket + by_o * h_seq[t]
        delta_seq[t] = do_seq[t] * h_seq[t] + du * bracket  # Eq. (3)
        if source_seq is not None:
            delta_seq[t] += source_seq[t]
        # forward: u_pre[t] = tau u[t-1] + c[t]
        du = p.tau * delta_seq[t]
    if not constants:
        return LIFGrads(delta_seq, du, None, None)
    return LIFGrads(delta_seq, du, *constant_gradients(do_seq, h_seq, delta_seq, cache))


def constant_gradients(
    do_seq: Array, h_seq: Array, delta_seq: Array, cache: LIFCache
) -> tuple[float, float]:
    """Compute dL/dtau and dL/dv_th from the finished recursion of Eq. 3.

        dL/dtau = sum_t delta[t] u[t-1]
        dL/dv_th = -sum_t h[t] G[t]
        G[t] = g_o[t] - tau delta[t+1] u_pre[t]

    G is the whole gradient at o; where the reset is detached, it is g_o. Where the reset subtracts
    R, R stands for u_pre[t] in G, and if R is v_th, the potential falls with v_th at every spike:
    dL/dv_th has -sum_t tau delta[t+1] o[t] too. Source: Eq. 3, R1, R6.
    """
    u_pre_seq, o_seq, u0, p = cache
    u_seq = reset(u_pre_seq, o_seq, p)
    dtau = (delta_seq[0] * u0).sum() + (delta_seq[1:] * u_seq[:-1]).sum()  # Eq. (3)
    # o is a function of u_pre - v_th, so do/dv_th = -h; the reset carries it on to the next step
    do_total = do_seq.copy(order="C")
    if p.reset_gradient == "full":
        _, by_o_seq = reset_slopes(u_pre_seq[:-1], o_seq[:-1], p)
        do_total[:-1] += p.tau * delta_seq[1:] * by_o_seq
    dv_th = -(h_seq * do_total).sum()  # R1
    if p.reset == "subtract" and p.reset_amount is None:
        dv_th -= (p.tau * delta_seq[1:] * o_seq[:-1]).sum()  # R6
    return float(dtau), float(dv_th)
