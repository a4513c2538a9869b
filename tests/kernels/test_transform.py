"""The compiled transforms and copies against their twins in Python.

Of whole numbers nothing is rounded, so any order of a sum gives the same.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, njit

from refsnn.kernels import transform as kernels
from refsnn.kernels import winograd
from refsnn.kernels.simd import LANES
from refsnn.kernels.transform import Grid, Inside, copy_twin, transform_twin

COMPILED = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the twins are what runs")
EPS = np.finfo(np.float32).eps
MATRICES = {
    "input_transform": winograd.BT,
    "output_transform": winograd.AT,
    "weight_transform": winograd.G,
    "cotangent_transform": winograd.AT.T,
    "product_transform": winograd.G.T,
}


@njit
def copy_vector(x, x_at, y, y_at):
    kernels.copy_vector(x, x_at, y, y_at)


def wrapped(name):
    intrinsic = getattr(winograd, name)

    @njit
    def transform(x, inside, y):
        intrinsic(x, inside, y)

    return transform


TRANSFORMS = {name: wrapped(name) for name in (*MATRICES, "add_output_transform")}
edge = st.integers(-3, 8)


@COMPILED
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("name", MATRICES)
@settings(deadline=None, max_examples=100, derandomize=True)
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
    x = Grid(rng.integers(0, 9, 2000).astype(dtype), x_at, x_row, x_column)
    y = rng.normal(size=y_at + m * y_row + 9).astype(np.float32)
    got, want, size = y.copy(), y.copy(), np.zeros(y.size)
    TRANSFORMS[name](x, Inside(*inside), Grid(got, y_at, y_row, y_column))
    for a, factors in ((want, matrix), (size, abs(matrix))):
        transform_twin(factors, adds=False)(x, Inside(*inside), Grid(a, y_at, y_row, y_column))
    if (matrix == np.rint(matrix)).all():
        assert np.array_equal(got, want)
    assert (np.abs(got - want) <= 2 * n * EPS * size).all()


@COMPILED
def test_a_transform_that_adds_adds_what_the_other_writes():
    rng = np.random.default_rng(0)
    x = Grid(rng.normal(size=36 * LANES).astype(np.float32), 0, 6 * LANES, LANES)
    total = rng.normal(size=16 * LANES).astype(np.float32)
    written, added, by_twin = np.empty_like(total), total.copy(), total.copy()
    whole = Inside(0, 6, 0, 6)
    TRANSFORMS["output_transform"](x, whole, Grid(written, 0, 4 * LANES, LANES))
    TRANSFORMS["add_output_transform"](x, whole, Grid(added, 0, 4 * LANES, LANES))
    transform_twin(winograd.AT, adds=True)(x, whole, Grid(by_twin, 0, 4 * LANES, LANES))
    assert np.array_equal(added, total + written)
    np.testing.assert_allclose(by_twin, added, rtol=1e-4, atol=1e-4)


@COMPILED
def test_pixels_that_are_outside_are_not_looked_at():
    x, y = np.ones(1, np.float32), np.ones(36 * LANES, np.float32)
    far = 10**15  # beyond all memory
    TRANSFORMS["input_transform"](
        Grid(x, far, far, far), Inside(0, 0, 0, 6), Grid(y, 0, 6 * LANES, LANES)
    )
    assert not y.any()


def test_a_transform_by_hand():
    matrix = np.array([[1, 2], [0, -1]])
    x = Grid(np.repeat([3.0, 5, 7, 11], LANES).astype(np.float32), 0, 2 * LANES, LANES)
    y = Grid(np.empty(4 * LANES, np.float32), 0, 2 * LANES, LANES)
    transform_twin(matrix, adds=False)(x, Inside(0, 2, 0, 2), y)
    assert y.data[::LANES].tolist() == [3 + 10 + 14 + 44, -5 - 22, -7 - 22, 11]
    transform_twin(matrix, adds=False)(x, Inside(0, 1, 1, 2), y)
    assert y.data[::LANES].tolist() == [10, -5, 0, 0]  # of x only the 5


def test_the_matrices_are_those_of_minimal_filtering():
    """Four outputs of a filter of three taps: Lavin and Gray (2016), section 4."""
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
        copy_twin(x, x_at, want, y_at)
        assert np.array_equal(got, want)
        assert (want == -1).sum() == LANES
