"""Dense convolution in float32: all three directions are sums of `simd.tile`s.

Nothing is unfolded (im2col): a tile finds its window by offsets into a padded copy of its
images. A task is a few images (forward, input gradient) or a block of the weights (their
gradient), whatever the number of threads.
"""

import numpy as np
from numba import get_num_threads, get_thread_id, njit, prange

from refsnn.equations.conv import Conv
from refsnn.equations.surrogate import Array
from refsnn.kernels.layout import Correlation, pack, packed_columns, pad_image, unpack
from refsnn.kernels.simd import LANES, ROWS, aligned, copy_vector, narrow_tile, tile, whole_vectors

WIDTH = 2 * LANES  # columns of a block of weights; the last block may have LANES
GROUP = 2 * ROWS  # pixels of a group
PIXELS = 128  # a task of images at least; as many of dy's stay in the first-level cache
TASKS = 16  # that the weights are shared out to
CHUNK = 1 << 20  # floats that a weight gradient lays out at a time: 4 MiB


def steps(planes: int, rows: int, inner: int, *pairs: tuple[int, int]) -> Array:
    """The `loops` of a tile."""
    return np.array([planes, rows, inner, *(value for pair in pairs for value in pair)])


@njit(cache=True, error_model="numpy")
def product(a, a_at, offsets, o_at, b, b_at, loops, width, c, c_at, rows_at, r_at, more):  # type: ignore[no-untyped-def]
    """GROUP rows of a product, `width` columns; `loops` are those of the two widths."""
    if width == LANES:
        narrow_tile(a, a_at, offsets, o_at, b, b_at, loops[1], c, c_at, rows_at, r_at, more)
        return
    for half in range(0, GROUP, ROWS):
        tile(a, a_at, offsets, o_at + half, b, b_at, loops[0], c, c_at, rows_at, r_at + half, more)


@njit(cache=True, error_model="numpy")
def correlate_images(x, w, columns, g, source, target, loops, y, scratch):  # type: ignore[no-untyped-def]
    """A few images: x (n, H, W, C), y (n, H', W', columns)."""
    top, left, rows, wide, pixels = g
    depth = loops[0, 1] * loops[0, 2]
    size = rows * wide * x.shape[3]
    for n in range(x.shape[0]):
        pad_image(x[n], top, left, rows, wide, scratch, n * size)
    aside, lines = scratch.size - GROUP * WIDTH, np.arange(GROUP)
    count = x.shape[0] * pixels
    for first in range(0, columns, WIDTH):
        width = WIDTH if columns - first > LANES else LANES
        for group in range(0, count, GROUP):
            if first + width <= columns and group + GROUP <= count:
                product(
                    scratch, 0, source, group, w, first * depth, loops, width,
                    y, first, target, group, False,
                )  # fmt: skip
                continue
            product(
                scratch, 0, source, group, w, first * depth, loops, width,
                scratch, aside, lines * width, 0, False,
            )  # fmt: skip
            for q in range(min(GROUP, count - group)):
                at = aside + q * width - first
                for c in range(first, min(columns, first + width)):
                    y[target[group + q] + c] = scratch[at + c]


