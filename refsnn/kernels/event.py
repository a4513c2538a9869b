"""Event-driven convolution in float32: a spike adds its row of weights, silence costs nothing.

Forward, the spikes of a window are listed and their rows of the weights summed; in the
weight gradient, the pixels at which a channel fired are listed and their rows of dy
summed. Only for inputs of zeros and ones, as uint8. A weight that is not finite is not met
where its input is silent, unlike in a product with 0.
"""

import numpy as np
from numba import get_num_threads, get_thread_id, njit, prange
from numpy import empty

from refsnn.equations.conv import Conv
from refsnn.equations.surrogate import Array
from refsnn.kernels.layout import Correlation, Residue, pack, residues
from refsnn.kernels.simd import LANES, add_rows1, add_rows2, add_rows4, aligned

CHUNK = 1 << 17  # floats of dy, a block wide, that the lists of a weight gradient point into
MOST = 16  # channels of a task of the weight gradient
PIXELS = 256  # of y, a task: each block of the weights is read once for so many
CACHE = 3 << 15  # bytes of weights that a task works with at a time


def width_of(columns: int) -> int:
    """Of a block: so many columns of the weights stay in the second-level cache."""
    return LANES * (1 if columns <= LANES else 2 if columns <= 2 * LANES else 4)


@njit(cache=True, error_model="numpy")
def add(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, width, more):  # type: ignore[no-untyped-def]
    """`simd.add_rows_twin` for rows of `width`."""
    if width == LANES:
        add_rows1(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more)
    elif width == 2 * LANES:
        add_rows2(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more)
    else:
        add_rows4(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more)


@njit(cache=True, error_model="numpy")
def list_spikes(x, top, left, rows, columns, width, names, count, bounds):  # type: ignore[no-untyped-def]
    """Name the spikes of x (H, W, C), padded, row by row, from names[count] on; how many then.

    A name is the spike's place in its padded row times `width`; the names of pixel (r, s)
    stand from bounds[r columns + s] to the next.
    """
    height, across, channels = x.shape
    for r in range(rows):
        for s in range(columns):
            bounds[r * columns + s] = count
            if top <= r < top + height and left <= s < left + across:
                name = s * channels * width
                for c in range(channels):  # no branch: a silent name is overwritten
                    names[count] = name
                    count += np.int64(x[r - top, s - left, c])
                    name += width
    bounds[rows * columns] = count
    return count


@njit(cache=True, error_model="numpy")
def correlate_images(x, w, columns, width, g, y, names, bounds):  # type: ignore[no-untyped-def]
    """A few images: x (n, H, W, C), y flat (n, H', W', columns), `tall` times `span` taps at a
    time."""
    top, left, rows, wide, kh, kw, sh, sw, height, across, tall, span = g
    images, channels = x.shape[0], x.shape[3]
    pixels, count = rows * wide + 1, 0
    for n in range(images):
        count = list_spikes(
            x[n], top, left, rows, wide, width, names, count, bounds[n * pixels : (n + 1) * pixels]
        )
    size = channels * width
    for first in range(0, columns, width):
        for tap in range(0, kh * kw, tall * span):
            i, j = tap // kw, tap % kw
            for n in range(images):
                for r in range(height):
                    for s in range(across):
                        row, column = r * sh + i, s * sw + j
                        add(
                            names,
                            bounds,
                            n * pixels + row * wide + column,
                            wide,
                            span,
                            tall,
                            w,
                            first * kh * kw * channels + (tap - column) * size,
                            kw * size,
                            y,
                            ((n * height + r) * across + s) * columns + first,
                            width,
                            tap > 0,
                        )


