"""Numba twins of `equations.pool`, bit for bit: the windows' taps are added in the same order."""

from typing import Any

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations import pool as equations
from refsnn.equations.pool import AvgPool, AvgPoolCache, check_cotangent, pooled_shape
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import ndim
from refsnn.kernels.simd import contiguous
from refsnn.kernels.threads import begin, share, take


@njit(nogil=True, cache=True, error_model="numpy")
def forward_loop(tasks, own, x, kernel, stride, padding, y):  # type: ignore[no-untyped-def]
    """Write y (N, H', W', C), the means of x's windows."""
    _, height, width, channels = x.shape
    area = y.dtype.type(kernel * kernel)
    n = begin(tasks, own)
    while n >= 0:
        y[n] = 0
        for r in range(y.shape[1]):
            for s in range(y.shape[2]):
                for i in range(kernel):
                    for j in range(kernel):
                        row, column = r * stride + i - padding, s * stride + j - padding
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(channels):
                                y[n, r, s, c] += x[n, row, column, c]
                for c in range(channels):
                    y[n, r, s, c] /= area
        n = take(tasks, own)


@njit(nogil=True, cache=True, error_model="numpy")
def backward_loop(tasks, own, dy, kernel, stride, padding, dx):  # type: ignore[no-untyped-def]
    """Write dx (N, H, W, C): each window's pixels get an equal share of its dy."""
    _, height, width, channels = dx.shape
    area = dx.dtype.type(kernel * kernel)
    n = begin(tasks, own)
    while n >= 0:
        dx[n] = 0
        for i in range(kernel):
            for j in range(kernel):
                for r in range(dy.shape[1]):
                    for s in range(dy.shape[2]):
                        row, column = r * stride + i - padding, s * stride + j - padding
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(channels):
                                dx[n, row, column, c] += dy[n, r, s, c] / area
        n = take(tasks, own)


def mean_dtype(x: Array) -> Any:
    """Return the dtype of x's mean: float32 of spikes, which are uint8."""
    if isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim == 4:
        return np.dtype(np.float32)
    ndim("x", x, 4, "(N, H, W, C)")
    return x.dtype


@njit(nogil=True, cache=True, error_model="numpy")
def count_spikes(tasks, own, x, y):  # type: ignore[no-untyped-def]
    """Count in y (N, C) how many of the pixels of x (N, H W, C) fired."""
    n = begin(tasks, own)
    while n >= 0:
        y[n] = 0
        for pixel in range(x.shape[1]):
            for c in range(x.shape[2]):
                y[n, c] += x[n, pixel, c]
        n = take(tasks, own)


def global_avgpool_forward(x: Array) -> tuple[Array, tuple[int, ...]]:
    """Do as `equations.pool.global_avgpool_forward`; x may be spikes as uint8."""
    if mean_dtype(x) == x.dtype:
        return equations.global_avgpool_forward(x)
    images, height, width, channels = x.shape
    y = empty((images, channels), np.float32)
    pixels = contiguous(x).reshape(images, height * width, channels)
    share(count_spikes, images, pixels, y)
    return y / (height * width), x.shape


def avgpool_forward(x: Array, p: AvgPool) -> tuple[Array, AvgPoolCache]:
    """Do as `equations.pool.avgpool_forward`."""
    dtype = mean_dtype(x)
    y = empty(pooled_shape(x.shape, p), dtype)
    share(forward_loop, len(x), contiguous(x), p.kernel, p.stride, p.padding, y)
    return y, AvgPoolCache(x.shape, dtype, p)


def avgpool_backward(dy: Array, cache: AvgPoolCache) -> Array:
    """Do as `equations.pool.avgpool_backward`."""
    check_cotangent(dy, cache)
    dx = empty(cache.shape, dy.dtype)
    p = cache.p
    share(backward_loop, len(dx), contiguous(dy), p.kernel, p.stride, p.padding, dx)
    return dx
