"""Winograd's minimal filtering F(4x4, 3x3) in float32 (Lavin and Gray 2016): 36 products where
direct convolution takes 144.

Y = A^T [(G w G^T) . (B^T x B)] A for every 4x4 tile of the output; the products over channels
are 36 matrix products. The weight gradient turns the same identity around:
dw = G^T [(A dy A^T) . (B^T x B)] G, summed over tiles. Its rounding is some ten times
that of the direct sum, so it is never used in float64.
"""

import numpy as np
from numba import get_num_threads, get_thread_id, njit, prange

from refsnn.equations.surrogate import Array
from refsnn.kernels.dense import GROUP, WIDTH, product, steps
from refsnn.kernels.layout import Correlation, pad_image
from refsnn.kernels.simd import LANES, aligned, transformer

AT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
BT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / np.array(
    [[24], [24], [24], [24], [24], [24]]
)
of_input, of_output, of_weights = transformer(BT), transformer(AT), transformer(G)
of_cotangent, of_products = transformer(AT.T), transformer(G.T)

TILES = 32  # of a task, at least
CHUNK = 1 << 20  # floats that a weight gradient transforms at a time


def fits(channels: int, columns: int) -> bool:
    """Whole vectors of both."""
    return channels % 16 == 0 and columns % 16 == 0


@njit(parallel=True, cache=True, error_model="numpy")
def transform_weights(w, channels, columns, flip, pitch, u):  # type: ignore[no-untyped-def]
    """w flat (3, 3, channels, columns) -> u: 36 times blocks of columns (channels, WIDTH)."""
    size = channels * columns
    at, row, column = (8 * size, -3 * size, -size) if flip else (0, 3 * size, size)
    for c in prange(channels):
        for first in range(0, columns, WIDTH):
            width = WIDTH if columns - first > LANES else LANES
            for k in range(0, width, LANES):
                of_weights(
                    w, at + c * columns + first + k, row, column,
                    u, first * channels + c * width + k, 6 * pitch, pitch,
                )  # fmt: skip


@njit(cache=True, error_model="numpy")
def correlate_images(x, u, columns, g, loops, y, scratch):  # type: ignore[no-untyped-def]
    """A few images: x (n, H, W, C), y (n, H', W', columns)."""
    top, left, down, across, u_pitch = g
    images, channels = x.shape[0], x.shape[3]
    height, width_y = y.shape[1], y.shape[2]
    rows, wide = 4 * down + 2, 4 * across + 2
    tiles = images * down * across
    whole = tiles + -tiles % GROUP
    v_pitch, m_pitch = whole * channels + LANES, whole * columns + LANES
    m_at = 36 * v_pitch
    x_at = m_at + 36 * m_pitch
    aside = x_at + rows * wide * channels
    for n in range(images):
        pad_image(x[n], top, left, rows, wide, scratch, x_at)
        for r in range(down):
            for s in range(across):
                t = (n * down + r) * across + s
                for c in range(0, channels, LANES):
                    of_input(
                        scratch, x_at + (4 * r * wide + 4 * s) * channels + c, wide * channels,
                        channels, scratch, t * channels + c, 6 * v_pitch, v_pitch,
                    )  # fmt: skip
    for place in range(36):  # surplus tiles of the last group
        scratch[place * v_pitch + tiles * channels : place * v_pitch + whole * channels] = 0
    source, target = np.arange(whole) * channels, np.arange(whole) * columns
    for place in range(36):
        for first in range(0, columns, WIDTH):
            width = WIDTH if columns - first > LANES else LANES
            for group in range(0, whole, GROUP):
                product(
                    scratch, place * v_pitch, source, group,
                    u, place * u_pitch + first * channels, loops, width,
                    scratch, m_at + place * m_pitch + first, target, group, False,
                )  # fmt: skip
    out = y.reshape(-1)
    for t in range(tiles):
        n, r, s = t // (down * across), t // across % down * 4, t % across * 4
        inside = r + 4 <= height and s + 4 <= width_y
        place = ((n * height + r) * width_y + s) * columns
        for c in range(0, columns, LANES):
            at = m_at + t * columns + c
            if inside:
                of_output(
                    scratch, at, 6 * m_pitch, m_pitch, out, place + c, width_y * columns, columns
                )
                continue
            of_output(scratch, at, 6 * m_pitch, m_pitch, scratch, aside, 4 * LANES, LANES)
            for i in range(min(4, height - r)):
                for j in range(min(4, width_y - s)):
                    for k in range(LANES):
                        y[n, r + i, s + j, c + k] = scratch[aside + (4 * i + j) * LANES + k]


