"""Where things stand: padded images, weights in blocks of columns, which tap meets which pixel."""

from typing import NamedTuple

from numba import njit, prange

from refsnn.equations.conv import Conv
from refsnn.kernels.simd import LANES

SQUARE = 16  # the side of what is transposed at a time: a cache line of floats


class Correlation(NamedTuple):
    """y[r0 + r dr, s0 + s ds] = sum over i, j of x[r sh + i - top, s sw + j - left] @ w[i, j]."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    before: tuple[int, int]  # top, left
    out: tuple[int, int]  # how many r and s
    first: tuple[int, int]  # r0, s0
    step: tuple[int, int]  # dr, ds

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the padded x."""
        height, width = (
            (n - 1) * s + k for n, s, k in zip(self.out, self.stride, self.kernel, strict=True)
        )
        return height, width


def forward_correlation(out: tuple[int, int], kernel: tuple[int, int], p: Conv) -> Correlation:
    return Correlation(kernel, p.stride, p.padding, out, (0, 0), (1, 1))


class Residue(NamedTuple):
    """One axis of a convolution, restricted to x's pixels `first + step n`, n < pixels, and the
    taps `tap + step m`, m < taps, that meet them: tap m meets n in y's pixel n + shift - m."""

    first: int
    pixels: int
    tap: int
    taps: int
    shift: int


def residues(size: int, kernel: int, stride: int, padding: int) -> list[Residue]:
    """x's pixel r meets tap i in y's pixel (r + padding - i) / stride, where that is whole."""
    found = []
    for tap in range(stride):
        first = (tap - padding) % stride
        count, taps = -(-(size - first) // stride), -(-(kernel - tap) // stride)
        found.append(
            Residue(first, max(count, 0), tap, max(taps, 0), (first + padding - tap) // stride)
        )
    return found


def input_correlations(
    size: tuple[int, ...], kernel: tuple[int, ...], p: Conv
) -> list[tuple[tuple[slice, slice], Correlation]]:
    """The input gradient as correlations of dy, each with the taps of w that it takes, which
    stand in it from last to first; pixels that no tap meets belong to none."""
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
def pad_image(x, top, left, rows, columns, target, at):  # type: ignore[no-untyped-def]
    """Copy x (H, W, C) to target[at:] (rows, columns, C), zeros around it."""
    height, width, channels = x.shape
    line = x.reshape(height, width * channels)
    begin, end = max(left, 0), min(left + width, columns)  # of x's columns, in the target's
    for r in range(rows):
        start = at + r * columns * channels
        if r < top or r - top >= height or begin >= end:
            target[start : start + columns * channels] = 0
            continue
        target[start : start + begin * channels] = 0
        shift = start + left * channels
        for c in range((begin - left) * channels, (end - left) * channels):
            target[shift + c] = line[r - top, c]
        target[start + end * channels : start + columns * channels] = 0


@njit(parallel=True, cache=True, error_model="numpy")
def pack(w, width, packed):  # type: ignore[no-untyped-def]
    """w (K, C) -> blocks of columns (K, width), zero-padded; a last block of LANES is narrow."""
    depth, columns = w.shape
    for block in prange((columns + width - 1) // width):
        first = block * width
        step = width if columns - first > LANES else LANES
        last = min(columns, first + step)
        for k in range(depth):
            at = first * depth + k * step - first
            for c in range(first, last):
                packed[at + c] = w[k, c]
            for c in range(last, first + step):
                packed[at + c] = 0


def packed_columns(columns: int, width: int) -> int:
    """Columns of all blocks together."""
    first = (columns - 1) // width * width
    return first + (width if columns - first > LANES else LANES)


@njit(parallel=True, cache=True, error_model="numpy")
def transpose(w, turned):  # type: ignore[no-untyped-def]
    """w (K, A, B) -> turned (K, B, A), a square of cache lines at a time."""
    taps, height, width = w.shape
    for block in prange((width + SQUARE - 1) // SQUARE):
        first, last = block * SQUARE, min((block + 1) * SQUARE, width)
        for k in range(taps):
            for top in range(0, height, SQUARE):
                for b in range(first, last):
                    for a in range(top, min(top + SQUARE, height)):
                        turned[k, b, a] = w[k, a, b]
