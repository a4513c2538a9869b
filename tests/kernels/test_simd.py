"""The compiled loops against their twins in Python.

Of whole numbers nothing is rounded, so any order of a sum gives the same; sums of rows are
taken in one order, and equal to the bit. Around what is written nothing may change.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, njit

from refsnn.kernels import simd, winograd
from refsnn.kernels.simd import LANES, ROWS

COMPILED = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the twins are what runs")
modest = settings(deadline=None, max_examples=100, derandomize=True)
EPS = np.finfo(np.float32).eps
MORE = pytest.mark.parametrize("more", [False, True])


@njit
def tile(a, a_at, offsets, o_at, b, b_at, loops, c, c_at, rows_at, r_at, more):
    simd.tile(a, a_at, offsets, o_at, b, b_at, loops, c, c_at, rows_at, r_at, more)


@njit
def narrow_tile(a, a_at, offsets, o_at, b, b_at, loops, c, c_at, rows_at, r_at, more):
    simd.narrow_tile(a, a_at, offsets, o_at, b, b_at, loops, c, c_at, rows_at, r_at, more)


@njit
def add_rows1(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more):
    simd.add_rows1(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more)


@njit
def add_rows2(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more):
    simd.add_rows2(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more)


@njit
def add_rows4(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more):
    simd.add_rows4(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more)


@njit
def copy_vector(x, x_at, y, y_at):
    simd.copy_vector(x, x_at, y, y_at)


TILES = pytest.mark.parametrize(
    ("compiled_tile", "rows", "width"),
    [(tile, ROWS, 2 * LANES), (narrow_tile, 2 * ROWS, LANES)],
    ids=["tile", "narrow tile"],
)
SUMS = pytest.mark.parametrize(
    ("add_rows", "width"), [(add_rows1, LANES), (add_rows2, 2 * LANES), (add_rows4, 4 * LANES)]
)


def product_of(rows, width, counts, whole, seed=0):
    """The arguments of a tile up to c: some rows are given twice, some steps are 0 or back."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 9, (3, 2)) * (1, 3)
    a_at, b_at, o_at, c_at, r_at = rng.integers(0, 9, 5)
    offsets = rng.integers(0, 50, o_at + rows)
    reach = (np.array(counts) - 1) @ steps
    a, b, c = rng.normal(size=200), rng.normal(size=400), rng.normal(size=2000)
    a, b = np.resize(a, a_at + 50 + reach[0]), np.resize(b, b_at + width + reach[1])
    if whole:
        a, b, c = (np.rint(4 * x) for x in (a, b, c))
    lines = rng.permutation(1900 // width)[: r_at + rows] * width + rng.integers(0, 40)
    loops = np.concatenate([counts, steps.ravel()])
    a, b, c = (x.astype(np.float32) for x in (a, b, c))
    return a, a_at, offsets, o_at, b, b_at, loops, c, c_at, lines, r_at


@COMPILED
@MORE
@TILES
@modest
@given(counts=st.tuples(*[st.integers(1, 5)] * 3), seed=st.integers(0, 2**32))
def test_tiles_are_small_matrix_products(compiled_tile, rows, width, more, counts, seed):
    *given_arrays, c, c_at, lines, r_at = product_of(rows, width, counts, True, seed)
    got, want = c.copy(), c.copy()
    compiled_tile(*given_arrays, got, c_at, lines, r_at, more)
    simd.tile_twin(rows, width)(*given_arrays, want, c_at, lines, r_at, more)
    assert np.array_equal(got, want)
    assert (got != c).sum() <= rows * width


@COMPILED
@TILES
def test_tiles_are_within_the_bound_of_a_sum(compiled_tile, rows, width):
    counts = 3, 4, 7
    *given_arrays, c, c_at, lines, r_at = product_of(rows, width, counts, False)
    results = []
    for change in (lambda x: x.astype(float), np.abs):  # the exact sums and those of sizes
        a, a_at, offsets, o_at, b, *rest = given_arrays
        total = np.zeros(c.shape)
        simd.tile_twin(rows, width)(
            change(a).astype(float),
            a_at,
            offsets,
            o_at,
            change(b).astype(float),
            *rest,
            total,
            c_at,
            lines,
            r_at,
            False,
        )
        results.append(total)
    got = np.zeros_like(c)
    compiled_tile(*given_arrays, got, c_at, lines, r_at, False)
    want, size = results
    assert (np.abs(got - want) <= np.prod(counts) * EPS * size).all()


@COMPILED
def test_products_are_added_without_rounding_them_first():
    """1 + 2^-12 squared, less 1 + 2^-11, is 2^-24, which a rounded product would lose."""
    a = np.full(1, 1 + 2.0**-12, np.float32)
    b, c = np.full(2 * LANES, a[0]), np.full(ROWS * 2 * LANES, -(1 + 2.0**-11), np.float32)
    loops, zeros = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0]), np.zeros(ROWS, np.int64)
    tile(a, 0, zeros, 0, b, 0, loops, c, 0, np.arange(ROWS) * 2 * LANES, 0, True)
    assert (c == 2.0**-24).all()


