"""Memory layout: padded images, weights in panels, and which tap meets which pixel."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations.conv import Conv
from refsnn.equations.surrogate import Array
from refsnn.kernels.simd import LANES
from refsnn.kernels.threads import begin, share, take

SQUARE = 16  # side of the squares that are transposed at a time: a cache line of floats


class Span(NamedTuple):
    """A range of `size` channels, pixels or tiles from `first` on."""

    first: int
    size: int


class Window(NamedTuple):
    """The sizes of a convolution; not nested, as parallel loops do not take nested tuples."""

    height: int
    width: int
    c_in: int
    out_height: int
    out_width: int
    c_out: int
    kh: int
    kw: int
    sh: int  # stride
    sw: int
    top: int  # padding
    left: int


class Images(NamedTuple):
    """Images of one of two dtypes, so that loops are compiled once for both; the other has none."""

    spikes: Array  # (N or 0, H, W, C), uint8
    numbers: Array  # (N or 0, H, W, C), float32


def images_of(x: Array) -> Images:
    """Return x (N, H, W, C), uint8 or float32, in the form that the loops take."""
    is_spikes = x.dtype == np.uint8
    none = empty((0, *x.shape[1:]), np.float32 if is_spikes else np.uint8)
    return Images(x, none) if is_spikes else Images(none, x)


class Padded(NamedTuple):
    """The size of a padded image, and the rows and columns of padding before the image."""

    top: int  # below 0 where rows are cut off
    left: int
    height: int
    width: int


class Correlation(NamedTuple):
    """y[r0 + r dr, s0 + s ds] = sum over i, j of x[r sh + i - top, s sw + j - left] @ w[i, j]."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    before: tuple[int, int]  # top, left
    out: tuple[int, int]  # numbers of r and s
    first: tuple[int, int]  # r0, s0
    step: tuple[int, int]  # dr, ds

    def window(self, x: tuple[int, ...], c_out: int) -> Window:
        """Return the sizes for x of shape (N, H, W, C_in)."""
        (top, left), sizes = self.before, (x[1], x[2], x[3], *self.out, c_out)
        return Window(*sizes, *self.kernel, *self.stride, top, left)


def forward_correlation(out: tuple[int, int], kernel: tuple[int, int], p: Conv) -> Correlation:
    """Return the convolution itself as a correlation."""
    return Correlation(kernel, p.stride, p.padding, out, (0, 0), (1, 1))


class Residue(NamedTuple):
    """One axis of a convolution, restricted to one remainder modulo the stride.

    x's pixels `first + step n`, n < pixels, meet the taps `tap + step m`, m < taps, in y's pixels
    n + shift - m.
    """

    first: int
    step: int  # the stride
    pixels: int
    tap: int
    taps: int
    shift: int


def residues(size: int, kernel: int, stride: int, padding: int) -> list[Residue]:
    """List an axis's residues, as many as the stride.

    x's pixel r meets tap i in y's pixel (r + padding - i) / stride, where that is whole.
    """
    found = []
    for tap in range(stride):
        first = (tap - padding) % stride
        count, taps = -(-(size - first) // stride), -(-(kernel - tap) // stride)
        found.append(
            Residue(
                first, stride, max(count, 0), tap, max(taps, 0), (first + padding - tap) // stride
            )
        )
    return found


def input_correlations(
    size: tuple[int, ...], kernel: tuple[int, ...], p: Conv
) -> list[tuple[tuple[slice, slice], Correlation]]:
    """Return the input gradient as correlations of dy, each with its taps of w.

    A correlation uses its taps in reverse order. Pixels that no tap meets belong to none.
    """
    axes = [residues(*axis) for axis in zip(size, kernel, p.stride, p.padding, strict=True)]
    found = []
    for row in axes[0]:
        for column in axes[1]:
            pair = (row, column)
            if min(*(r.pixels for r in pair), *(r.taps for r in pair)) > 0:
                chosen = [slice(r.tap, None, s) for r, s in zip(pair, p.stride, strict=True)]
                correlation = Correlation(
                    (row.taps, column.taps),
                    (1, 1),
                    (row.taps - 1 - row.shift, column.taps - 1 - column.shift),
                    (row.pixels, column.pixels),
                    (row.first, column.first),
                    p.stride,
                )
                found.append(((chosen[0], chosen[1]), correlation))
    return found


@njit(cache=True, error_model="numpy")
def padded_of(window):  # type: ignore[no-untyped-def]
    """Return the size of the padded x."""
    height = (window.out_height - 1) * window.sh + window.kh
    width = (window.out_width - 1) * window.sw + window.kw
    return Padded(window.top, window.left, height, width)


@njit(cache=True, error_model="numpy")
def pad_image(x, padded, target, at):  # type: ignore[no-untyped-def]
    """Copy x (H, W, C) to target[at:], padded by zeros, or cut off, to its size there."""
    height, width, channels = x.shape
    line, row = x.reshape(height, width * channels), padded.width * channels
    begin, end = max(padded.left, 0), min(padded.left + width, padded.width)  # of x in the target
    for r in range(padded.height):
        start = at + r * row
        if r < padded.top or r - padded.top >= height or begin >= end:
            target[start : start + row] = 0
            continue
        target[start : start + begin * channels] = 0
        shift = start + padded.left * channels
        for c in range((begin - padded.left) * channels, (end - padded.left) * channels):
            target[shift + c] = line[r - padded.top, c]
        target[start + end * channels : start + row] = 0


@njit(nogil=True, cache=True, error_model="numpy")
def pack_panels(tasks, own, w, panel, packed):  # type: ignore[no-untyped-def]
    """Copy w (K, C_out) to panels (K, panel) of its columns, padded by zeros.

    The last panel has only LANES columns if those are enough.
    """
    depth, c_out = w.shape
    index = begin(tasks, own)
    while index >= 0:
        first = index * panel
        step = panel if c_out - first > LANES else LANES
        last = min(c_out, first + step)
        for k in range(depth):
            at = first * depth + k * step - first
            for c in range(first, last):
                packed[at + c] = w[k, c]
            for c in range(last, first + step):
                packed[at + c] = 0
        index = take(tasks, own)


def pack(w: Array, panel: int, packed: Array) -> None:
    """Do as `pack_panels`, whose tasks are the panels."""
    share(pack_panels, -(-w.shape[1] // panel), w, panel, packed)


def packed_columns(c_out: int, panel: int) -> int:
    """Return the number of columns of all panels together."""
    first = (c_out - 1) // panel * panel
    return first + (panel if c_out - first > LANES else LANES)


@njit(nogil=True, cache=True, error_model="numpy")
def transpose_squares(tasks, own, w, turned):  # type: ignore[no-untyped-def]
    """Copy w (K, A, B) to turned (K, B, A), a square of cache lines at a time."""
    taps, height, width = w.shape
    block = begin(tasks, own)
    while block >= 0:
        first, last = block * SQUARE, min((block + 1) * SQUARE, width)
        for k in range(taps):
            for top in range(0, height, SQUARE):
                for b in range(first, last):
                    for a in range(top, min(top + SQUARE, height)):
                        turned[k, b, a] = w[k, a, b]
        block = take(tasks, own)


def transpose(w: Array, turned: Array) -> None:
    """Do as `transpose_squares`, whose tasks are rows of squares."""
    share(transpose_squares, -(-w.shape[2] // SQUARE), w, turned)
