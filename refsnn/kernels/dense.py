"""Dense convolution in float32: all three directions are sums of `tile` products.

At most a few pixels at a time are unfolded (im2col): a tile reads its window through offsets into
a padded copy of its images. A task is a few images (forward, input gradient), or a block of the
weights and some images (weight gradient), independent of the number of threads.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.conv import Conv
from refsnn.equations.surrogate import Array
from refsnn.kernels.layout import (
    Correlation,
    Span,
    forward_correlation,
    pack,
    packed_columns,
    pad_image,
    padded_of,
)
from refsnn.kernels.simd import LANES, ROWS, Flat, aligned, contiguous, whole_vectors
from refsnn.kernels.threads import begin, get_num_threads, share, take
from refsnn.kernels.tile import Loops, Rows, narrow_tile, tile
from refsnn.kernels.transform import copy_vector

PANEL = 2 * LANES  # columns of a panel of weights; the last may have LANES
GROUP = 2 * ROWS  # pixels or channels per group; equals LANES
PIXELS = 128  # least number of pixels per task
SIDE = 64  # input and output channels of a block of the weights' gradient
POINT_SIDE = 192  # the same for a single tap, as fewer blocks read x and dy less often
PARTS = 16  # tasks of a weight gradient at least, if there are images enough
LINE = 16  # floats in a cache line
SUM = 1 << 12  # elements per task when the parts are summed


class Stack(NamedTuple):
    """Matrices of one shape in a flat array, the first at element `at`, then `pitch` apart."""

    data: Array
    at: int
    pitch: int
    row: int  # from one row to the next
    column: int


class Block(NamedTuple):
    """A block of weights."""

    inputs: Span  # channels
    outputs: Span


@njit(cache=True, error_model="numpy", inline="always")
def product(a, b, panel, loops, c, accumulate):  # type: ignore[no-untyped-def]
    """Multiply GROUP rows by a panel of LANES or PANEL columns; see `tile.tile_twin`."""
    if panel == LANES:
        narrow_tile(a, b, loops, c, accumulate)
        return
    for half in range(0, GROUP, ROWS):
        upper = Rows(a.data, a.at, a.offsets, a.first + half)
        tile(upper, b, loops, Rows(c.data, c.at, c.offsets, c.first + half), accumulate)


@njit(cache=True, error_model="numpy", inline="always")
def correlate_images(x, some, packed, window, source, target, y, scratch):  # type: ignore[no-untyped-def]
    """Write into the flat y the correlation of some of the images x with packed weights.

    `source` holds where windows begin in the padded images, `target` where their results begin in
    y.
    """
    c_in, c_out, padded = window.c_in, window.c_out, padded_of(window)
    for n in range(some.size):
        pad_image(x[some.first + n], padded, scratch, n * padded.height * padded.width * c_in)
    depth, row = window.kh * window.kw * c_in, window.kw * c_in
    aside, lines = scratch.size - GROUP * PANEL, np.arange(GROUP)
    count = some.size * window.out_height * window.out_width
    for first in range(0, c_out, PANEL):
        panel = PANEL if c_out - first > LANES else LANES
        loops = Loops((1, window.kh, row), (0, padded.width * c_in, 1), (0, row * panel, panel))
        for group in range(0, count, GROUP):
            whole = first + panel <= c_out and group + GROUP <= count
            there, fresh = Rows(y, first, target, group), Rows(scratch, aside, lines * panel, 0)
            product(
                Rows(scratch, 0, source, group),
                Flat(packed, first * depth),
                panel,
                loops,
                there if whole else fresh,
                False,
            )
            if not whole:
                for q in range(min(GROUP, count - group)):
                    at = aside + q * panel - first
                    for c in range(first, min(c_out, first + panel)):
                        y[target[group + q] + c] = scratch[at + c]


@njit(nogil=True, cache=True, error_model="numpy")
def correlate_tasks(tasks, own, x, packed, window, images, source, target, y, scratch):  # type: ignore[no-untyped-def]
    """Split the images into tasks of `images` each."""
    task = begin(tasks, own)
    while task >= 0:
        first = task * images
        some = Span(first, min(images, y.shape[0] - first))
        flat = y[first : first + some.size].reshape(-1)
        correlate_images(x, some, packed, window, source, target, flat, scratch[own])
        task = take(tasks, own)


def correlate(x: Array, w: Array, g: Correlation, y: Array) -> None:
    """Write the correlation `g` of x (N, H, W, C_in) with w (kh, kw, C_in, C_out) into y."""
    c_out = w.shape[3]
    window = g.window(x.shape, c_out)
    depth = window.kh * window.kw * window.c_in
    packed = aligned(depth * packed_columns(c_out, PANEL))
    pack(contiguous(w).reshape(depth, c_out), PANEL, packed)
    padded = padded_of(window)
    images = min(len(x), max(1, PIXELS // (g.out[0] * g.out[1])))
    n, r, s = (i.reshape(-1) for i in np.indices((images, *g.out)))
    source = (n * padded.height + r * window.sh) * padded.width + s * window.sw
    source *= window.c_in
    out_r, out_s = g.first[0] + r * g.step[0], g.first[1] + s * g.step[1]
    target = ((n * y.shape[1] + out_r) * y.shape[2] + out_s) * c_out
    surplus = np.full(-len(source) % GROUP, source[-1])  # fills the last group
    size = whole_vectors(images * padded.height * padded.width * window.c_in) + GROUP * PANEL
    scratch = aligned(get_num_threads(), size)
    source = np.concatenate([source, surplus])
    tasks = -(-len(x) // images)
    given = x, packed, window, images, source, target, y, scratch
    share(correlate_tasks, tasks, *given, threads=len(scratch))


@njit(cache=True, error_model="numpy")
def products(shape, a, b, c, accumulate):  # type: ignore[no-untyped-def]
    """Multiply the matrices of two stacks, one by one, into a third: c (+)= a b.

    `shape` is the number of matrices, rows of a, columns of a, and columns of b, which are whole
    vectors.
    """
    count, rows, depth, columns = shape
    loops = Loops((1, 1, depth), (0, 0, a.column), (0, 0, b.row))
    source, target = np.arange(rows) * a.row, np.arange(rows) * c.row
    for index in range(count):
        for first in range(0, columns, PANEL):
            panel = Flat(b.data, b.at + index * b.pitch + first)
            for group in range(0, rows, GROUP):
                product(
                    Rows(a.data, a.at + index * a.pitch, source, group),
                    panel,
                    min(PANEL, columns - first),
                    loops,
                    Rows(c.data, c.at + index * c.pitch + first, target, group),
                    accumulate,
                )


@njit(cache=True, error_model="numpy")
def copy_row(x, at, count, target, to):  # type: ignore[no-untyped-def]
    """Copy `count` elements of x, padded by zeros to whole vectors."""
    whole = count // LANES * LANES
    for c in range(0, whole, LANES):
        copy_vector(x, at + c, target, to + c)
    if whole < count:
        for c in range(whole, count):
            target[to + c] = x[at + c]
        for c in range(count, whole + LANES):
            target[to + c] = 0


@njit(cache=True, error_model="numpy")
def gather(flat, window, pixels, inputs, taps):  # type: ignore[no-untyped-def]
    """Copy what lies in flat images under each tap, for some pixels of y and some input channels.

    `taps` is a stack of matrices (pixel, channel), one per tap.
    """
    height, width, top, left = window.height, window.width, window.top, window.left
    for k in range(pixels.size):
        pixel = pixels.first + k
        line = pixel // window.out_width
        r, s = (
            line % window.out_height * window.sh - top,
            pixel % window.out_width * window.sw - left,
        )
        image = line // window.out_height * height
        for i in range(window.kh):
            for j in range(window.kw):
                at = taps.at + (i * window.kw + j) * taps.pitch + k * taps.row
                if 0 <= r + i < height and 0 <= s + j < width:
                    place = ((image + r + i) * width + s + j) * window.c_in + inputs.first
                    copy_row(flat, place, inputs.size, taps.data, at)
                else:
                    taps.data[at : at + taps.row] = 0


@njit(cache=True, error_model="numpy")
def apart(row):  # type: ignore[no-untyped-def]
    """Return a row's length, in an odd number of cache lines: rows fall on all sets of the cache.

    With four lines a row, 32 rows would fill a first-level cache of eight ways.
    """
    return (-(-row // LINE) | 1) * LINE


@njit(cache=True, error_model="numpy", inline="always")
def gradient_block(x, some, dy, window, block, scratch, dw):  # type: ignore[no-untyped-def]
    """Sum a block of dw, which is flat (kh, kw, C_in, C_out), over some of the images x.

    The scratch memory holds the pixels under each tap (tap, pixel, channel), the pixels of dy
    (pixel, channel), and the block (tap, input channel, output channel).
    """
    inputs, outputs = block.inputs, block.outputs
    taps, c_out = window.kh * window.kw, window.c_out
    high, wide = -(-inputs.size // LANES) * LANES, -(-outputs.size // LANES) * LANES
    row, column = apart(high), apart(wide)
    met = Stack(scratch, 0, PIXELS * row + LANES, row, 1)
    turned = Stack(scratch, met.at, met.pitch, 1, row)
    cotangent = Stack(scratch, taps * met.pitch, 0, column, 1)
    sums = Stack(scratch, cotangent.at + PIXELS * column, high * wide + LANES, wide, 1)
    last = some.first + some.size
    flat, flat_dy = x[some.first : last].reshape(-1), dy[some.first : last].reshape(-1)
    total = some.size * window.out_height * window.out_width
    for begun in range(0, total, PIXELS):
        pixels = Span(begun, min(PIXELS, total - begun))
        gather(flat, window, pixels, inputs, met)
        for k in range(pixels.size):
            at = (begun + k) * c_out + outputs.first
            copy_row(flat_dy, at, outputs.size, scratch, cotangent.at + k * column)
        products((taps, high, pixels.size, wide), turned, cotangent, sums, begun > 0)
    for tap in range(taps):
        for c in range(inputs.size):
            at = sums.at + tap * sums.pitch + c * wide
            place = (tap * window.c_in + inputs.first + c) * c_out + outputs.first
            for k in range(outputs.size):
                dw[place + k] = scratch[at + k]


@njit(cache=True, error_model="numpy")
def block_of(task, c_in, c_out, side):  # type: ignore[no-untyped-def]
    """Return the part of the images that a task belongs to, and its block of the weights."""
    high, wide = -(-c_in // side), -(-c_out // side)
    first, start = task // wide % high * side, task % wide * side
    inputs, outputs = Span(first, min(side, c_in - first)), Span(start, min(side, c_out - start))
    return task // (high * wide), Block(inputs, outputs)


@njit(nogil=True, cache=True, error_model="numpy")
def gradient_tasks(tasks, own, x, dy, window, side, images, scratch, partial):  # type: ignore[no-untyped-def]
    """Sum each task's block over its images, into its part of `partial`."""
    task = begin(tasks, own)
    while task >= 0:
        part, block = block_of(task, window.c_in, window.c_out, side)
        some = Span(part * images, min(images, dy.shape[0] - part * images))
        gradient_block(x, some, dy, window, block, scratch[own], partial[part])
        task = take(tasks, own)