def lists_of(lengths, rows, width, pitch, span, rng):
    """names and bounds, so that list i begins at bound i pitch and ends `span` further."""
    count = len(lengths)
    bounds = np.zeros((count - 1) * pitch + span + 1, np.int64)
    names = []
    for i, length in enumerate(lengths):
        bounds[i * pitch] = len(names)
        names += list(rng.integers(0, rows, length) * width)
        bounds[i * pitch + span] = len(names)
    return np.array([*names, 0], np.uint32), bounds


@COMPILED
@MORE
@SUMS
@modest
@given(
    lengths=st.lists(st.sampled_from([0, 0, 1, 2, 3, 4, 5, 9]), min_size=1, max_size=5),
    span=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_sums_of_the_rows_that_lists_name(add_rows, width, more, lengths, span, seed):
    rng = np.random.default_rng(seed)
    pitch = span + int(rng.integers(1, 3))
    names, bounds = lists_of(lengths, 8, width, pitch, span, rng)
    first = int(rng.integers(0, 3))
    bounds = np.concatenate([np.full(first, 10**9), bounds])  # not to be looked at
    b_at, b_pitch, c_at = (int(n) for n in rng.integers(0, 40, 3))
    b = rng.normal(size=b_at + len(lengths) * b_pitch + 8 * width).astype(np.float32)
    c = rng.normal(size=c_at + width + 5).astype(np.float32)
    got, want = c.copy(), c.copy()
    setting = names, bounds, first, pitch, span, len(lengths), b, b_at, b_pitch
    add_rows(*setting, got, c_at, more)
    simd.add_rows_twin(width)(*setting, want, c_at, more)
    assert got.tobytes() == want.tobytes()
    outside = np.r_[:c_at, c_at + width : c.size]
    assert np.array_equal(got[outside], c[outside])


@COMPILED
@MORE
@SUMS
def test_lists_that_are_all_empty_sum_to_what_was_held(add_rows, width, more):
    names, bounds, c = np.zeros(1, np.uint32), np.zeros(4, np.int64), np.ones(width, np.float32)
    add_rows(names, bounds, 0, 1, 1, 3, np.ones(width, np.float32), 0, 0, c, 0, more)
    assert (c == more).all()


@COMPILED
@SUMS
@pytest.mark.parametrize("before", [3, 1 << 31])
def test_names_make_up_for_an_offset_before_the_beginning(add_rows, width, before):
    b, c = np.arange(3 * width, dtype=np.float32), np.empty(width, np.float32)
    names, bounds = np.array([before + 2 * width, before], np.uint32), np.array([0, 2])
    add_rows(names, bounds, 0, 1, 1, 1, b, -before, 0, c, 0, False)
    assert np.array_equal(c, b[2 * width :] + b[:width])


MATRICES = {
    "of_input": winograd.BT,
    "of_output": winograd.AT,
    "of_weights": winograd.G,
    "of_cotangent": winograd.AT.T,
    "of_products": winograd.G.T,
}


def wrapped(name):
    intrinsic = getattr(winograd, name)

    @njit
    def transform(x, x_at, x_row, x_column, inside, y, y_at, y_row, y_column):
        intrinsic(x, x_at, x_row, x_column, inside, y, y_at, y_row, y_column)

    return transform


TRANSFORMS = {name: wrapped(name) for name in MATRICES}
edge = st.integers(-3, 8)


@COMPILED
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("name", MATRICES)
@modest
@given(inside=st.one_of(st.just((0, 6, 0, 6)), st.tuples(*[edge] * 4)), seed=st.integers(0, 2**32))
def test_transforms_are_matrix_x_matrix_transposed(name, dtype, inside, seed):
    matrix = MATRICES[name].astype(np.float32)
    m, n = matrix.shape
    rng = np.random.default_rng(seed)
    x_column, y_column = (LANES + rng.integers(0, 5, 2)).tolist()
    x_row, y_row = n * x_column + int(rng.integers(0, 5)), m * y_column + int(rng.integers(0, 5))
    x_at, y_at = rng.integers(0, 20, 2).tolist()
    if seed % 2:  # from the last to the first
        x_at, x_row, x_column = x_at + (n - 1) * (x_row + x_column), -x_row, -x_column
    x = rng.integers(0, 9, 2000).astype(dtype)
    y = rng.normal(size=y_at + m * y_row + 9).astype(np.float32)
    got, want, size = y.copy(), y.copy(), np.zeros(y.size)
    TRANSFORMS[name](x, x_at, x_row, x_column, inside, got, y_at, y_row, y_column)
    for a, factors in ((want, matrix), (size, abs(matrix))):
        simd.transform_twin(factors)(x, x_at, x_row, x_column, inside, a, y_at, y_row, y_column)
    if (matrix == np.rint(matrix)).all():
        assert np.array_equal(got, want)
    assert (np.abs(got - want) <= 2 * n * EPS * size).all()


@COMPILED
def test_pixels_that_are_outside_are_not_looked_at():
    x, y = np.ones(1, np.float32), np.ones(36 * LANES, np.float32)
    far = 10**15  # beyond all memory
    TRANSFORMS["of_input"](x, far, far, far, (0, 0, 0, 6), y, 0, 6 * LANES, LANES)
    assert not y.any()


def test_a_transform_by_hand():
    matrix = np.array([[1, 2], [0, -1]])
    x, y = np.repeat([3.0, 5, 7, 11], LANES).astype(np.float32), np.empty(4 * LANES, np.float32)
    simd.transform_twin(matrix)(x, 0, 2 * LANES, LANES, (0, 2, 0, 2), y, 0, 2 * LANES, LANES)
    assert y[::LANES].tolist() == [3 + 10 + 14 + 44, -5 - 22, -7 - 22, 11]
    simd.transform_twin(matrix)(x, 0, 2 * LANES, LANES, (0, 1, 1, 2), y, 0, 2 * LANES, LANES)
    assert y[::LANES].tolist() == [10, -5, 0, 0]  # of x only the 5


def test_the_matrices_are_those_of_minimal_filtering():
    """Of four outputs of a filter of three taps, as Lavin and Gray have them (2016, section 4)."""
    rng = np.random.default_rng(0)
    d, g = rng.normal(size=6), rng.normal(size=3)
    y = winograd.AT @ ((winograd.G @ g) * (winograd.BT @ d))
    np.testing.assert_allclose(y, np.correlate(d, g, "valid"), rtol=1e-12, atol=1e-12)


@COMPILED
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_vector_is_copied_from_floats_or_bytes(dtype):
    x = np.random.default_rng(0).integers(0, 255, 3 * LANES).astype(dtype)
    for x_at, y_at in ((0, 0), (3, 1), (2 * LANES, 7)):
        got, want = np.full((2, 2 * LANES), -1, np.float32)
        copy_vector(x, x_at, got, y_at)
        simd.copy_twin(x, x_at, want, y_at)
        assert np.array_equal(got, want)
        assert (want == -1).sum() == LANES


def test_memory_is_aligned_to_a_vector():
    for shape in ((1,), (7,), (3, 5), (4, 4, 4)):
        kept = [simd.aligned(*shape) for _ in range(20)]
        for a in kept:
            assert (a.dtype, a.shape) == (np.float32, shape)
            assert a.flags.c_contiguous
            assert a.flags.writeable
            assert a.ctypes.data % (4 * LANES) == 0


@pytest.mark.parametrize("channels", [0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES])
def test_whole_vectors_are_the_least_that_hold_the_channels(channels):
    whole = simd.whole_vectors(channels)
    assert whole % LANES == 0
    assert channels <= whole < channels + LANES
