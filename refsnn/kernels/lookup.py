"""Convolution of spikes by looking up sums, in float32.

Four channels have fired in one of 16 patterns. The forward pass sums the four channels' weights for
each pattern once, and then adds one row for four channels: a quarter of the additions that all
channels would take, and no products. The weight gradient adds dy to one row for four channels, and
from the rows' sums those of the channels. The input must be 0 and 1, as uint8. A weight that is not
finite has no effect where its input is 0, unlike in a product.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations.conv import Conv
from refsnn.equations.surrogate import Array
from refsnn.kernels.dense import SUM, add_parts
from refsnn.kernels.event import panel_of
from refsnn.kernels.layout import Correlation, Window, forward_correlation, padded_of
from refsnn.kernels.patterns import (
    PATTERNS,
    QUARTERS,
    Rows,
    Words,
    add_to_patterns1,
    add_to_patterns2,
    add_to_patterns4,
    byte_of,
    sum_patterns1,
    sum_patterns2,
    sum_patterns4,
)
from refsnn.kernels.simd import LANES, Flat, aligned, contiguous
from refsnn.kernels.threads import begin, get_num_threads, share, take

PIXELS = 256  # pixels of y per task, for which each part of the table is read once
CACHE = 3 << 14  # bytes of the table that are used at a time
COLUMNS = 32  # of a panel, as counted where the machine's own must not matter
PARTS = 16  # tasks of a weight gradient at least, if there are images enough


class Sizes(NamedTuple):
    """The size of a task's work at a time."""

    images: int
    panel: int  # output channels
    rows: int  # of the window: all, or one
    words: int  # per pixel


@njit(cache=True, error_model="numpy", inline="always")
def sum_patterns(bits, table, total, panel, accumulate):  # type: ignore[no-untyped-def]
    """Sum rows of `panel` numbers; see `patterns.sum_patterns_twin`."""
    if panel == LANES:
        sum_patterns1(bits, table, total, accumulate)
    elif panel == 2 * LANES:
        sum_patterns2(bits, table, total, accumulate)
    else:
        sum_patterns4(bits, table, total, accumulate)


@njit(cache=True, error_model="numpy", inline="always")
def add_to_patterns(bits, table, row, panel):  # type: ignore[no-untyped-def]
    """Add to rows of `panel` numbers; see `patterns.add_to_patterns_twin`."""
    if panel == LANES:
        add_to_patterns1(bits, table, row)
    elif panel == 2 * LANES:
        add_to_patterns2(bits, table, row)
    else:
        add_to_patterns4(bits, table, row)


