"""Numba twin of `equations.lif`, bit for bit: the same operations in the same order.

Each task is a range of neurons over all steps. In float64 the surrogate's slope is computed
by NumPy as in `equations`, since libraries differ in the last bit of tanh; in float32 by `slopes`,
whose tanh differs by up to 4 eps.
"""

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations import lif as equations
from refsnn.equations.lif import LIF, LIFCache, LIFGrads, initial_potential
from refsnn.equations.surrogate import Array
from refsnn.equations.surrogate import slopes as equations_slopes
from refsnn.equations.validate import like
from refsnn.kernels.neuron import neuron_of
from refsnn.kernels.norm_blocks import flat
from refsnn.kernels.simd import LANES, aligned, contiguous, whole_vectors
from refsnn.kernels.slopes import SURROGATES, slope_at, slope_of
from refsnn.kernels.threads import begin, share, take
from refsnn.kernels.vector import load, splat, store

SLOPES = 1 << 14  # per task
BLOCK = 1024  # neurons per task: u stays in the first-level cache


@njit(nogil=True, cache=True, error_model="numpy")
def forward_loop(tasks, own, c_seq, u0, neuron, u_pre_seq, o_seq):  # type: ignore[no-untyped-def]
    """Write u_pre and o (T, neurons), Eq. 1 and 2."""
    steps, count = c_seq.shape
    tau, ceiling, subtract, amount = neuron.tau, neuron.ceiling, neuron.subtract, neuron.amount
    one, zero = u0.dtype.type(1), u0.dtype.type(0)
    block = begin(tasks, own)
    while block >= 0:
        first, last = block * BLOCK, min((block + 1) * BLOCK, count)
        u = u0[first:last].copy()
        for t in range(steps):
            for m in range(last - first):
                u_pre = tau * u[m] + c_seq[t, first + m]
                o = one if u_pre > ceiling else zero
                u_pre_seq[t, first + m] = u_pre
                o_seq[t, first + m] = o
                u[m] = u_pre - amount * o if subtract else u_pre * (one - o)
        block = take(tasks, own)


@njit(nogil=True, cache=True, error_model="numpy")
def backward_loop(  # type: ignore[no-untyped-def]
    tasks, own, do_seq, h_seq, u_pre_seq, o_seq, source_seq, neuron, delta_seq, du0
):
    """Write delta (T, neurons), Eq. 3, and tau delta[0] into du0, which holds zeros before.

    `source_seq` (T, neurons), or without steps, is added to delta.
    """
    steps, count = do_seq.shape
    tau, detach, subtract, amount = neuron.tau, neuron.detach, neuron.subtract, neuron.amount
    one = du0.dtype.type(1)
    block = begin(tasks, own)
    while block >= 0:
        first, last = block * BLOCK, min((block + 1) * BLOCK, count)
        for t in range(steps - 1, -1, -1):
            for m in range(first, last):
                bracket = one if subtract else one - o_seq[t, m]
                if not detach:
                    bracket -= (amount if subtract else u_pre_seq[t, m]) * h_seq[t, m]
                delta = do_seq[t, m] * h_seq[t, m] + du0[m] * bracket
                if len(source_seq):
                    delta += source_seq[t, m]
                delta_seq[t, m] = delta
                du0[m] = tau * delta
        block = take(tasks, own)


@njit(nogil=True, cache=True, error_model="numpy")
def slope_tasks(tasks, own, u_pre, v_th, slope, h):  # type: ignore[no-untyped-def]
    """Write Eq. 4 for potentials, whole vectors of them."""
    threshold = splat(v_th)
    task = begin(tasks, own)
    while task >= 0:
        for m in range(task * SLOPES, min((task + 1) * SLOPES, u_pre.size), LANES):
            store(h, m, slope_at(slope, load(u_pre, m) - threshold))
        task = take(tasks, own)


def lif_forward(c_seq: Array, u0: Array | None, p: LIF) -> tuple[Array, LIFCache]:
    """Do as `equations.lif.lif_forward`, which is called for smooth neurons and other classes."""
    if p.smooth or type(p) is not LIF:
        return equations.lif_forward(c_seq, u0, p)
    u0 = initial_potential(c_seq, u0)
    u_pre_seq, o_seq = empty(c_seq.shape, c_seq.dtype), empty(c_seq.shape, c_seq.dtype)
    share(
        forward_loop,
        -(-u0.size // BLOCK),
        rows(c_seq),
        contiguous(u0).reshape(-1),
        neuron_of(p, c_seq.dtype.type),
        rows(u_pre_seq),
        rows(o_seq),
    )
    return o_seq, LIFCache(u_pre_seq, o_seq, u0, p)


def lif_backward(
    do_seq: Array, cache: LIFCache, constants: bool = True, source_seq: Array | None = None
) -> LIFGrads:
    """Do as `equations.lif.lif_backward`."""
    u_pre_seq, o_seq, u0, p = cache
    if type(p) is not LIF:
        return equations.lif_backward(do_seq, cache, constants, source_seq)
    like("do_seq", do_seq, o_seq.shape, o_seq.dtype, "o_seq")
    h_seq = slopes_of(u_pre_seq, p, p.v_th)
    delta_seq, du0 = empty(do_seq.shape, do_seq.dtype), np.zeros(u0.shape, u0.dtype)
    share(
        backward_loop,
        -(-u0.size // BLOCK),
        rows(do_seq),
        rows(h_seq),
        rows(u_pre_seq),
        rows(o_seq),
        np.zeros((0, 0), do_seq.dtype) if source_seq is None else rows(source_seq),
        neuron_of(p, do_seq.dtype.type),
        rows(delta_seq),
        du0.reshape(-1),
    )
    if not constants:
        return LIFGrads(delta_seq, du0, None, None)
    constant = equations.constant_gradients(do_seq, h_seq, delta_seq, cache)
    return LIFGrads(delta_seq, du0, *constant)


def slopes_of(u_pre_seq: Array, p: LIF, v_th: float) -> Array:
    """Return the surrogate's slopes (Eq. 4) at potentials of any shape, for this threshold."""
    if u_pre_seq.dtype != np.float32 or type(p.surrogate) not in SURROGATES:
        return equations_slopes(p.surrogate, u_pre_seq - v_th, v_th)
    width = whole_vectors(u_pre_seq.size)
    given, h = flat(u_pre_seq[None], width), aligned(width)
    share(slope_tasks, -(-width // SLOPES), given, np.float32(v_th), slope_of(p, v_th), h)
    return h[: u_pre_seq.size].reshape(u_pre_seq.shape)


def rows(x_seq: Array) -> Array:
    """Return x_seq as (T, neurons), a view if it is contiguous."""
    return contiguous(x_seq).reshape(len(x_seq), -1)
