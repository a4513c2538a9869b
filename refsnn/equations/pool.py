"""Average pooling and global average pooling. x (N, H, W, C)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refsnn.equations.conv import Conv, output_size, pad, taps
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import as_ints, like, ndim, whole


@dataclass(frozen=True)
class AvgPool:
    """A square window of `kernel` pixels; padding counts as zeros in the mean (R4)."""

    kernel: int = 2
    stride: int = 2
    padding: int = 0

    def __post_init__(self) -> None:
        whole("kernel", self.kernel, 1)
        whole("stride", self.stride, 1)
        whole("padding", self.padding, 0)
        as_ints(self, "kernel", "stride", "padding")
        if self.padding > self.kernel // 2:
            raise ValueError(f"padding: got {self.padding}, want 0 to {self.kernel // 2}")

    @property
    def conv(self) -> Conv:
        return Conv((self.stride,) * 2, (self.padding,) * 2)


class AvgPoolCache(NamedTuple):
    shape: tuple[int, ...]  # (N, H, W, C) of x
    dtype: Any  # of x
    p: AvgPool


def pooled_shape(shape: tuple[int, ...], p: AvgPool) -> tuple[int, int, int, int]:
    """(N, H', W', C) of the pooled x of this shape."""
    height, width = output_size(shape[1:3], (p.kernel, p.kernel), p.conv)
    return shape[0], height, width, shape[3]


def check_cotangent(dy: Array, cache: AvgPoolCache) -> None:
    like("dy", dy, pooled_shape(cache.shape, cache.p), cache.dtype, "y")


def avgpool_forward(x: Array, p: AvgPool) -> tuple[Array, AvgPoolCache]:
    """y[n, r, s] = mean of the window of x at (r, s); taps are added in reading order."""
    ndim("x", x, 4, "(N, H, W, C)")
    y = np.zeros(pooled_shape(x.shape, p), x.dtype)
    x_pad = pad(x, p.conv)
    for _, _, rows, columns in taps((p.kernel, p.kernel), y.shape[1:3], p.conv):
        y += x_pad[:, rows, columns]
    return y / p.kernel**2, AvgPoolCache(x.shape, x.dtype, p)  # R4


def avgpool_backward(dy: Array, cache: AvgPoolCache) -> Array:
    """dx; forward: each pixel of x went into every window that holds it, divided by k^2."""
    check_cotangent(dy, cache)
    (n, height, width, channels), _, p = cache
    edge = p.padding
    dx_pad = np.zeros((n, height + 2 * edge, width + 2 * edge, channels), dy.dtype)
    share = dy / p.kernel**2
    for _, _, rows, columns in taps((p.kernel, p.kernel), dy.shape[1:3], p.conv):
        dx_pad[:, rows, columns] += share
    return np.ascontiguousarray(dx_pad[:, edge : edge + height, edge : edge + width])


def global_avgpool_forward(x: Array) -> tuple[Array, tuple[int, ...]]:
    """(N, H, W, C) -> (N, C); the cache is the shape of x."""
    ndim("x", x, 4, "(N, H, W, C)")
    return x.mean(axis=(1, 2)), x.shape


def global_avgpool_backward(dy: Array, shape: tuple[int, ...]) -> Array:
    """dx; forward: every pixel counted 1/(H W)."""
    return np.broadcast_to(dy[:, None, None, :] / (shape[1] * shape[2]), shape).copy()
