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
    """The values that the backward pass needs."""

    shape: tuple[int, ...]  # (N, H, W, C) of x
    dtype: Any  # of x
    p: AvgPool


def pooled_shape(shape: tuple[int, ...], p: AvgPool) -> tuple[int, int, int, int]:
    """Return (N, H', W', C) of the pooled x of this shape."""
    height, width = output_size(shape[1:3], (p.kernel, p.kernel), p.conv)
    return shape[0], height, width, shape[3]


def check_cotangent(dy: Array, cache: AvgPoolCache) -> None:
    """Check that `dy` has the shape and dtype of the forward pass's result."""
    like("dy", dy, pooled_shape(cache.shape, cache.p), cache.dtype, "y")


def avgpool_forward(x: Array, p: AvgPool) -> tuple[Array, AvgPoolCache]:
    """Average every window of k x k pixels of x (N, H, W, C); returns y (N, H', W', C).

        y[n, r, s] = 1/k^2 sum_{i,j} x[n, r stride + i - padding, s stride + j - padding]

    Outside the image x is 0. Taps are added in reading order. Source: R4.
    """
    ndim("x", x, 4, "(N, H, W, C)")
    y = np.zeros(pooled_shape(x.shape, p), x.dtype)
    x_pad = pad(x, p.conv)
    for _, _, rows, columns in taps((p.kernel, p.kernel), y.shape[1:3], p.conv):
        y += x_pad[:, rows, columns]
    return y / p.kernel**2, AvgPoolCache(x.shape, x.dtype, p)  # R4


def avgpool_backward(dy: Array, cache: AvgPoolCache) -> Array:
    """Compute dL/dx, (N, H, W, C); forward: a pixel counted 1/k^2 in each window that holds it."""
    check_cotangent(dy, cache)
    (n, height, width, channels), _, p = cache
    edge = p.padding
    dx_pad = np.zeros((n, height + 2 * edge, width + 2 * edge, channels), dy.dtype)
    share = dy / p.kernel**2
    for _, _, rows, columns in taps((p.kernel, p.kernel), dy.shape[1:3], p.conv):
        dx_pad[:, rows, columns] += share
    return np.ascontiguousarray(dx_pad[:, edge : edge + height, edge : edge + width])


def global_avgpool_forward(x: Array) -> tuple[Array, tuple[int, ...]]:
    """Average over all pixels: (N, H, W, C) to (N, C); the cache is the shape of x."""
    ndim("x", x, 4, "(N, H, W, C)")
    return x.mean(axis=(1, 2)), x.shape


def global_avgpool_backward(dy: Array, shape: tuple[int, ...]) -> Array:
    """Compute dL/dx, (N, H, W, C), of this shape; forward: every pixel counted 1/(H W)."""
    return np.broadcast_to(dy[:, None, None, :] / (shape[1] * shape[2]), shape).copy()
