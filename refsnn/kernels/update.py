"""Numba twins of `equations.update`, bit for bit: the same operations, in one pass over memory."""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations import update as equations
from refsnn.equations.surrogate import Array
from refsnn.equations.update import BETA1, BETA2, EPS
from refsnn.kernels.simd import contiguous
from refsnn.kernels.threads import begin, share, take

BLOCK = 1 << 14  # elements per task


class AdamW(NamedTuple):
    """The constants of a step of AdamW in the parameters' precision."""

    beta1: Any
    rest1: Any  # 1 - beta1
    beta2: Any
    rest2: Any
    whole1: Any  # 1 - beta1^i
    whole2: Any
    eps: Any
    keep: Any  # 1 - lr decay
    lr: Any


@njit(nogil=True, cache=True, error_model="numpy")
def sgd_loop(tasks, own, w, g, v, numbers, new_w, new_v):  # type: ignore[no-untyped-def]
    """Write the new parameters and velocities, all flat."""
    lr, momentum, decay = numbers
    block = begin(tasks, own)
    while block >= 0:
        for k in range(block * BLOCK, min((block + 1) * BLOCK, w.size)):
            new_v[k] = momentum * v[k] + (g[k] + decay * w[k])
            new_w[k] = w[k] - lr * new_v[k]
        block = take(tasks, own)


@njit(nogil=True, cache=True, error_model="numpy")
def adamw_loop(tasks, own, w, g, moments, numbers, new_w, new_moments):  # type: ignore[no-untyped-def]
    """Write the new parameters and moments, all flat."""
    (mean, square), (new_mean, new_square) = moments, new_moments
    beta1, rest1, beta2, rest2, whole1, whole2, eps, keep, lr = numbers
    block = begin(tasks, own)
    while block >= 0:
        for k in range(block * BLOCK, min((block + 1) * BLOCK, w.size)):
            m = beta1 * mean[k] + rest1 * g[k]
            s = beta2 * square[k] + rest2 * (g[k] * g[k])
            direction = (m / whole1) / (math.sqrt(s / whole2) + eps)
            new_w[k] = w[k] * keep - lr * direction
            new_mean[k] = m
            new_square[k] = s
        block = take(tasks, own)


def known(arrays: tuple[Array, ...], numbers: tuple[Any, ...]) -> bool:
    """Tell whether the loops compute these as NumPy does.

    They do for floats of one shape and dtype, and Python numbers, which take on that dtype.
    """
    shape, dtype = arrays[0].shape, arrays[0].dtype
    return (
        dtype in (np.float32, np.float64)
        and all(x.shape == shape and x.dtype == dtype for x in arrays)
        and all(type(x) in (int, float) for x in numbers)
    )


def sgd_update(
    w: Array, g: Array, v: Array, lr: float, momentum: float, decay: float
) -> tuple[Array, Array]:
    """Do as `equations.update.sgd_update`, which is called for other shapes and dtypes."""
    if not known((w, g, v), (lr, momentum, decay)):
        return equations.sgd_update(w, g, v, lr, momentum, decay)
    numbers = tuple(w.dtype.type(x) for x in (lr, momentum, decay))
    new = empty(w.shape, w.dtype), empty(w.shape, w.dtype)
    flat = (contiguous(x).reshape(-1) for x in (w, g, v))
    share(sgd_loop, -(-w.size // BLOCK), *flat, numbers, *(x.reshape(-1) for x in new))
    return new


def adamw_update(
    w: Array, g: Array, mean: Array, square: Array, i: int, lr: float, decay: float
) -> tuple[Array, Array, Array]:
    """Do as `equations.update.adamw_update`, which is called for other shapes and dtypes."""
    if not known((w, g, mean, square), (i, lr, decay)):
        return equations.adamw_update(w, g, mean, square, i, lr, decay)
    constants = AdamW(
        beta1=BETA1,
        rest1=1 - BETA1,
        beta2=BETA2,
        rest2=1 - BETA2,
        whole1=1 - BETA1**i,
        whole2=1 - BETA2**i,
        eps=EPS,
        keep=1 - lr * decay,
        lr=lr,
    )
    numbers = AdamW(*(w.dtype.type(x) for x in constants))
    new = empty(w.shape, w.dtype), empty(w.shape, w.dtype), empty(w.shape, w.dtype)
    new_w, *new_moments = (x.reshape(-1) for x in new)
    moments = contiguous(mean).reshape(-1), contiguous(square).reshape(-1)
    flat = contiguous(w).reshape(-1), contiguous(g).reshape(-1)
    share(adamw_loop, -(-w.size // BLOCK), *flat, moments, numbers, new_w, tuple(new_moments))
    return new
