"""Winograd's minimal filtering F(4x4, 3x3) in float32 (Lavin and Gray 2016).

It takes 36 products where direct convolution takes 144.

Y = A^T [(G w G^T) . (B^T x B)] A for every 4x4 tile of the output; the products over channels
are 36 matrix products. The weight gradient turns the same identity around:
dw = G^T [(A dy A^T) . (B^T x B)] G, summed over tiles. Its rounding error is some ten times
that of the direct sum, so it is not used in float64.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.surrogate import Array
from refsnn.kernels.dense import GROUP, SIDE, Block, Stack, block_of, in_parts, products
from refsnn.kernels.layout import Correlation, Span, images_of
from refsnn.kernels.simd import LANES, aligned, contiguous
from refsnn.kernels.threads import begin, get_num_threads, share, take
from refsnn.kernels.transform import Grid, Inside, transformer

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
input_transform, output_transform = transformer(BT), transformer(AT)
add_output_transform = transformer(AT, adds=True)
weight_transform, cotangent_transform = transformer(G), transformer(AT.T)
product_transform = transformer(G.T)

TILES = 32  # tiles of SIDE channels at a time: the 36 products stay in the second-level cache
SHARING = 2  # groups of TILES that share transformed weights, with more than SIDE input channels
MOST = 8  # the same with fewer, of which only one group's products are held at a time
TASKS = 8  # tasks of a correlation at least, if there are tiles enough
SCRATCH = 36 * ((1 + SHARING) * TILES * SIDE + SIDE * SIDE + 4 * LANES) + 16 * LANES  # floats


class Tiling(NamedTuple):
    """The division of images into tiles of 4x4 outputs."""

    height: int
    width: int
    channels: int
    down: int  # tiles per image
    across: int
    top: int  # padding
    left: int


class Tilings(NamedTuple):
    """The tilings of a convolution's input and output."""

    x: Tiling
    y: Tiling


class Filters(NamedTuple):
    """Weights (3, 3, C_in, C_out) in a flat array, from the first tap or, flipped, the last."""

    data: Array
    at: int
    row: int  # from one tap to the next
    column: int
    c_in: int  # from one input channel to the next


def fits(c_in: int, c_out: int) -> bool:
    """Tell whether both numbers of channels are whole vectors."""
    return c_in % 16 == 0 and c_out % 16 == 0


@njit(cache=True, error_model="numpy")
def tiles_at_once(c_in, c_out):  # type: ignore[no-untyped-def]
    """Return the number of tiles per task: more if there are fewer channels."""
    return TILES * SIDE // min(SIDE, max(c_in, c_out)) // GROUP * GROUP