@njit(nogil=True, cache=True, error_model="numpy")
def add_parts(tasks, own, partial, dw):  # type: ignore[no-untyped-def]
    """Write the sum of all parts into dw, which is flat."""
    task = begin(tasks, own)
    while task >= 0:
        for k in range(task * SUM, min((task + 1) * SUM, dw.size)):
            dw[k] = partial[0, k]
        for part in range(1, partial.shape[0]):
            for k in range(task * SUM, min((task + 1) * SUM, dw.size)):
                dw[k] += partial[part, k]
        task = take(tasks, own)


def in_parts(
    images: int, dw: Array, work: Callable[[int, int, Array], None], side: int = SIDE
) -> None:
    """Compute dw as the sum of parts, each over some of the images.

    `work(images per part, tasks, partial)` writes each part's sum to partial (part, dw.size). A
    task is a block of a part, of up to `side` times `side` channels.
    """
    blocks = -(-dw.shape[2] // side) * -(-dw.shape[3] // side)
    some = -(-images // max(1, min(images, -(-PARTS // blocks))))
    parts = -(-images // some)
    partial = dw.reshape(1, -1) if parts == 1 else aligned(parts, dw.size)
    work(some, parts * blocks, partial)
    if parts > 1:
        share(add_parts, -(-dw.size // SUM), partial, dw.reshape(-1))


def weight_gradient(x: Array, dy: Array, p: Conv, dw: Array) -> None:
    """Write into dw (kh, kw, C_in, C_out) from x (N, H, W, C_in), float32 or uint8, and dy.

    A task owns a block of dw and some images; its data fits in its core's cache.
    """
    kh, kw, c_in, c_out = dw.shape
    if c_in < LINE and kw > 1:  # on any machine, since parts, and so bits, follow from the blocks
        x, p = merge_columns(x, dy.shape[2], kw, p), Conv((p.stride[0], 1), (p.padding[0], 0))
        dw = dw.reshape(kh, 1, kw * c_in, c_out)
        kw, c_in = 1, kw * c_in
    side = POINT_SIDE if (kh, kw) == (1, 1) else SIDE
    high, wide = (whole_vectors(min(side, n)) for n in (c_in, c_out))
    size = kh * kw * (PIXELS * apart(high) + high * wide + 2 * LANES) + PIXELS * apart(wide)
    scratch = aligned(get_num_threads(), size)
    out = (dy.shape[1], dy.shape[2])
    window = forward_correlation(out, (kh, kw), p).window(x.shape, c_out)

    def work(images: int, tasks: int, partial: Array) -> None:
        given = x, dy, window, side, images, scratch, partial
        share(gradient_tasks, tasks, *given, threads=len(scratch))

    in_parts(len(x), dw, work, side)


def merge_columns(x: Array, out_width: int, kw: int, p: Conv) -> Array:
    """Return x (N, H, out_width, kw C), whose channels are those of the kw columns of a window.

    A window of kh x 1 then meets what one of kh x kw met before. With few channels, fewer lanes of
    its vectors are padding: 16 for the 9 numbers of a row of three pixels instead of 3 times 16.
    """
    n, height, width, c = x.shape
    left, stride = p.padding[1], p.stride[1]
    padded = np.zeros((n, height, (out_width - 1) * stride + kw, c), x.dtype)
    within = max(0, min(width, padded.shape[2] - left))
    padded[:, :, left : left + within] = x[:, :, :within]
    columns = np.lib.stride_tricks.sliding_window_view(padded, kw, axis=2)[:, :, ::stride]
    merged = columns.swapaxes(3, 4).reshape(n, height, out_width, kw * c)
    return np.ascontiguousarray(merged)  # reshape may give a view of overlapping rows
