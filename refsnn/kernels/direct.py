"""Direct convolution in any precision.

Channels are innermost, so that the compiler vectorises over them without reordering any sum. Zero
inputs are skipped, since most inputs are spikes (so 0 times infinity is 0 here, NaN in NumPy).
Every output element belongs to one task and is summed in one order, so the bits do not depend on
the number of threads.

Difference from the NumPy twin: both are sums of the same n products, each within n eps sum |x||w|
of the exact one (Higham, Accuracy and Stability, 2nd ed., eq. 3.5), so they differ by at most
2 n eps sum |x||w|.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.conv import Conv
from refsnn.equations.surrogate import Array
from refsnn.kernels.simd import contiguous
from refsnn.kernels.threads import begin, share, take

CHANNELS = 16  # input channels per task of the weight gradient


class Axis(NamedTuple):
    """An axis: for y's pixel r, tap i reads x's pixel (r up + sign (i - padding)) / down, if whole.

    The convolution is up = stride, down = 1, sign = 1; its transpose, the input gradient, is
    up = 1, down = stride, sign = -1.
    """

    up: int
    down: int
    padding: int
    sign: int


@njit(cache=True, error_model="numpy")
def add_product(acc, values, matrix):  # type: ignore[no-untyped-def]
    """Add values @ matrix to acc, four non-zero values at a time."""
    waiting = i0 = i1 = i2 = 0
    for i in range(values.shape[0]):
        if values[i] == 0:
            continue
        if waiting < 3:
            i0, i1, i2 = i1, i2, i
            waiting += 1
            continue
        a, b, c, d = values[i0], values[i1], values[i2], values[i]
        for k in range(acc.shape[0]):
            acc[k] += (a * matrix[i0, k] + b * matrix[i1, k]) + (
                c * matrix[i2, k] + d * matrix[i, k]
            )
        waiting = 0
    for _ in range(waiting):
        for k in range(acc.shape[0]):
            acc[k] += values[i2] * matrix[i2, k]
        i1, i2 = i0, i1


@njit(cache=True, error_model="numpy")
def gather_row(x, w, row, rows, columns, y):  # type: ignore[no-untyped-def]
    """Write one row of one image: y (W', C') from x (H, W, C). See `gather`."""
    for column in range(y.shape[0]):
        acc = y[column]
        for k in range(acc.shape[0]):
            acc[k] = 0
        for i in range(w.shape[0]):
            r = row * rows.up + rows.sign * (i - rows.padding)
            if r < 0 or r % rows.down != 0 or r // rows.down >= x.shape[0]:
                continue
            for j in range(w.shape[1]):
                s = column * columns.up + columns.sign * (j - columns.padding)
                if s >= 0 and s % columns.down == 0 and s // columns.down < x.shape[1]:
                    add_product(acc, x[r // rows.down, s // columns.down], w[i, j])


@njit(nogil=True, cache=True, error_model="numpy")
def gather(tasks, own, x, w, rows, columns, y):  # type: ignore[no-untyped-def]
    """Write y[n, r, s], the sum over all taps of the pixel of x under it times its weights.

    `rows` and `columns` are of type Axis.
    """
    height = y.shape[1]
    task = begin(tasks, own)
    while task >= 0:
        n, row = task // height, task % height
        gather_row(x[n], w, row, rows, columns, y[n, row])
        task = take(tasks, own)


@njit(cache=True, error_model="numpy")
def tap_gradient(x, dy, tap, first, stride, padding, dw):  # type: ignore[no-untyped-def]
    """Write dw (channels, C_out) of one tap and the input channels from `first` on.

    Each image is summed separately first, which keeps rounding errors low.
    """
    (i, j), (channels, c_out) = tap, dw.shape
    acc = np.empty_like(dw)
    for c in range(channels):
        for k in range(c_out):
            dw[c, k] = 0
    for n in range(x.shape[0]):
        acc[:] = 0
        for r in range(dy.shape[1]):
            row = r * stride[0] + i - padding[0]
            if row < 0 or row >= x.shape[1]:
                continue
            for s in range(dy.shape[2]):
                column = s * stride[1] + j - padding[1]
                if column < 0 or column >= x.shape[2]:
                    continue
                for c in range(channels):
                    value = x[n, row, column, first + c]
                    if value != 0:
                        for k in range(c_out):
                            acc[c, k] += value * dy[n, r, s, k]
        for c in range(channels):
            for k in range(c_out):
                dw[c, k] += acc[c, k]


@njit(nogil=True, cache=True, error_model="numpy")
def sum_taps(tasks, own, x, dy, stride, padding, dw):  # type: ignore[no-untyped-def]
    """Write dw; each task owns one tap and up to CHANNELS input channels of it."""
    kw, c_in = dw.shape[1:3]
    blocks = (c_in + CHANNELS - 1) // CHANNELS
    task = begin(tasks, own)
    while task >= 0:
        i, j = task // blocks // kw, task // blocks % kw
        first = task % blocks * CHANNELS
        last = min(first + CHANNELS, c_in)
        tap_gradient(x, dy, (i, j), first, stride, padding, dw[i, j, first:last])
        task = take(tasks, own)


def forward(x: Array, w: Array, p: Conv, y: Array) -> None:
    """Write y."""
    rows, columns = (Axis(step, 1, pad, 1) for step, pad in zip(p.stride, p.padding, strict=True))
    images, weights = contiguous(x), contiguous(w)
    share(gather, y.shape[0] * y.shape[1], images, weights, rows, columns, y)


def input_gradient(dy: Array, w: Array, p: Conv, dx: Array) -> None:
    """Write dx."""
    w_t = contiguous(w.swapaxes(2, 3))
    rows, columns = (Axis(1, step, pad, -1) for step, pad in zip(p.stride, p.padding, strict=True))
    images = contiguous(dy)
    share(gather, dx.shape[0] * dx.shape[1], images, w_t, rows, columns, dx)


def weight_gradient(x: Array, dy: Array, p: Conv, dw: Array) -> None:
    """Write dw."""
    kh, kw, c_in, _ = dw.shape
    images, cotangent = contiguous(x), contiguous(dy)
    tasks = kh * kw * -(-c_in // CHANNELS)
    share(sum_taps, tasks, images, cotangent, p.stride, p.padding, dw)
