"""The compiled tiles against their twins in Python.

Of whole numbers nothing is rounded, so any order of a sum gives the same. Around what is written
nothing may change.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, njit

from refsnn.kernels import tile as kernels
from refsnn.kernels.simd import LANES, ROWS, Flat
from refsnn.kernels.tile import Loops, Rows, tile_twin

COMPILED = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the twins are what runs")
modest = settings(deadline=None, max_examples=100, derandomize=True)
EPS = np.finfo(np.float32).eps


@njit
def tile(a, b, loops, c, accumulate):
    kernels.tile(a, b, loops, c, accumulate)


@njit
def narrow_tile(a, b, loops, c, accumulate):
    kernels.narrow_tile(a, b, loops, c, accumulate)


TILES = pytest.mark.parametrize(
    ("compiled_tile", "rows", "width"),
    [(tile, ROWS, 2 * LANES), (narrow_tile, 2 * ROWS, LANES)],
    ids=["tile", "narrow tile"],
)


def product_of(rows, width, counts, whole, seed=0):
    """The arguments of a tile up to c: some rows are given twice, some steps are 0 or back."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 9, (3, 2)) * (1, 3)
    a_at, b_at, a_first, c_at, c_first = (int(n) for n in rng.integers(0, 9, 5))
    offsets = rng.integers(0, 50, a_first + rows)
    reach = (np.array(counts) - 1) @ steps
    a, b, c = rng.normal(size=200), rng.normal(size=400), rng.normal(size=2000)
    a, b = np.resize(a, a_at + 50 + reach[0]), np.resize(b, b_at + width + reach[1])
    if whole:
        a, b, c = (np.rint(4 * x) for x in (a, b, c))
    lines = rng.permutation(1900 // width)[: c_first + rows] * width + rng.integers(0, 40)
    a_steps, b_steps = (tuple(int(n) for n in steps[:, k]) for k in range(2))
    a, b, c = (x.astype(np.float32) for x in (a, b, c))
    loops = Loops(tuple(counts), a_steps, b_steps)
    return Rows(a, a_at, offsets, a_first), Flat(b, b_at), loops, Rows(c, c_at, lines, c_first)


@COMPILED
@pytest.mark.parametrize("accumulate", [False, True])
@TILES
@modest
@given(counts=st.tuples(*[st.integers(1, 5)] * 3), seed=st.integers(0, 2**32))
def test_tiles_are_small_matrix_products(compiled_tile, rows, width, accumulate, counts, seed):
    a, b, loops, c = product_of(rows, width, counts, True, seed)
    got, want = (c._replace(data=c.data.copy()) for _ in range(2))
    compiled_tile(a, b, loops, got, accumulate)
    tile_twin(rows, width)(a, b, loops, want, accumulate)
    assert np.array_equal(got.data, want.data)
    assert (got.data != c.data).sum() <= rows * width


@COMPILED
@TILES
def test_tiles_are_within_the_bound_of_a_sum(compiled_tile, rows, width):
    counts = 3, 4, 7
    a, b, loops, c = product_of(rows, width, counts, False)
    results = []
    for change in (lambda x: x.astype(float), np.abs):  # the exact sums and those of sizes
        left, right = (x._replace(data=change(x.data).astype(float)) for x in (a, b))
        total = c._replace(data=np.zeros(c.data.shape))
        tile_twin(rows, width)(left, right, loops, total, False)
        results.append(total.data)
    got = c._replace(data=np.zeros_like(c.data))
    compiled_tile(a, b, loops, got, False)
    want, size = results
    assert (np.abs(got.data - want) <= np.prod(counts) * EPS * size).all()


@COMPILED
def test_products_are_added_without_rounding_them_first():
    """1 + 2^-12 squared, less 1 + 2^-11, is 2^-24, which a rounded product would lose."""
    a = np.full(1, 1 + 2.0**-12, np.float32)
    b, c = np.full(2 * LANES, a[0]), np.full(ROWS * 2 * LANES, -(1 + 2.0**-11), np.float32)
    loops, zeros = Loops((1, 1, 1), (0, 0, 0), (0, 0, 0)), np.zeros(ROWS, np.int64)
    lines = np.arange(ROWS) * 2 * LANES
    tile(Rows(a, 0, zeros, 0), Flat(b, 0), loops, Rows(c, 0, lines, 0), True)
    assert (c == 2.0**-24).all()
