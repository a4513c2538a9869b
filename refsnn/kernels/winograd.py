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
from refsnn.kernels.dense import GROUP, SIDE, block_of, in_parts, products
from refsnn.kernels.layout import Correlation
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

TILES = 32  # at a time, of SIDE channels: the 36 products stay in the second-level cache
SCRATCH = 36 * (2 * TILES * SIDE + SIDE * SIDE + 3 * LANES) + 16 * LANES  # floats of a thread


def fits(channels: int, columns: int) -> bool:
    """Whole vectors of both."""
    return channels % 16 == 0 and columns % 16 == 0


@njit(cache=True, error_model="numpy")
def tiles_at_once(channels, columns):  # type: ignore[no-untyped-def]
    """More of them where there are fewer channels."""
    return TILES * SIDE // min(SIDE, max(channels, columns)) // GROUP * GROUP


@njit(cache=True, error_model="numpy")
def transform_tiles(x, shape, top, left, begun, count, first, width, target, pitch):  # type: ignore[no-untyped-def]
    """B^T x B of `count` tiles and `width` channels, from the `begun`-th tile and the first channel
    on, of x flat (n, H, W, C): 36 times (tile, channel), `pitch` apart, in the target."""
    height, across, channels, down, over = shape
    for k in range(count):
        t = begun + k
        r, s = 4 * (t // over % down) - top, 4 * (t % over) - left
        inside = -r, height - r, -s, across - s
        place = ((t // (down * over) * height + r) * across + s) * channels + first
        for c in range(0, width, LANES):
            of_input(
                x,
                place + c,
                across * channels,
                channels,
                inside,
                target,
                k * width + c,
                6 * pitch,
                pitch,
            )


@njit(cache=True, error_model="numpy")
def transform_cotangents(dy, shape, begun, count, first, width, target, at, pitch):  # type: ignore[no-untyped-def]
    """A dy A^T, as `transform_tiles`, from target[at] on."""
    height, across, columns, down, over = shape
    for k in range(count):
        t = begun + k
        r, s = 4 * (t // over % down), 4 * (t % over)
        inside = 0, height - r, 0, across - s
        place = ((t // (down * over) * height + r) * across + s) * columns + first
        for c in range(0, width, LANES):
            of_cotangent(
                dy,
                place + c,
                across * columns,
                columns,
                inside,
                target,
                at + k * width + c,
                6 * pitch,
                pitch,
            )


@njit(cache=True, error_model="numpy")
def transform_weights(w, at, steps, channels, columns, target, begin, pitch):  # type: ignore[no-untyped-def]
    """G w G^T of a block of the weights: (channel, column) from target[begin] on, 36 times."""
    row, column, across = steps  # from one to the next in w
    for c in range(channels):
        for k in range(0, columns, LANES):
            of_weights(
                w,
                at + c * across + k,
                row,
                column,
                (0, 3, 0, 3),
                target,
                begin + c * columns + k,
                6 * pitch,
                pitch,
            )


@njit(cache=True, error_model="numpy")
def write_tiles(m, at, pitch, width, y, shape, begun, count, first):  # type: ignore[no-untyped-def]
    """`count` tiles and `width` columns of y flat (n, H', W', C'), from m[at:], which holds them as
    `transform_tiles` leaves them.

    What hangs over y's edge goes through the room for one tile at the end of m.
    """
    height, across, columns, down, over = shape
    aside, every = m.size - 16 * LANES, (0, 6, 0, 6)
    for k in range(count):
        t = begun + k
        r, s = 4 * (t // over % down), 4 * (t % over)
        rows, wide = min(4, height - r), min(4, across - s)
        place = ((t // (down * over) * height + r) * across + s) * columns + first
        for c in range(0, width, LANES):
            source = at + k * width + c
            if rows == 4 and wide == 4:
                of_output(
                    m, source, 6 * pitch, pitch, every, y, place + c, across * columns, columns
                )
                continue
            of_output(m, source, 6 * pitch, pitch, every, m, aside, 4 * LANES, LANES)
            for i in range(rows):
                for j in range(wide):
                    for lane in range(LANES):
                        y[place + c + (i * across + j) * columns + lane] = m[
                            aside + (4 * i + j) * LANES + lane
                        ]


@njit(cache=True, error_model="numpy")
def correlate_block(x, w, w_at, w_steps, top, left, block, scratch, y):  # type: ignore[no-untyped-def]
    """A few tiles of y (N, H', W', C') and a block of its columns, channels after channels.

    The scratch holds v, u and m: 36 times (tile, channel), (channel, column), (tile, column).
    """
    begun, count, first, columns = block
    channels, height, across = x.shape[3], y.shape[1], y.shape[2]
    grid = -(-height // 4), -(-across // 4)
    pixels, shape = x.reshape(-1), (x.shape[1], x.shape[2], channels, *grid)
    whole = count + -count % GROUP
    side = min(SIDE, channels)
    v_pitch, u_pitch, m_pitch = (
        whole * side + LANES,
        side * columns + LANES,
        whole * columns + LANES,
    )
    u_at, m_at = 36 * v_pitch, 36 * (v_pitch + u_pitch)
    tiles = np.arange(whole)
    target, loops = tiles * columns, np.ones((2, 9), np.int64)
    loops[:, 8] = columns  # a channel further in u
    for begin in range(0, channels, SIDE):
        width = min(SIDE, channels - begin)
        source, loops[:, 2] = tiles * width, width
        transform_tiles(pixels, shape, top, left, begun, count, begin, width, scratch, v_pitch)
        for place in range(36):  # surplus tiles of the last group
            scratch[place * v_pitch + count * width : place * v_pitch + whole * width] = 0
        at = w_at + begin * w_steps[2] + first
        transform_weights(w, at, w_steps, width, columns, scratch, u_at, u_pitch)
        products(
            scratch,
            36,
            source,
            v_pitch,
            u_at,
            u_pitch,
            columns,
            loops,
            m_at,
            target,
            m_pitch,
            begin > 0,
        )
    shape = height, across, y.shape[3], *grid
    write_tiles(scratch, m_at, m_pitch, columns, y.reshape(-1), shape, begun, count, first)


@njit(parallel=True, cache=True, error_model="numpy")
def correlate_tasks(x, w, w_at, w_steps, top, left, scratch, y):  # type: ignore[no-untyped-def]
    columns = y.shape[3]
    blocks = -(-columns // SIDE)
    tiles = y.shape[0] * -(-y.shape[1] // 4) * -(-y.shape[2] // 4)
    step = tiles_at_once(x.shape[3], columns)
    for task in prange(-(-tiles // step) * blocks):
        begun, first = task // blocks * step, task % blocks * SIDE
        block = begun, min(step, tiles - begun), first, min(SIDE, columns - first)
        correlate_block(x, w, w_at, w_steps, top, left, block, scratch[get_thread_id()], y)


def correlate(x: Array, w: Array, flip: bool, g: Correlation, y: Array) -> None:
    """Write the whole of y: x (N, H, W, C) float32 or uint8, w (3, 3, C, columns), stride 1.

    `flip`: from the last tap to the first, as the input gradient has them. A task owns some
    tiles and columns of y, and transforms what it needs: all that it works on stays in its
    core's cache.
    """
    columns = w.shape[3]
    size = w.shape[2] * columns
    at, row, column = (8 * size, -3 * size, -size) if flip else (0, 3 * size, size)
    scratch = aligned(get_num_threads(), SCRATCH)
    correlate_tasks(
        x, np.ascontiguousarray(w).reshape(-1), at, (row, column, columns), *g.before, scratch, y
    )


@njit(cache=True, error_model="numpy")
def gradient_block(x, dy, top, left, block, scratch, dw):  # type: ignore[no-untyped-def]
    """A block of channels and columns of dw flat (3, 3, C, C'), from a few images.

    The scratch holds v, d and du: 36 times (tile, channel), (tile, column), (channel, column).
    """
    first, width, begin, columns = block
    grid = -(-dy.shape[1] // 4), -(-dy.shape[2] // 4)
    x_shape, dy_shape = (*x.shape[1:], *grid), (*dy.shape[1:], *grid)
    pixels, cotangents = x.reshape(-1), dy.reshape(-1)
    step = tiles_at_once(x.shape[3], dy.shape[3])
    v_pitch, d_pitch, du_pitch = (
        step * width + LANES,
        step * columns + LANES,
        width * columns + LANES,
    )
    d_at, du_at = 36 * v_pitch, 36 * (v_pitch + d_pitch)
    rows = np.arange(width)
    loops = np.ones((2, 9), np.int64)
    loops[:, 7], loops[:, 8] = width, columns  # a tile further in v and d
    tiles = x.shape[0] * grid[0] * grid[1]
    for begun in range(0, tiles, step):
        count = min(step, tiles - begun)
        transform_tiles(pixels, x_shape, top, left, begun, count, first, width, scratch, v_pitch)
        transform_cotangents(
            cotangents, dy_shape, begun, count, begin, columns, scratch, d_at, d_pitch
        )
        loops[:, 2] = count
        products(
            scratch,
            36,
            rows,
            v_pitch,
            d_at,
            d_pitch,
            columns,
            loops,
            du_at,
            rows * columns,
            du_pitch,
            begun > 0,
        )
    row = dy.shape[3]
    size = x.shape[3] * row
    for c in range(width):
        for k in range(0, columns, LANES):
            of_products(
                scratch,
                du_at + c * columns + k,
                6 * du_pitch,
                du_pitch,
                (0, 6, 0, 6),
                dw,
                (first + c) * row + begin + k,
                3 * size,
                size,
            )


@njit(parallel=True, cache=True, error_model="numpy")
def gradient_tasks(x, dy, top, left, images, tasks, scratch, partial):  # type: ignore[no-untyped-def]
    for task in prange(tasks):
        part, block = block_of(task, x.shape[3], dy.shape[3])
        some = slice(part * images, (part + 1) * images)
        gradient_block(x[some], dy[some], top, left, block, scratch[get_thread_id()], partial[part])


def weight_gradient(x: Array, dy: Array, padding: tuple[int, int], dw: Array) -> None:
    """Write into dw (3, 3, C, C') from x (N, H, W, C) float32 or uint8, and dy; stride 1.

    Shared out as `dense.weight_gradient`.
    """
    scratch = aligned(get_num_threads(), SCRATCH)
    in_parts(
        len(x),
        dw,
        lambda share, tasks, partial: gradient_tasks(
            x, dy, *padding, share, tasks, scratch, partial
        ),
    )