@njit(parallel=True, cache=True, error_model="numpy")
def correlate_tasks(x, u, columns, g, images, loops, y, scratch):  # type: ignore[no-untyped-def]
    for task in prange((x.shape[0] + images - 1) // images):
        first, last = task * images, min((task + 1) * images, x.shape[0])
        correlate_images(
            x[first:last], u, columns, g, loops, y[first:last], scratch[get_thread_id()]
        )


def correlate(x: Array, w: Array, flip: bool, g: Correlation, y: Array) -> None:
    """Write the whole of y: x (N, H, W, C) of any dtype, w (3, 3, C, columns), stride 1.

    `flip`: from the last tap to the first, as the input gradient has them.
    """
    channels, columns = w.shape[2:]
    pitch = channels * columns + LANES  # no power of two, or all 36 would share cache lines
    u = aligned(36 * pitch)
    transform_weights(np.ascontiguousarray(w).reshape(-1), channels, columns, flip, pitch, u)
    down, across = (-(-n // 4) for n in g.out)
    images = min(len(x), max(1, TILES // (down * across)))
    tiles = -(-images * down * across // GROUP) * GROUP
    size = 36 * (tiles * (channels + columns) + 2 * LANES)
    size += (4 * down + 2) * (4 * across + 2) * channels + 16 * LANES
    correlate_tasks(
        x, u, columns, (*g.before, down, across, pitch), images, inner_loops(channels), y,
        aligned(get_num_threads(), size),
    )  # fmt: skip


def inner_loops(depth: int, a_step: int = 1) -> Array:
    """A plain product, b in blocks of columns."""
    return np.stack(
        [steps(1, 1, depth, (0, 0), (0, 0), (a_step, width)) for width in (WIDTH, LANES)]
    )


@njit(parallel=True, cache=True, error_model="numpy")
def transform_images(x, dy, top, left, down, across, v, v_pitch, d, d_pitch, scratch):  # type: ignore[no-untyped-def]
    """v: 36 times (tiles, C) of x; d: 36 times blocks of columns (tiles, WIDTH) of dy."""
    images, channels, columns = x.shape[0], x.shape[3], dy.shape[3]
    rows, wide = 4 * down + 2, 4 * across + 2
    tiles = images * down * across
    for n in prange(images):
        own = scratch[get_thread_id()]
        pad_image(x[n], top, left, rows, wide, own, 0)
        for r in range(down):
            for s in range(across):
                t = (n * down + r) * across + s
                for c in range(0, channels, LANES):
                    of_input(
                        own, (4 * r * wide + 4 * s) * channels + c, wide * channels, channels,
                        v, t * channels + c, 6 * v_pitch, v_pitch,
                    )  # fmt: skip
        pad_image(dy[n], 0, 0, 4 * down, 4 * across, own, 0)
        for r in range(down):
            for s in range(across):
                t = (n * down + r) * across + s
                for c in range(0, columns, LANES):
                    first = c // WIDTH * WIDTH
                    width = WIDTH if columns - first > LANES else LANES
                    of_cotangent(
                        own, (16 * r * across + 4 * s) * columns + c, 4 * across * columns,
                        columns, d, first * tiles + t * width + c - first, 6 * d_pitch, d_pitch,
                    )  # fmt: skip


@njit(parallel=True, cache=True, error_model="numpy")
def multiply(v, v_pitch, d, d_pitch, tiles, channels, columns, loops, more, du, du_pitch):  # type: ignore[no-untyped-def]
    """du: 36 times blocks of columns (C, WIDTH)."""
    blocks = (columns + WIDTH - 1) // WIDTH
    rows = np.arange(channels)
    for task in prange(36 * blocks):
        place, first = task // blocks, task % blocks * WIDTH
        width = WIDTH if columns - first > LANES else LANES
        target = rows * width
        for c in range(0, channels, GROUP):
            product(
                v, place * v_pitch, rows, c, d, place * d_pitch + first * tiles, loops, width,
                du, place * du_pitch + first * channels, target, c, more,
            )  # fmt: skip


@njit(parallel=True, cache=True, error_model="numpy")
def transform_products(du, du_pitch, channels, columns, dw):  # type: ignore[no-untyped-def]
    """dw flat (3, 3, C, columns)."""
    size = channels * columns
    for c in prange(channels):
        for k in range(0, columns, LANES):
            first = k // WIDTH * WIDTH
            width = WIDTH if columns - first > LANES else LANES
            of_products(
                du, first * channels + c * width + k - first, 6 * du_pitch, du_pitch,
                dw, c * columns + k, 3 * size, size,
            )  # fmt: skip


def weight_gradient(x: Array, dy: Array, padding: tuple[int, int], dw: Array) -> None:
    """Write into dw (3, 3, C, C') from x (N, H, W, C) of any dtype and dy; stride 1.

    A few images at a time: each product adds them up in order.
    """
    channels, columns = dw.shape[2:]
    down, across = (-(-n // 4) for n in dy.shape[1:3])
    per_image = 36 * down * across * (channels + columns)
    images = min(len(x), max(1, CHUNK // per_image))
    tiles = images * down * across
    v_pitch, d_pitch = tiles * channels + LANES, tiles * columns + LANES
    v, d = aligned(36 * v_pitch), aligned(36 * d_pitch)
    du_pitch = channels * columns + LANES
    du = aligned(36 * du_pitch)
    size = (4 * down + 2) * (4 * across + 2) * max(channels, columns)
    scratch = aligned(get_num_threads(), size)
    for first in range(0, len(x), images):
        some = slice(first, first + images)
        count = len(x[some]) * down * across
        transform_images(x[some], dy[some], *padding, down, across, v, v_pitch, d, d_pitch, scratch)
        multiply(
            v, v_pitch, d, d_pitch, count, channels, columns, inner_loops(count, channels),
            first > 0, du, du_pitch,
        )  # fmt: skip
    transform_products(du, du_pitch, channels, columns, dw.reshape(-1))