def tiling_of(x: tuple[int, ...], y: tuple[int, ...], padding: tuple[int, int] = (0, 0)) -> Tiling:
    """Return the tiling of images of a shape (N, H, W, C) for outputs of another."""
    (_, height, width, channels), (top, left) = x, padding
    return Tiling(height, width, channels, -(-y[1] // 4), -(-y[2] // 4), top, left)


@njit(cache=True, error_model="numpy")
def corner(tiling, t):  # type: ignore[no-untyped-def]
    """Return the image of the t-th tile, and its first row and column."""
    line = t // tiling.across
    r, s = 4 * (line % tiling.down) - tiling.top, 4 * (t % tiling.across) - tiling.left
    return line // tiling.down, r, s


@njit(cache=True, error_model="numpy")
def tile_of(tiling, t):  # type: ignore[no-untyped-def]
    """Return where the t-th tile begins in flat images, and which of its pixels lie inside."""
    n, r, s = corner(tiling, t)
    place = ((n * tiling.height + r) * tiling.width + s) * tiling.channels
    return place, Inside(-r, tiling.height - r, -s, tiling.width - s)


@njit(cache=True, error_model="numpy")
def transform_flat(x, tiling, tiles, inputs, v):  # type: ignore[no-untyped-def]
    """Do as `transform_tiles` with a flat x."""
    row = tiling.width * tiling.channels
    for k in range(tiles.size):
        place, inside = tile_of(tiling, tiles.first + k)
        for c in range(0, inputs.size, LANES):
            input_transform(
                Grid(x, place + inputs.first + c, row, tiling.channels),
                inside,
                Grid(v.data, v.at + k * v.row + c, 6 * v.pitch, v.pitch),
            )


@njit(cache=True, error_model="numpy", inline="always")
def transform_tiles(x, tiling, tiles, inputs, v):  # type: ignore[no-untyped-def]
    """Write B^T x B for some tiles and channels of `Images` to 36 matrices (tile, channel)."""
    if x.spikes.size:
        transform_flat(x.spikes.reshape(-1), tiling, tiles, inputs, v)
    else:
        transform_flat(x.numbers.reshape(-1), tiling, tiles, inputs, v)


@njit(cache=True, error_model="numpy")
def transform_cotangents(dy, tiling, tiles, outputs, d):  # type: ignore[no-untyped-def]
    """Write A dy A^T for some tiles and channels of dy, as `transform_tiles`."""
    row = tiling.width * tiling.channels
    for k in range(tiles.size):
        place, inside = tile_of(tiling, tiles.first + k)
        for c in range(0, outputs.size, LANES):
            cotangent_transform(
                Grid(dy, place + outputs.first + c, row, tiling.channels),
                inside,
                Grid(d.data, d.at + k * d.row + c, 6 * d.pitch, d.pitch),
            )


@njit(cache=True, error_model="numpy")
def transform_weights(filters, block, u):  # type: ignore[no-untyped-def]
    """Write G w G^T for a block of the weights to 36 matrices (input channel, output channel)."""
    begin = filters.at + block.inputs.first * filters.c_in + block.outputs.first
    for c in range(block.inputs.size):
        for k in range(0, block.outputs.size, LANES):
            weight_transform(
                Grid(filters.data, begin + c * filters.c_in + k, filters.row, filters.column),
                Inside(0, 3, 0, 3),
                Grid(u.data, u.at + c * u.row + k, 6 * u.pitch, u.pitch),
            )


@njit(cache=True, error_model="numpy")
def write_tiles(m, adds, y, tiling, tiles, outputs):  # type: ignore[no-untyped-def]
    """Write A^T m A to some tiles and channels of y, which is flat, or with `adds` add it to them.

    A tile that crosses y's edge goes through room for one tile at the end of m's memory.
    """
    aside, every, c_out = m.data.size - 16 * LANES, Inside(0, 6, 0, 6), tiling.channels
    for k in range(tiles.size):
        n, r, s = corner(tiling, tiles.first + k)
        rows, columns = min(4, tiling.height - r), min(4, tiling.width - s)
        place = ((n * tiling.height + r) * tiling.width + s) * c_out + outputs.first
        for c in range(0, outputs.size, LANES):
            source = Grid(m.data, m.at + k * m.row + c, 6 * m.pitch, m.pitch)
            if rows == 4 and columns == 4:
                target = Grid(y, place + c, tiling.width * c_out, c_out)
                if adds:
                    add_output_transform(source, every, target)
                else:
                    output_transform(source, every, target)
                continue
            output_transform(source, every, Grid(m.data, aside, 4 * LANES, LANES))
            for i in range(rows):
                for j in range(columns):
                    for lane in range(LANES):
                        at = place + c + (i * tiling.width + j) * c_out + lane
                        value = m.data[aside + (4 * i + j) * LANES + lane]
                        y[at] = y[at] + value if adds else value


@njit(cache=True, error_model="numpy", inline="always")
def correlate_block(x, filters, tilings, tiles, outputs, scratch, adds, y):  # type: ignore[no-untyped-def]
    """Write some tiles and output channels of y (N, H', W', C_out), by SIDE input channels.

    The tiles are taken `tiles_at_once`; they share the transformed weights. The scratch holds v, u
    and m: 36 matrices (tile, input channel), (input channel, output channel), (tile, output
    channel) each. With more than SIDE input channels it holds an m for each of SHARING groups.
    """
    c_in, columns = tilings.x.channels, outputs.size
    step, side = tiles_at_once(c_in, tilings.y.channels), min(SIDE, c_in)
    v_pitch, u_pitch, m_pitch = step * side + LANES, side * columns + LANES, step * columns + LANES
    u = Stack(scratch, 36 * v_pitch, u_pitch, columns, 1)
    for first in range(0, c_in, SIDE):
        inputs = Span(first, min(SIDE, c_in - first))
        v = Stack(scratch, 0, v_pitch, inputs.size, 1)
        transform_weights(filters, Block(inputs, outputs), u)
        for begun in range(0, tiles.size, step):
            some = Span(tiles.first + begun, min(step, tiles.size - begun))
            whole = some.size + -some.size % GROUP  # products of surplus tiles are not used
            group = begun // step if c_in > SIDE else 0
            m = Stack(scratch, 36 * (v_pitch + u_pitch + group * m_pitch), m_pitch, columns, 1)
            transform_tiles(x, tilings.x, some, inputs, v)
            products((np.int64(36), whole, inputs.size, columns), v, u, m, first > 0)
            if first + SIDE >= c_in:
                write_tiles(m, adds, y.reshape(-1), tilings.y, some, outputs)


@njit(nogil=True, cache=True, error_model="numpy")
def correlate_tasks(tasks, own, x, filters, tilings, step, scratch, adds, y):  # type: ignore[no-untyped-def]
    """Split y into tasks, each of `step` tiles and some output channels."""
    c_out = y.shape[3]
    blocks = -(-c_out // SIDE)
    total = y.shape[0] * tilings.y.down * tilings.y.across
    task = begin(tasks, own)
    while task >= 0:
        begun, first = task // blocks * step, task % blocks * SIDE
        tiles, outputs = (
            Span(begun, min(step, total - begun)),
            Span(first, min(SIDE, c_out - first)),
        )
        correlate_block(x, filters, tilings, tiles, outputs, scratch[own], adds, y)
        task = take(tasks, own)


def correlate(x: Array, w: Array, flip: bool, g: Correlation, y: Array, adds: bool = False) -> None:
    """Write the whole of y, or with `adds` add to it.

    x is (N, H, W, C_in), float32 or uint8, w (3, 3, C_in, C_out), and the stride 1.
    With `flip`, the taps are used from last to first, as in the input gradient. A task owns some
    tiles and channels of y; its data fits in its core's cache.
    """
    c_in, c_out = w.shape[2:]
    size = c_in * c_out
    at, row, column = (8 * size, -3 * size, -size) if flip else (0, 3 * size, size)
    filters = Filters(contiguous(w).reshape(-1), at, row, column, c_out)
    scratch = aligned(get_num_threads(), SCRATCH)
    tilings = Tilings(tiling_of(x.shape, y.shape, g.before), tiling_of(y.shape, y.shape))
    total, blocks = len(y) * tilings.y.down * tilings.y.across, -(-c_out // SIDE)
    groups = -(-total // tiles_at_once(c_in, c_out))
    sharing = max(1, min(SHARING if c_in > SIDE else MOST, groups * blocks // TASKS))
    step = sharing * tiles_at_once(c_in, c_out)
    given = images_of(x), filters, tilings, step, scratch, adds, y
    share(correlate_tasks, -(-total // step) * blocks, *given, threads=len(scratch))


@njit(cache=True, error_model="numpy", inline="always")
def gradient_block(x, dy, tilings, tiles, block, scratch, dw):  # type: ignore[no-untyped-def]
    """Sum a block of dw, which is flat (3, 3, C_in, C_out), over the tiles of a few images.

    The scratch holds v, d and du: 36 matrices (tile, input channel), (tile, output channel),
    (input channel, output channel) each.
    """
    high, wide = block.inputs.size, block.outputs.size
    c_in, c_out, flat_dy = tilings.x.channels, tilings.y.channels, dy.reshape(-1)
    step = tiles_at_once(c_in, c_out)
    v = Stack(scratch, 0, step * high + LANES, high, 1)
    turned = Stack(scratch, 0, v.pitch, 1, high)
    d = Stack(scratch, 36 * v.pitch, step * wide + LANES, wide, 1)
    du = Stack(scratch, 36 * (v.pitch + d.pitch), high * wide + LANES, wide, 1)
    for begun in range(0, tiles.size, step):
        some = Span(tiles.first + begun, min(step, tiles.size - begun))
        transform_tiles(x, tilings.x, some, block.inputs, v)
        transform_cotangents(flat_dy, tilings.y, some, block.outputs, d)
        products((np.int64(36), high, some.size, wide), turned, d, du, begun > 0)
    size = c_in * c_out
    place = block.inputs.first * c_out + block.outputs.first
    for c in range(high):
        for k in range(0, wide, LANES):
            product_transform(
                Grid(du.data, du.at + c * du.row + k, 6 * du.pitch, du.pitch),
                Inside(0, 6, 0, 6),
                Grid(dw, place + c * c_out + k, 3 * size, size),
            )


@njit(nogil=True, cache=True, error_model="numpy")
def gradient_tasks(tasks, own, x, dy, tilings, images, scratch, partial):  # type: ignore[no-untyped-def]
    """Sum each task's block over its images, into its part of `partial`."""
    each = tilings.x.down * tilings.x.across
    task = begin(tasks, own)
    while task >= 0:
        part, block = block_of(task, tilings.x.channels, tilings.y.channels, SIDE)
        tiles = Span(part * images * each, min(images, dy.shape[0] - part * images) * each)
        gradient_block(x, dy, tilings, tiles, block, scratch[own], partial[part])
        task = take(tasks, own)


def weight_gradient(x: Array, dy: Array, padding: tuple[int, int], dw: Array) -> None:
    """Write into dw (3, 3, C_in, C_out) from x (N, H, W, C_in) float32 or uint8, and dy; stride 1.

    It is split into tasks as `dense.weight_gradient`.
    """
    scratch, given = aligned(get_num_threads(), SCRATCH), images_of(x)
    tilings = Tilings(tiling_of(x.shape, dy.shape, padding), tiling_of(dy.shape, dy.shape))

    def work(images: int, tasks: int, partial: Array) -> None:
        arguments = given, dy, tilings, images, scratch, partial
        share(gradient_tasks, tasks, *arguments, threads=len(scratch))

    in_parts(len(x), dw, work)
