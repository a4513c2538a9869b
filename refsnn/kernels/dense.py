"""Dense convolution in float32: all three directions are sums of `simd.tile`s.

Nothing is unfolded (im2col) but for a few pixels at a time: a tile finds its window by
offsets into a padded copy of its images. A task is a few images (forward, input gradient),
or a block of the weights and some images (their gradient), whatever the number of threads.
"""

from collections.abc import Callable

import numpy as np
from numba import get_num_threads, get_thread_id, njit, prange

from refsnn.equations.conv import Conv
from refsnn.equations.surrogate import Array
from refsnn.kernels.layout import Correlation, pack, packed_columns, pad_image
from refsnn.kernels.simd import LANES, ROWS, aligned, copy_vector, narrow_tile, tile, whole_vectors

WIDTH = 2 * LANES  # columns of a block of weights; the last block may have LANES
GROUP = 2 * ROWS  # pixels, or channels, of a group: as many as LANES
PIXELS = 128  # a task of images at least
SIDE = 64  # channels and columns of a block of the weights' gradient
PARTS = 16  # that a gradient's sum is shared out to, blocks times groups of images
SUM = 1 << 12  # elements a task, where the parts are added up


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
                    scratch,
                    0,
                    source,
                    group,
                    w,
                    first * depth,
                    loops,
                    width,
                    y,
                    first,
                    target,
                    group,
                    False,
                )
                continue
            product(
                scratch,
                0,
                source,
                group,
                w,
                first * depth,
                loops,
                width,
                scratch,
                aside,
                lines * width,
                0,
                False,
            )
            for q in range(min(GROUP, count - group)):
                at = aside + q * width - first
                for c in range(first, min(columns, first + width)):
                    y[target[group + q] + c] = scratch[at + c]


@njit(parallel=True, cache=True, error_model="numpy")
def correlate_tasks(x, w, columns, g, images, source, target, loops, y, scratch):  # type: ignore[no-untyped-def]
    for task in prange((x.shape[0] + images - 1) // images):
        first, last = task * images, min((task + 1) * images, x.shape[0])
        correlate_images(
            x[first:last],
            w,
            columns,
            g,
            source,
            target,
            loops,
            y[first:last].reshape(-1),
            scratch[get_thread_id()],
        )


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
        steps(1, kh, kw * channels, (0, 0), (wide * channels, kw * channels * width), (1, width))
        for width in (WIDTH, LANES)
    ]
    scratch = aligned(
        get_num_threads(), whole_vectors(images * rows * wide * channels) + GROUP * WIDTH
    )
    correlate_tasks(
        x,
        packed,
        columns,
        (*g.before, rows, wide, pixels),
        images,
        np.concatenate([source, surplus]),
        target,
        np.stack(loops),
        y,
        scratch,
    )


@njit(cache=True, error_model="numpy")
def products(  # type: ignore[no-untyped-def]
    scratch, places, a_rows, a_pitch, b_at, b_pitch, columns, loops, c_at, c_rows, c_pitch, more
):
    """Products of small matrices that stand in a scratch, `*_pitch` apart; `*_rows` are the
    beginnings of a's and c's rows, `columns` whole vectors."""
    for place in range(places):
        for k in range(0, columns, WIDTH):
            for row in range(0, a_rows.size, GROUP):
                product(
                    scratch,
                    place * a_pitch,
                    a_rows,
                    row,
                    scratch,
                    b_at + place * b_pitch + k,
                    loops,
                    min(WIDTH, columns - k),
                    scratch,
                    c_at + place * c_pitch + k,
                    c_rows,
                    row,
                    more,
                )


@njit(cache=True, error_model="numpy")
def copy_row(x, at, width, target, to):  # type: ignore[no-untyped-def]
    """`width` numbers of x, filled up with zeros to whole vectors."""
    whole = width // LANES * LANES
    for c in range(0, whole, LANES):
        copy_vector(x, at + c, target, to + c)
    if whole < width:
        for c in range(whole, width):
            target[to + c] = x[at + c]
        target[to + width : to + whole + LANES] = 0


