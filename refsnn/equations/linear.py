"""Fully connected layer. x (N, in), w (in, out), b (out,)."""

from typing import NamedTuple

from refsnn.equations.surrogate import Array
from refsnn.equations.validate import ndim


class LinearCache(NamedTuple):
    x: Array  # (N, in)
    w: Array  # (in, out)


def linear_forward(x: Array, w: Array, b: Array) -> tuple[Array, LinearCache]:
    """y = x w + b, (N, out)."""
    ndim("x", x, 2, "(N, in)")
    if w.shape[0] != x.shape[1] or b.shape != w.shape[1:]:
        raise ValueError(f"w, b: got {w.shape} and {b.shape}, want ({x.shape[1]}, out) and (out,)")
    return x.dot(w) + b, LinearCache(x, w)


def linear_backward(dy: Array, cache: LinearCache) -> tuple[Array, Array, Array]:
    """(dx, dw, db)."""
    return dy.dot(cache.w.T), cache.x.T.dot(dy), dy.sum(axis=0)