@njit(parallel=True, cache=True, error_model="numpy")
def correlate_tasks(x, w, columns, g, images, source, target, loops, y, scratch):  # type: ignore[no-untyped-def]
    for task in prange((x.shape[0] + images - 1) // images):
        first, last = task * images, min((task + 1) * images, x.shape[0])
        correlate_images(
            x[first:last], w, columns, g, source, target, loops, y[first:last].reshape(-1),
            scratch[get_thread_id()],
        )  # fmt: skip


def correlate(x: Array, w: Array, g: Correlation, y: Array) -> None:
    """Write into y what `g` says, from x (N, H, W, C) of any dtype and w (kh, kw, C, columns)."""
    kh, kw, channels, columns = w.shape
    depth = kh * kw * channels
    packed = aligned(depth * packed_columns(columns, WIDTH))
    pack(np.ascontiguousarray(w).reshape(depth, columns), WIDTH, packed)
    rows, wide = g.padded
    pixels = g.out[0] * g.out[1]
    images = min(len(x), max(1, PIXELS // pixels))
    n, r, s = (i.reshape(-1) for i in np.indices((images, *g.out)))
    source = ((n * rows + r * g.stride[0]) * wide + s * g.stride[1]) * channels
    out_r, out_s = g.first[0] + r * g.step[0], g.first[1] + s * g.step[1]
    target = ((n * y.shape[1] + out_r) * y.shape[2] + out_s) * columns
    surplus = np.full(-len(source) % GROUP, source[-1])  # a group is always whole
    loops = [
        steps(
            1, kh, kw * channels, (0, 0), (wide * channels, kw * channels * width), (1, width)
        )
        for width in (WIDTH, LANES)
    ]  # fmt: skip
    scratch = aligned(
        get_num_threads(), whole_vectors(images * rows * wide * channels) + GROUP * WIDTH
    )
    correlate_tasks(
        x, packed, columns, (*g.before, rows, wide, pixels), images,
        np.concatenate([source, surplus]), target, np.stack(loops), y, scratch,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def lay_out_planes(x, top, left, rows, wide, target, at):  # type: ignore[no-untyped-def]
    """x (H, W, C) to target[at:] (C / LANES, rows, wide, LANES), zeros around it: the pixels that
    a tile sums over then stand side by side, whatever the stride, and share no cache line's set."""
    height, width, channels = x.shape
    flat = x.reshape(-1)
    for first in range(0, channels, LANES):
        for r in range(rows):
            for s in range(wide):
                place = at + ((first // LANES * rows + r) * wide + s) * LANES
                if not (top <= r < top + height and left <= s < left + width):
                    target[place : place + LANES] = 0
                    continue
                pixel = ((r - top) * width + s - left) * channels + first
                if first + LANES <= channels:
                    copy_vector(flat, pixel, target, place)
                else:
                    for c in range(channels - first):
                        target[place + c] = flat[pixel + c]


@njit(parallel=True, cache=True, error_model="numpy")
def lay_out(x, dy, top, left, rows, wide, x_pad, dy_packed):  # type: ignore[no-untyped-def]
    """x's images padded, in planes of LANES channels; dy (n, H', W', C') in blocks of columns,
    zero-padded."""
    images = x.shape[0]
    pixels, columns = dy.shape[1] * dy.shape[2], dy.shape[3]
    size = rows * wide * LANES * -(-x.shape[3] // LANES)
    for n in prange(images):
        lay_out_planes(x[n], top, left, rows, wide, x_pad, n * size)
        image = dy[n].reshape(pixels, columns)
        for first in range(0, columns, WIDTH):
            width = WIDTH if columns - first > LANES else LANES
            last = min(columns, first + width)
            for pixel in range(pixels):
                at = first * images * pixels + (n * pixels + pixel) * width - first
                for c in range(first, last):
                    dy_packed[at + c] = image[pixel, c]
                for c in range(last, first + width):
                    dy_packed[at + c] = 0


@njit(cache=True, error_model="numpy")
def weight_tiles(x_pad, dy, offsets, first, groups, shape, loops, more, dw):  # type: ignore[no-untyped-def]
    """The tiles `groups` of dw's block of columns that begins at `first`.

    Pixel by pixel, so many that they stay in the first-level cache: the block of dy meets
    every tile.
    """
    images, height, at_once, columns = shape
    width = WIDTH if columns - first > LANES else LANES
    lines = np.arange(GROUP) * width
    x_image, x_row, y_row = loops[0, 3], loops[0, 5], loops[0, 2] * width
    part = loops.copy()
    whole = max(1, at_once // height)  # images at once
    for n in range(0, images, whole):
        for r in range(0, height, at_once):
            part[:, 0], part[:, 1] = min(whole, images - n), min(at_once, height - r)
            x_at = n * x_image + r * x_row
            dy_at = first * images * height * loops[0, 2] + (n * height + r) * y_row
            for group in range(*groups):
                at = first * len(offsets) + group * width
                product(
                    x_pad, x_at, offsets, group, dy, dy_at, part, width, dw, at, lines, 0,
                    more or n > 0 or r > 0,
                )  # fmt: skip


@njit(parallel=True, cache=True, error_model="numpy")
def weight_tasks(x_pad, dy, offsets, shape, loops, more, dw):  # type: ignore[no-untyped-def]
    """dw is laid out as (block of columns, row of the weights as a matrix, column in the block).

    How the tiles are shared out changes nothing in how each is summed.
    """
    groups, blocks = len(offsets) // GROUP, (shape[3] + WIDTH - 1) // WIDTH
    share = (blocks * groups + TASKS - 1) // TASKS
    parts = (groups + share - 1) // share
    for task in prange(blocks * parts):
        first, begin = task // parts * WIDTH, task % parts * share
        end = min(begin + share, groups)
        weight_tiles(
            x_pad, dy, offsets, first, (begin * GROUP, end * GROUP, GROUP), shape, loops, more, dw
        )


def weight_gradient(x: Array, dy: Array, p: Conv, dw: Array) -> None:
    """Write into dw (kh, kw, C, C') the weight gradient from x (N, H, W, C) of any dtype and dy.

    A few images at a time: each element of dw adds them up in order.
    """
    kh, kw, channels, columns = dw.shape
    (sh, sw), (_, height, across, _) = p.stride, dy.shape
    rows, wide = (height - 1) * sh + kh, (across - 1) * sw + kw
    plane = rows * wide * LANES
    x_size, dy_size = (
        plane * -(-channels // LANES),
        height * across * packed_columns(columns, WIDTH),
    )
    images = min(len(x), max(1, CHUNK // (x_size + dy_size)))
    x_pad, dy_packed = aligned(images * x_size), aligned(images * dy_size)
    i, j, c = (axis.reshape(-1) for axis in np.indices((kh, kw, channels)))
    offsets = c // LANES * plane + (i * wide + j) * LANES + c % LANES
    surplus = np.full(-len(offsets) % GROUP, offsets[-1])
    offsets = np.concatenate([offsets, surplus])
    loops = np.stack([
        steps(
            1, height, across, (x_size, height * across * width),
            (sh * wide * LANES, across * width), (sw * LANES, width),
        )
        for width in (WIDTH, LANES)
    ])  # fmt: skip
    tiles = aligned(len(offsets) * packed_columns(columns, WIDTH))
    for first in range(0, len(x), images):
        some = slice(first, first + images)
        lay_out(x[some], dy[some], *p.padding, rows, wide, x_pad, dy_packed)
        shape = (len(x[some]), height, max(1, PIXELS // across), columns)
        weight_tasks(x_pad, dy_packed, offsets, shape, loops, first > 0, tiles)
    unpack(tiles, len(offsets), WIDTH, dw.reshape(-1, columns))