@njit(cache=True, error_model="numpy")
def gather(x, shape, begun, count, first, width, target, pitch):  # type: ignore[no-untyped-def]
    """`width` channels, from the first on, of what each tap meets in `count` pixels of y, of x flat
    (n, H, W, C): as often as there are taps (pixel, channel), `pitch` apart, in the target."""
    height, across, channels, down, over, kh, kw, sh, sw, top, left = shape
    padded = -(-width // LANES) * LANES
    for k in range(count):
        t = begun + k
        r, s = t // over % down * sh - top, t % over * sw - left
        image = t // (down * over) * height
        for i in range(kh):
            for j in range(kw):
                at = (i * kw + j) * pitch + k * padded
                if 0 <= r + i < height and 0 <= s + j < across:
                    place = ((image + r + i) * across + s + j) * channels + first
                    copy_row(x, place, width, target, at)
                else:
                    target[at : at + padded] = 0


@njit(cache=True, error_model="numpy")
def gradient_block(x, dy, window, block, scratch, dw):  # type: ignore[no-untyped-def]
    """A block of channels and columns of dw flat (kh, kw, C, C'), from a few images.

    The scratch holds v, d and dw's block: as often as there are taps (pixel, channel), once
    (pixel, column), as often as there are taps (channel, column).
    """
    first, width, begin, columns = block
    taps, row = window[0] * window[1], dy.shape[3]
    high, wide = -(-width // LANES) * LANES, -(-columns // LANES) * LANES
    v_pitch = PIXELS * high + LANES
    dw_pitch = high * wide + LANES
    d_at = taps * v_pitch
    dw_at = d_at + PIXELS * wide
    shape = (*x.shape[1:], dy.shape[1], dy.shape[2], *window)
    pixels, cotangents = x.reshape(-1), dy.reshape(-1)
    rows = np.arange(high)
    loops = np.ones((2, 9), np.int64)
    loops[:, 7], loops[:, 8] = high, wide  # a pixel further in v and d
    total = x.shape[0] * dy.shape[1] * dy.shape[2]
    for begun in range(0, total, PIXELS):
        count = min(PIXELS, total - begun)
        gather(pixels, shape, begun, count, first, width, scratch, v_pitch)
        for k in range(count):
            copy_row(cotangents, (begun + k) * row + begin, columns, scratch, d_at + k * wide)
        loops[:, 2] = count
        products(
            scratch,
            taps,
            rows,
            v_pitch,
            d_at,
            0,
            wide,
            loops,
            dw_at,
            rows * wide,
            dw_pitch,
            begun > 0,
        )
    for tap in range(taps):
        for c in range(width):
            at = dw_at + tap * dw_pitch + c * wide
            place = (tap * x.shape[3] + first + c) * row + begin
            for k in range(columns):
                dw[place + k] = scratch[at + k]


@njit(cache=True, error_model="numpy")
def block_of(task, channels, columns):  # type: ignore[no-untyped-def]
    """The part that a task belongs to, and (channel, how many, column, how many) of its block."""
    high, wide = -(-channels // SIDE), -(-columns // SIDE)
    first, begin = task // wide % high * SIDE, task % wide * SIDE
    return task // (high * wide), (
        first,
        min(SIDE, channels - first),
        begin,
        min(SIDE, columns - begin),
    )


@njit(parallel=True, cache=True, error_model="numpy")
def gradient_tasks(x, dy, window, images, tasks, scratch, partial):  # type: ignore[no-untyped-def]
    for task in prange(tasks):
        part, block = block_of(task, x.shape[3], dy.shape[3])
        some = slice(part * images, (part + 1) * images)
        gradient_block(x[some], dy[some], window, block, scratch[get_thread_id()], partial[part])


@njit(parallel=True, cache=True, error_model="numpy")
def add_parts(partial, dw):  # type: ignore[no-untyped-def]
    for task in prange((dw.size + SUM - 1) // SUM):
        for k in range(task * SUM, min((task + 1) * SUM, dw.size)):
            dw[k] = partial[0, k]
        for part in range(1, partial.shape[0]):
            for k in range(task * SUM, min((task + 1) * SUM, dw.size)):
                dw[k] += partial[part, k]


def in_parts(images: int, dw: Array, work: Callable[[int, int, Array], None]) -> None:
    """Let `work(images of a part, tasks, partial)` write the sums over each part's images to
    partial (part, dw.size), and add them up. A task is a block of a part."""
    blocks = -(-dw.shape[2] // SIDE) * -(-dw.shape[3] // SIDE)
    share = -(-images // max(1, min(images, -(-PARTS // blocks))))
    parts = -(-images // share)
    partial = dw.reshape(1, -1) if parts == 1 else aligned(parts, dw.size)
    work(share, parts * blocks, partial)
    if parts > 1:
        add_parts(partial, dw.reshape(-1))


def weight_gradient(x: Array, dy: Array, p: Conv, dw: Array) -> None:
    """Write into dw (kh, kw, C, C') from x (N, H, W, C), float32 or uint8, and dy.

    A task owns a block of dw, SIDE by SIDE, and some images, and gathers what it needs: all
    that it works on stays in its core's cache.
    """
    kh, kw = dw.shape[:2]
    high, wide = (whole_vectors(min(SIDE, n)) for n in dw.shape[2:])
    size = kh * kw * (PIXELS * high + high * wide + 2 * LANES) + PIXELS * wide
    scratch, window = aligned(get_num_threads(), size), (kh, kw, *p.stride, *p.padding)
    in_parts(
        len(x),
        dw,
        lambda share, tasks, partial: gradient_tasks(x, dy, window, share, tasks, scratch, partial),
    )