@njit(nogil=True, cache=True, error_model="numpy")
def pack_bits(tasks, own, x, padded, bits):  # type: ignore[no-untyped-def]
    """Write the spikes x (N, H, W, C) as bits (N, height, width, words), padded by zeros.

    A task is an image.
    """
    _, height, width, channels = x.shape
    whole, flat = channels // 8 * 8, x.reshape(-1)
    n = begin(tasks, own)
    while n >= 0:
        bits[n] = 0
        for row in range(max(padded.top, 0), min(padded.top + height, padded.height)):
            for column in range(max(padded.left, 0), min(padded.left + width, padded.width)):
                at = ((n * height + row - padded.top) * width + column - padded.left) * channels
                target = bits[n, row, column]
                for c in range(0, whole, 8):
                    target[c // 16] |= np.uint16(byte_of(flat, at + c)) << np.uint16(c % 16)
                for c in range(whole, channels):
                    target[c // 16] |= np.uint16(flat[at + c]) << np.uint16(c % 16)
        n = take(tasks, own)


@njit(nogil=True, cache=True, error_model="numpy")
def fill_table(tasks, own, w, panel, table):  # type: ignore[no-untyped-def]
    """Write the sums of the weights w (taps, C_in, C_out) for each pattern of four channels.

    The table is (panel, tap, quarter, pattern, column of the panel); a task is a tap's panel.
    """
    taps, c_in, c_out = w.shape
    task = begin(tasks, own)
    while task >= 0:
        which, tap = task // taps, task % taps
        first, rows = which * panel, table[which, tap]
        last = min(c_out, first + panel)
        for quarter in range(rows.shape[0]):
            rows[quarter, 0] = 0
            for pattern in range(1, PATTERNS):
                rest, channel = pattern, 4 * quarter  # the sum without the lowest channel's weight
                while rest & 1 == 0:
                    rest, channel = rest >> 1, channel + 1
                without = pattern & (pattern - 1)
                for k in range(panel):
                    rows[quarter, pattern, k] = rows[quarter, without, k]
                if channel < c_in:
                    for k in range(first, last):
                        rows[quarter, pattern, k - first] += w[tap, channel, k]
        task = take(tasks, own)


@njit(nogil=True, cache=True, error_model="numpy")
def correlate_tasks(tasks, own, bits, table, window, sizes, y):  # type: ignore[no-untyped-def]
    """Split the images into tasks."""
    panel, rows = sizes.panel, sizes.rows
    _, high, wide, size = bits.shape
    flat_bits, flat_table, flat_y = bits.reshape(-1), table.reshape(-1), y.reshape(-1)
    length = window.kw * size
    each = length * QUARTERS * PATTERNS * panel  # of the table, for a row of taps
    task = begin(tasks, own)
    while task >= 0:
        images = range(task * sizes.images, min((task + 1) * sizes.images, y.shape[0]))
        for first in range(0, window.c_out, panel):
            for i in range(0, window.kh, rows):
                given = Rows(flat_table, (first // panel * window.kh + i) * each, each)
                for n in images:
                    for r in range(window.out_height):
                        at = (n * high + r * window.sh + i) * wide * size
                        place = (n * window.out_height + r) * window.out_width * window.c_out
                        for _ in range(window.out_width):
                            sum_patterns(
                                Words(flat_bits, at, wide * size, rows, length),
                                given,
                                Flat(flat_y, place + first),
                                panel,
                                i > 0,
                            )
                            at += window.sw * size
                            place += window.c_out
        task = take(tasks, own)


def bits_of(x: Array, window: Window) -> Array:
    """Return the spikes x (N, H, W, C) as bits (N, height, width, words), padded by zeros."""
    padded = padded_of(window)
    bits = empty((len(x), padded.height, padded.width, -(-x.shape[3] // 16)), np.uint16)
    share(pack_bits, len(x), x, padded, bits)
    return bits


def rows_at_once(kh: int, kw: int, words: int, c_out: int) -> int:
    """Return the number of rows of taps whose part of the table fits: all, or one.

    It decides the order of sums, and so must not depend on the machine's vectors.
    """
    columns = min(COLUMNS, -(-c_out // 16) * 16)
    return kh if 4 * QUARTERS * PATTERNS * columns * kh * kw * words <= CACHE else 1


def correlate(x: Array, w: Array, g: Correlation, y: Array) -> None:
    """Write the whole of y: x (N, H, W, C_in) uint8 of zeros and ones, w (kh, kw, C_in, C_out)."""
    kh, kw, c_in, c_out = w.shape
    panel = panel_of(c_out)
    columns = c_out + -c_out % panel
    target = y if columns == c_out else aligned(*y.shape[:3], columns)  # panels are whole
    window = g.window(x.shape, columns)
    bits = bits_of(x, window)
    size = bits.shape[3]
    table = aligned(columns // panel, kh * kw, QUARTERS * size, PATTERNS, panel)
    weights = contiguous(w).reshape(kh * kw, c_in, c_out)
    share(fill_table, columns // panel * kh * kw, weights, panel, table)
    images = min(len(x), max(1, PIXELS // (g.out[0] * g.out[1])))
    sizes = Sizes(images, panel, rows_at_once(kh, kw, size, c_out), size)
    share(correlate_tasks, -(-len(x) // images), bits, table, window, sizes, target)
    if target is not y:
        y[:] = target[..., :c_out]


@njit(nogil=True, cache=True, error_model="numpy")
def gradient_tasks(tasks, own, bits, dy, window, sizes, scratch, partial):  # type: ignore[no-untyped-def]
    """Write each part's sum of dw to `partial`; a task is a part's panel and rows of taps."""
    panel, rows, images = sizes.panel, sizes.rows, sizes.images
    _, high, wide, size = bits.shape
    flat_bits, flat_dy, table = bits.reshape(-1), dy.reshape(-1), scratch[own]
    c_in, c_out, length = window.c_in, window.c_out, window.kw * size
    panels, strips = -(-c_out // panel), window.kh // rows
    given, row = Rows(table, 0, length * QUARTERS * PATTERNS * panel), np.zeros(panel, np.float32)
    task = begin(tasks, own)
    while task >= 0:
        part, which = task // (panels * strips), task // strips % panels
        i, first = task % strips * rows, which * panel
        last = min(c_out, first + panel)
        table[: rows * length * QUARTERS * PATTERNS * panel] = 0
        for n in range(part * images, min((part + 1) * images, dy.shape[0])):
            for r in range(window.out_height):
                at = (n * high + r * window.sh + i) * wide * size
                place = (n * window.out_height + r) * window.out_width * c_out + first
                for _ in range(window.out_width):
                    some = Words(flat_bits, at, wide * size, rows, length)
                    if last - first == panel:
                        add_to_patterns(some, given, Flat(flat_dy, place), panel)
                    else:
                        for k in range(last - first):
                            row[k] = flat_dy[place + k]
                        add_to_patterns(some, given, Flat(row, 0), panel)
                    at += window.sw * size
                    place += c_out
        for tap in range(rows * window.kw):
            for c in range(c_in):
                target = ((i * window.kw + tap) * c_in + c) * c_out
                source = (tap * size * QUARTERS + c // 4) * PATTERNS * panel
                for k in range(last - first):
                    total = np.float32(0)
                    for pattern in range(PATTERNS):
                        if pattern >> c % 4 & 1:
                            total += table[source + pattern * panel + k]
                    partial[part, target + first + k] = total
        task = take(tasks, own)


def weight_gradient(x: Array, dy: Array, p: Conv, dw: Array) -> None:
    """Write into dw (kh, kw, C_in, C_out) from x (N, H, W, C_in), uint8 of zeros and ones, and dy.

    Each task sums over some images; the parts are added up in order.
    """
    kh, kw, _, c_out = dw.shape
    out = (dy.shape[1], dy.shape[2])
    window, panel = forward_correlation(out, (kh, kw), p).window(x.shape, c_out), panel_of(c_out)
    bits = bits_of(x, window)
    size = bits.shape[3]
    rows = rows_at_once(kh, kw, size, c_out)
    about = -(-c_out // COLUMNS) * (kh // rows)  # tasks of a part
    images = -(-len(x) // max(1, min(len(x), -(-PARTS // about))))
    tasks = -(-c_out // panel) * (kh // rows)
    parts = -(-len(x) // images)
    partial = dw.reshape(1, -1) if parts == 1 else aligned(parts, dw.size)
    scratch = aligned(get_num_threads(), rows * kw * size * QUARTERS * PATTERNS * panel)
    sizes = Sizes(images, panel, rows, size)
    given = bits, dy, window, sizes, scratch, partial
    share(gradient_tasks, parts * tasks, *given, threads=len(scratch))
    if parts > 1:
        share(add_parts, -(-dw.size // SUM), partial, dw.reshape(-1))
