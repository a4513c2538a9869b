"""Numba twin of `equations.linear` in float32, for layers large enough: as a 1x1 convolution.

Each element is summed in one order, block by block, so the bits do not depend on the number of
threads. Small layers and float64 are left to the equations.
"""

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations import linear as equations
from refsnn.equations.conv import Conv
from refsnn.equations.linear import LinearCache
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import like
from refsnn.kernels import dense, layout
from refsnn.kernels.simd import aligned, contiguous
from refsnn.kernels.threads import begin, share, take

LARGE = 1 << 22  # products, from which the convolution is faster than `einsum`
ROWS = 32  # rows of y per task, to which the bias is added
POINT = Conv()


@njit(nogil=True, cache=True, error_model="numpy")
def add_bias(tasks, own, b, y):  # type: ignore[no-untyped-def]
    """Add b to every row of y."""
    task = begin(tasks, own)
    while task >= 0:
        for n in range(task * ROWS, min((task + 1) * ROWS, y.shape[0])):
            for k in range(b.size):
                y[n, k] += b[k]
        task = take(tasks, own)


def is_large(x: Array, w: Array) -> bool:
    """Tell whether the kernels compute x (N, in) times w (in, out)."""
    return (
        x.dtype == w.dtype == np.float32 and x.ndim == w.ndim == 2 and x.size * w.shape[1] >= LARGE
    )


def product(x: Array, w: Array) -> Array:
    """Return x w, (N, out), for x (N, in) and w (in, out)."""
    images, y = contiguous(x)[:, None, None], aligned(len(x), 1, 1, w.shape[1])
    correlation = layout.forward_correlation((1, 1), (1, 1), POINT)
    dense.correlate(images, contiguous(w)[None, None], correlation, y)
    return y.reshape(len(x), -1)


def linear_forward(x: Array, w: Array, b: Array) -> tuple[Array, LinearCache]:
    """Do as `equations.linear.linear_forward`."""
    if not (isinstance(x, np.ndarray) and isinstance(w, np.ndarray) and is_large(x, w)):
        return equations.linear_forward(x, w, b)
    like("w", w, (x.shape[1], w.shape[1]), x.dtype, "x")
    like("b", b, w.shape[1:], x.dtype, "w")
    y = product(x, w)
    share(add_bias, -(-len(y) // ROWS), contiguous(b), y)
    return y, LinearCache(x, w)


def linear_backward(dy: Array, cache: LinearCache) -> tuple[Array, Array, Array]:
    """Do as `equations.linear.linear_backward`."""
    x, w = cache
    if not is_large(x, w):
        return equations.linear_backward(dy, cache)
    like("dy", dy, (len(x), w.shape[1]), x.dtype, "y")
    x, dy, dw = contiguous(x), contiguous(dy), empty((1, 1, *w.shape), w.dtype)
    dense.weight_gradient(x[:, None, None], dy[:, None, None], POINT, dw)
    return product(dy, w.T), dw[0, 0], dy.sum(axis=0)