@njit(parallel=True, cache=True, error_model="numpy")
def correlate_tasks(x, w, columns, width, g, images, y, names, bounds):  # type: ignore[no-untyped-def]
    for task in prange((x.shape[0] + images - 1) // images):
        own, some = get_thread_id(), slice(task * images, (task + 1) * images)
        correlate_images(
            x[some], w, columns, width, g, y[some].reshape(-1), names[own], bounds[own]
        )


def taps_at_once(kh: int, kw: int, size: int) -> tuple[int, int]:
    """Rows and columns of the window: all, a row, or one tap of `size` floats."""
    if 4 * kh * kw * size <= CACHE:
        return kh, kw
    return 1, kw if 4 * kw * size <= CACHE else 1


def correlate(x: Array, w: Array, g: Correlation, y: Array) -> None:
    """Write the whole of y: x (N, H, W, C) uint8 of zeros and ones, w (kh, kw, C, columns)."""
    kh, kw, channels, columns = w.shape
    depth, width = kh * kw * channels, width_of(columns)
    if columns % width:  # blocks are whole
        wider = np.zeros((kh, kw, channels, columns + -columns % width), np.float32)
        wider[..., :columns] = w
        target = aligned(*y.shape[:3], wider.shape[3])
        correlate(x, wider, g, target)
        y[:] = target[..., :columns]
        return
    packed = aligned(depth * columns)
    pack(np.ascontiguousarray(w).reshape(depth, columns), width, packed)
    (rows, wide), threads = g.padded, get_num_threads()
    images = min(len(x), max(1, PIXELS // (g.out[0] * g.out[1])))
    names = empty((threads, images * x[0].size + 1), np.uint32)
    bounds = empty((threads, images * (rows * wide + 1)), np.int64)
    numbers = (
        *g.before,
        rows,
        wide,
        kh,
        kw,
        *g.stride,
        *g.out,
        *taps_at_once(kh, kw, channels * width),
    )
    correlate_tasks(x, packed, columns, width, numbers, images, y, names, bounds)


@njit(parallel=True, cache=True, error_model="numpy")
def lay_out(dy, top, left, rows, wide, width, padded):  # type: ignore[no-untyped-def]
    """dy (n, H', W', C') -> blocks of columns (n, rows, wide, width), zeros around."""
    images, height, across, columns = dy.shape
    for n in prange(images):
        for first in range(0, columns, width):
            last = min(columns, first + width)
            for r in range(rows):
                for s in range(wide):
                    at = first * images * rows * wide + ((n * rows + r) * wide + s) * width
                    inside = top <= r < top + height and left <= s < left + across
                    if inside:
                        for c in range(first, last):
                            padded[at - first + c] = dy[n, r - top, s - left, c]
                    for c in range(last - first if inside else 0, width):
                        padded[at + c] = 0


@njit(cache=True, error_model="numpy")
def list_pixels(x, first, last, row, column, rows, wide, width, names, bounds):  # type: ignore[no-untyped-def]
    """Name the pixels of x (n, H, W, C) at which each channel of first … last fired.

    A name is the pixel's place in the padded dy times `width`; those of channel c stand
    from bounds[2 (c - first)] to the next bound. row and column: (first, step, count).
    """
    images = x.shape[0]
    capacity = images * row[2] * column[2] + 1
    for c in range(last - first):
        bounds[2 * c] = bounds[2 * c + 1] = c * capacity
    for n in range(images):
        for r in range(row[2]):
            for s in range(column[2]):
                name = ((n * rows + r) * wide + s) * width
                pixel = x[n, row[0] + r * row[1], column[0] + s * column[1]]
                for c in range(last - first):  # no branch: a silent name is overwritten
                    names[bounds[2 * c + 1]] = name
                    bounds[2 * c + 1] += np.int64(pixel[first + c])


@njit(parallel=True, cache=True, error_model="numpy")
def weight_tasks(x, dy, columns, width, row, column, more, dw, names, bounds, aside):  # type: ignore[no-untyped-def]
    """Each task owns a few input channels. row and column: (first, step, count, tap, taps)."""
    images, channels = x.shape[0], x.shape[3]
    share = max(1, min(MOST, channels // 8))
    rows, wide = row[2] + row[4] - 1, column[2] + column[4] - 1
    for task in prange((channels + share - 1) // share):
        own = get_thread_id()
        begin, end = task * share, min((task + 1) * share, channels)
        list_pixels(x, begin, end, row, column, rows, wide, width, names[own], bounds[own])
        for first in range(0, columns, width):
            block = first * images * rows * wide
            last = min(columns, first + width)
            for c in range(begin, end):
                for i in range(row[4]):
                    for j in range(column[4]):
                        target = dw[row[3] + i * row[1], column[3] + j * column[1], c]
                        place = ((row[4] - 1 - i) * wide + column[4] - 1 - j) * width
                        add(
                            names[own],
                            bounds[own],
                            2 * (c - begin),
                            0,
                            1,
                            1,
                            dy,
                            block + place,
                            0,
                            aside[own],
                            0,
                            width,
                            False,
                        )
                        if more:
                            for k in range(first, last):
                                target[k] += aside[own, k - first]
                        else:
                            for k in range(first, last):
                                target[k] = aside[own, k - first]


def weight_gradient(x: Array, dy: Array, p: Conv, dw: Array) -> None:
    """Write into dw (kh, kw, C, C') from x (N, H, W, C), uint8 of zeros and ones, and dy.

    Strides part x into residues, each of which meets taps of its own. A few images at a
    time: each element of dw adds them up in order.
    """
    kernel, columns = dw.shape[:2], dw.shape[3]
    if max(p.stride) > 1:
        dw[:] = 0  # the taps that meet no pixel
    axes = [residues(*axis) for axis in zip(x.shape[1:3], kernel, p.stride, p.padding, strict=True)]
    for row in axes[0]:
        for column in axes[1]:
            if min(row.pixels, column.pixels, row.taps, column.taps) > 0:
                residue_gradient(x, dy, p, (row, column), width_of(columns), dw)


def residue_gradient(
    x: Array, dy: Array, p: Conv, pair: tuple[Residue, Residue], width: int, dw: Array
) -> None:
    columns, threads = dw.shape[3], get_num_threads()
    rows, wide = (r.pixels + r.taps - 1 for r in pair)
    top, left = (r.taps - 1 - r.shift for r in pair)
    images = min(len(x), max(1, CHUNK // (rows * wide * width)))
    padded = aligned(images * rows * wide * (columns + -columns % width))
    names = empty((threads, MOST * (images * pair[0].pixels * pair[1].pixels + 1)), np.uint32)
    bounds = empty((threads, 2 * MOST), np.int64)
    row, column = (
        (r.first, s, r.pixels, r.tap, r.taps) for r, s in zip(pair, p.stride, strict=True)
    )
    for first in range(0, len(x), images):
        some = slice(first, first + images)
        lay_out(dy[some], top, left, rows, wide, width, padded)
        weight_tasks(
            x[some],
            padded,
            columns,
            width,
            row,
            column,
            first > 0,
            dw,
            names,
            bounds,
            aligned(threads, width),
        )
