"""Event-driven convolution in float32: each spike adds its row of weights, zeros cost nothing.

The forward pass lists the spikes of a window and sums their rows of the weights; the weight
gradient lists the pixels at which a channel fired and sums their rows of dy. The input must be 0
and 1, as uint8. A weight that is not finite has no effect where its input is 0, unlike in a
product.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations.conv import Conv
from refsnn.equations.surrogate import Array
from refsnn.kernels.add_rows import Lists, Table, add_rows1, add_rows2, add_rows4
from refsnn.kernels.layout import Correlation, Padded, Residue, Span, pack, padded_of, residues
from refsnn.kernels.simd import LANES, Flat, aligned, contiguous
from refsnn.kernels.threads import begin, get_num_threads, share, take

CHUNK = 1 << 17  # floats of a panel of dy to which the lists of a weight gradient refer
MOST = 16  # channels per task of the weight gradient
PIXELS = 256  # pixels of y per task, for which each panel of the weights is read once
CACHE = 3 << 15  # bytes of weights that a task uses at a time


class Sizes(NamedTuple):
    """The size of a task's work at a time."""

    images: int
    panel: int  # output channels
    rows: int  # taps of the window
    columns: int


class Scratch(NamedTuple):
    """Memory of each thread: lists in compressed sparse row (CSR) form, and sums."""

    indices: Array  # (threads, ...), uint32
    indptr: Array  # (threads, ...), int64
    sums: Array  # (threads, panel)


def panel_of(c_out: int) -> int:
    """Return how many columns of the weights stay in the second-level cache."""
    return LANES * (1 if c_out <= LANES else 2 if c_out <= 2 * LANES else 4)


@njit(cache=True, error_model="numpy", inline="always")
def add_rows(lists, table, total, panel, accumulate):  # type: ignore[no-untyped-def]
    """Sum rows of `panel` numbers; see `add_rows.add_rows_twin`."""
    if panel == LANES:
        add_rows1(lists, table, total, accumulate)
    elif panel == 2 * LANES:
        add_rows2(lists, table, total, accumulate)
    else:
        add_rows4(lists, table, total, accumulate)


@njit(cache=True, error_model="numpy")
def list_spikes(x, padded, panel, indices, count, indptr):  # type: ignore[no-untyped-def]
    """List the spikes of the padded x (H, W, C_in) from indices[count] on; return the new count.

    An index is the spike's place in its padded row times `panel`; the indices of the padded pixel
    (r, s) begin at indptr[r width + s] and end at the next entry.
    """
    height, width, c_in = x.shape
    for r in range(padded.height):
        for s in range(padded.width):
            indptr[r * padded.width + s] = count
            row, column = r - padded.top, s - padded.left
            if 0 <= row < height and 0 <= column < width:
                index = s * c_in * panel
                for c in range(c_in):  # no branch: an index without a spike is overwritten
                    indices[count] = index
                    count += np.int64(x[row, column, c])
                    index += panel
    indptr[padded.height * padded.width] = count
    return count


@njit(cache=True, error_model="numpy", inline="always")
def correlate_images(x, packed, window, sizes, y, indices, indptr):  # type: ignore[no-untyped-def]
    """Write into the flat y the correlation of images x (n, H, W, C_in) with packed weights."""
    padded, panel, kw, taps = padded_of(window), sizes.panel, window.kw, window.kh * window.kw
    pixels, count = padded.height * padded.width + 1, np.int64(0)
    for n in range(x.shape[0]):
        own = indptr[n * pixels : (n + 1) * pixels]
        count = list_spikes(x[n], padded, panel, indices, count, own)
    size = window.c_in * panel  # of a tap's weights
    for first in range(0, window.c_out, panel):
        for tap in range(0, taps, sizes.rows * sizes.columns):
            i, j = tap // kw, tap % kw
            for n in range(x.shape[0]):
                for r in range(window.out_height):
                    for s in range(window.out_width):
                        row, column = r * window.sh + i, s * window.sw + j
                        begin = n * pixels + row * padded.width + column
                        begin_of_table = first * taps * window.c_in + (tap - column) * size
                        pixel = (n * window.out_height + r) * window.out_width + s
                        add_rows(
                            Lists(indices, indptr, begin, padded.width, sizes.columns, sizes.rows),
                            Table(packed, begin_of_table, kw * size),
                            Flat(y, pixel * window.c_out + first),
                            panel,
                            tap > 0,
                        )


