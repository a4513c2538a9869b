"""Two-dimensional convolution without bias: a cross-correlation, as usual in deep learning.

Shapes: x (N, H, W, C_in), w (kh, kw, C_in, C_out), y (N, H', W', C_out) with
H' = (H + 2 ph - kh) // sh + 1, stride (sh, sw), zero padding (ph, pw). It is a sum over the
kernel's taps, each a matrix product by BLAS, whose last bits may depend on its number of threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refsnn.equations.surrogate import Array
from refsnn.equations.validate import as_ints, like, ndim, whole


@dataclass(frozen=True)
class Conv:
    """Stride and zero padding, (rows, columns), in pixels."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for name, least in (("stride", 1), ("padding", 0)):
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"{name}: got {pair!r}, want a pair (rows, columns)")
            for value in pair:
                whole(name, value, least)
        as_ints(self, "stride", "padding")


class ConvCache(NamedTuple):
    """The values that the backward pass needs."""

    x: Array  # (N, H, W, C_in)
    w: Array  # (kh, kw, C_in, C_out)
    p: Conv


def output_shape(x: Array, w: Array, p: Conv) -> tuple[int, int, int, int]:
    """Return (N, H', W', C_out); TypeError or ValueError where `x` and `w` do not fit."""
    ndim("x", x, 4, "(N, H, W, C_in)")
    ndim("w", w, 4, "(kh, kw, C_in, C_out)")
    if x.dtype != w.dtype:
        raise TypeError(f"w: got dtype {w.dtype}, want {x.dtype} like x")
    if x.shape[3] != w.shape[2]:
        raise ValueError(f"w: got {w.shape[2]} input channels, want {x.shape[3]} like x")
    height, width = output_size(x.shape[1:3], w.shape[:2], p)
    return x.shape[0], height, width, w.shape[3]


def output_size(size: tuple[int, ...], kernel: tuple[int, ...], p: Conv) -> tuple[int, int]:
    """Return (H', W'); ValueError where the image is smaller than the window."""
    height, width = (
        (n + 2 * pad - k) // s + 1
        for n, k, s, pad in zip(size, kernel, p.stride, p.padding, strict=True)
    )
    if height < 1 or width < 1:
        raise ValueError(
            f"x: got {size} pixels with padding {p.padding}, want at least the window's {kernel}"
        )
    return height, width


def check_cotangent(dy: Array, cache: ConvCache) -> None:
    """Check that `dy` has the shape and dtype of the forward pass's result."""
    like("dy", dy, output_shape(*cache), cache.x.dtype, "y")


def taps(
    kernel: tuple[int, ...], out: tuple[int, ...], p: Conv
) -> Iterator[tuple[int, int, slice, slice]]:
    """Yield, for each tap (i, j), the rows and columns of the padded input that it meets."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i, i + p.stride[0] * out[0], p.stride[0])
            columns = slice(j, j + p.stride[1] * out[1], p.stride[1])
            yield i, j, rows, columns


def pad(x: Array, p: Conv) -> Array:
    """Pad the images with zeros."""
    return np.pad(x, ((0, 0), (p.padding[0],) * 2, (p.padding[1],) * 2, (0, 0)))


def conv_forward(x: Array, w: Array, p: Conv) -> tuple[Array, ConvCache]:
    """Convolve the images x (N, H, W, C_in) with w (kh, kw, C_in, C_out).

        y[n, r, s] = sum_{i,j} x[n, r sh + i - ph, s sw + j - pw] w[i, j]

    Each term is a row of C_in numbers times a matrix; outside the image x is 0.
    """
    y = np.zeros(output_shape(x, w, p), x.dtype)
    x_pad = pad(x, p)
    for i, j, rows, columns in taps(w.shape, y.shape[1:3], p):
        y += flat(x_pad[:, rows, columns]).dot(w[i, j]).reshape(y.shape)
    return y, ConvCache(x, w, p)


def conv_input_gradient(dy: Array, cache: ConvCache) -> Array:
    """Compute dL/dx, (N, H, W, C_in), from dy = dL/dy, (N, H', W', C_out).

        dx[n, r sh + i - ph, s sw + j - pw] += dy[n, r, s] w[i, j]^T   for all r, s, i, j

    forward: each tap read x_pad[rows, columns] and multiplied it by w[i, j].
    """
    check_cotangent(dy, cache)
    x, w, p = cache
    dx_pad = np.zeros_like(pad(x, p))
    for i, j, rows, columns in taps(w.shape, dy.shape[1:3], p):
        target = dx_pad[:, rows, columns]
        target += flat(dy).dot(w[i, j].T).reshape(target.shape)
    (ph, pw), (_, height, width, _) = p.padding, x.shape
    return np.ascontiguousarray(dx_pad[:, ph : ph + height, pw : pw + width])


def conv_weight_gradient(dy: Array, cache: ConvCache) -> Array:
    """Compute dL/dw, (kh, kw, C_in, C_out), from dy = dL/dy, (N, H', W', C_out).

        dw[i, j] = sum_{n,r,s} x[n, r sh + i - ph, s sw + j - pw]^T dy[n, r, s]

    forward: w[i, j] met every pixel of x_pad[rows, columns].
    """
    check_cotangent(dy, cache)
    x, w, p = cache
    dw, x_pad = np.empty_like(w), pad(x, p)
    for i, j, rows, columns in taps(w.shape, dy.shape[1:3], p):
        dw[i, j] = flat(x_pad[:, rows, columns]).T.dot(flat(dy))
    return dw


def flat(x: Array) -> Array:
    """Return images as a matrix (pixels, channels)."""
    return x.reshape(-1, x.shape[-1])
