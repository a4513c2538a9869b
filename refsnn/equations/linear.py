"""Fully connected layer. x (N, in), w (in, out), b (out,).

`einsum` always sums in the same order; the bits of a BLAS product may depend on the number of
threads.
"""

from typing import NamedTuple

import numpy as np

from refsnn.equations.surrogate import Array
from refsnn.equations.validate import like, ndim


class LinearCache(NamedTuple):
    """The values that the backward pass needs."""

    x: Array  # (N, in)
    w: Array  # (in, out)


def linear_forward(x: Array, w: Array, b: Array) -> tuple[Array, LinearCache]:
    """Compute y = x w + b, (N, out)."""
    ndim("x", x, 2, "(N, in)")
    ndim("w", w, 2, "(in, out)")
    like("w", w, (x.shape[1], w.shape[1]), x.dtype, "x")
    like("b", b, w.shape[1:], x.dtype, "w")
    return np.einsum("ni,io->no", x, w) + b, LinearCache(x, w)


def linear_backward(dy: Array, cache: LinearCache) -> tuple[Array, Array, Array]:
    """Compute the gradients (dx, dw, db) from dy = dL/dy, (N, out).

        dx = dy w^T,  dw = x^T dy,  db = sum_n dy[n]

    forward: y = x w + b.
    """
    like("dy", dy, (len(cache.x), cache.w.shape[1]), cache.x.dtype, "y")
    dx = np.einsum("no,io->ni", dy, cache.w)
    dw = np.einsum("ni,no->io", cache.x, dy)
    return dx, dw, dy.sum(axis=0)