@njit(nogil=True, cache=True, error_model="numpy")
def correlate_tasks(tasks, own, x, packed, window, sizes, y, indices, indptr):  # type: ignore[no-untyped-def]
    """Split the images into tasks."""
    task = begin(tasks, own)
    while task >= 0:
        some = slice(task * sizes.images, (task + 1) * sizes.images)
        correlate_images(
            x[some], packed, window, sizes, y[some].reshape(-1), indices[own], indptr[own]
        )
        task = take(tasks, own)


def taps_at_once(kh: int, kw: int, size: int) -> tuple[int, int]:
    """Return rows and columns of the window: all, one row, or one tap of `size` floats."""
    if 4 * kh * kw * size <= CACHE:
        return kh, kw
    return 1, kw if 4 * kw * size <= CACHE else 1


def correlate(x: Array, w: Array, g: Correlation, y: Array) -> None:
    """Write the whole of y: x (N, H, W, C_in) uint8 of zeros and ones, w (kh, kw, C_in, C_out)."""
    kh, kw, c_in, c_out = w.shape
    panel = panel_of(c_out)
    if c_out % panel:  # panels are whole
        wider = np.zeros((kh, kw, c_in, c_out + -c_out % panel), np.float32)
        wider[..., :c_out] = w
        target = aligned(*y.shape[:3], wider.shape[3])
        correlate(x, wider, g, target)
        y[:] = target[..., :c_out]
        return
    depth = kh * kw * c_in
    packed = aligned(depth * c_out)
    pack(contiguous(w).reshape(depth, c_out), panel, packed)
    window, threads = g.window(x.shape, c_out), get_num_threads()
    padded = padded_of(window)
    images = min(len(x), max(1, PIXELS // (g.out[0] * g.out[1])))
    sizes = Sizes(images, panel, *taps_at_once(kh, kw, c_in * panel))
    indices = empty((threads, images * x[0].size + 1), np.uint32)
    indptr = empty((threads, images * (padded.height * padded.width + 1)), np.int64)
    tasks = -(-len(x) // images)
    given = x, packed, window, sizes, y, indices, indptr
    share(correlate_tasks, tasks, *given, threads=threads)


@njit(nogil=True, cache=True, error_model="numpy")
def lay_out(tasks, own, dy, padded, panel, target):  # type: ignore[no-untyped-def]
    """Copy dy (n, H', W', C_out) to panels of its channels (n, height, width, panel), padded."""
    images, height, width, c_out = dy.shape
    high, wide = padded.height, padded.width
    n = begin(tasks, own)
    while n >= 0:
        for first in range(0, c_out, panel):
            last = min(c_out, first + panel)
            for r in range(high):
                for s in range(wide):
                    at = first * images * high * wide + ((n * high + r) * wide + s) * panel
                    row, column = r - padded.top, s - padded.left
                    inside = 0 <= row < height and 0 <= column < width
                    if inside:
                        for c in range(first, last):
                            target[at - first + c] = dy[n, row, column, c]
                    for c in range(last - first if inside else 0, panel):
                        target[at + c] = 0
        n = take(tasks, own)


@njit(cache=True, error_model="numpy")
def list_pixels(x, channels, rows, columns, panel, indices, indptr):  # type: ignore[no-untyped-def]
    """List the pixels of x (n, H, W, C_in) at which each of some channels fired.

    An index is the pixel's place in the padded dy times `panel`; the indices of the channel
    first + c are indices[indptr[2 c] : indptr[2 c + 1]]. `rows` and `columns` are residues.
    """
    images = x.shape[0]
    high, wide = rows.pixels + rows.taps - 1, columns.pixels + columns.taps - 1  # padded
    capacity = images * rows.pixels * columns.pixels + 1
    for c in range(channels.size):
        indptr[2 * c] = indptr[2 * c + 1] = c * capacity
    for n in range(images):
        for r in range(rows.pixels):
            for s in range(columns.pixels):
                index = ((n * high + r) * wide + s) * panel
                pixel = x[n, rows.first + r * rows.step, columns.first + s * columns.step]
                for c in range(channels.size):  # no branch: an index without a spike is overwritten
                    indices[indptr[2 * c + 1]] = index
                    indptr[2 * c + 1] += np.int64(pixel[channels.first + c])


@njit(cache=True, error_model="numpy")
def channels_at_once(c_in):  # type: ignore[no-untyped-def]
    """Return how many input channels a task of the weight gradient has."""
    return max(1, min(MOST, c_in // 8))


@njit(nogil=True, cache=True, error_model="numpy")
def weight_tasks(tasks, own, x, padded_dy, panel, rows, columns, accumulate, dw, scratch):  # type: ignore[no-untyped-def]
    """Write or add the gradient of the taps of two residues; a task owns a few input channels."""
    images, c_in, c_out = x.shape[0], x.shape[3], dw.shape[3]
    some = channels_at_once(c_in)
    high, wide = rows.pixels + rows.taps - 1, columns.pixels + columns.taps - 1  # padded
    task = begin(tasks, own)
    while task >= 0:
        indices, indptr, sums = scratch.indices[own], scratch.indptr[own], scratch.sums[own]
        channels = Span(task * some, min(some, c_in - task * some))
        list_pixels(x, channels, rows, columns, panel, indices, indptr)
        for first in range(0, c_out, panel):
            last = min(c_out, first + panel)
            for c in range(channels.size):
                lists = Lists(indices, indptr, 2 * c, 0, 1, 1)
                for i in range(rows.taps):
                    for j in range(columns.taps):
                        place = ((rows.taps - 1 - i) * wide + columns.taps - 1 - j) * panel
                        place += first * images * high * wide
                        add_rows(lists, Table(padded_dy, place, 0), Flat(sums, 0), panel, False)
                        row, column = rows.tap + i * rows.step, columns.tap + j * columns.step
                        target = dw[row, column, channels.first + c]
                        if accumulate:
                            for k in range(first, last):
                                target[k] += sums[k - first]
                        else:
                            for k in range(first, last):
                                target[k] = sums[k - first]
        task = take(tasks, own)


def weight_gradient(x: Array, dy: Array, p: Conv, dw: Array) -> None:
    """Write into dw (kh, kw, C_in, C_out) from x (N, H, W, C_in), uint8 of zeros and ones, and dy.

    A stride splits x into residues, each of which meets its own taps. A few images are processed at
    a time, and each element of dw adds them up in order.
    """
    kernel, c_out = dw.shape[:2], dw.shape[3]
    if max(p.stride) > 1:
        dw[:] = 0  # for taps that meet no pixel
    axes = [residues(*axis) for axis in zip(x.shape[1:3], kernel, p.stride, p.padding, strict=True)]
    for rows in axes[0]:
        for columns in axes[1]:
            if min(rows.pixels, columns.pixels, rows.taps, columns.taps) > 0:
                residue_gradient(x, dy, rows, columns, panel_of(c_out), dw)


def residue_gradient(
    x: Array, dy: Array, rows: Residue, columns: Residue, panel: int, dw: Array
) -> None:
    """Write the part of dw whose taps belong to the residues."""
    c_out, threads = dw.shape[3], get_num_threads()
    top, left = (r.taps - 1 - r.shift for r in (rows, columns))
    high, wide = (r.pixels + r.taps - 1 for r in (rows, columns))
    padded = Padded(top, left, high, wide)
    images = min(len(x), max(1, CHUNK // (high * wide * panel)))
    padded_dy = aligned(images * high * wide * (c_out + -c_out % panel))
    scratch = Scratch(
        empty((threads, MOST * (images * rows.pixels * columns.pixels + 1)), np.uint32),
        empty((threads, 2 * MOST), np.int64),
        aligned(threads, panel),
    )
    tasks = -(-x.shape[3] // channels_at_once(x.shape[3]))
    for first in range(0, len(x), images):
        some = slice(first, first + images)
        given = dy[some]
        share(lay_out, len(given), given, padded, panel, padded_dy)
        sizes = panel, rows, columns, first > 0
        share(weight_tasks, tasks, x[some], padded_dy, *sizes, dw, scratch, threads=threads)
