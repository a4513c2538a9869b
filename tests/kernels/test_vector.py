"""Vectors in compiled loops: each operation against its twin, lane by lane."""

from types import FunctionType

import numpy as np
import pytest
from numba import config, njit

from refsnn.kernels import vector
from refsnn.kernels.simd import LANES
from refsnn.kernels.vector import (
    absolute,
    load,
    multiply_add,
    splat,
    store,
    store_mask,
    where,
)

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the twins are used then")
ODD = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, 1.0]


def compute(x, number, out, mask):
    """Write the result of every operation, at places that are not aligned."""
    a, b, c = load(x, 1), load(x, 1 + LANES), load(x, 1 + 2 * LANES)
    s = splat(number)
    store(out, 1, a + b)
    store(out, 1 + LANES, a - b)
    store(out, 1 + 2 * LANES, a * b)
    store(out, 1 + 3 * LANES, a / b)
    store(out, 1 + 4 * LANES, where(a > b, c, s))
    store(out, 1 + 5 * LANES, absolute(a))
    store(out, 1 + 6 * LANES, multiply_add(a, b, c))
    store_mask(mask, 3, a > s)


def by_twins():
    """Return the function with each operation's twin."""
    names = ("load", "store", "splat", "where", "multiply_add")
    twins = {name: getattr(vector, f"{name}_twin") for name in names}
    twins |= {"store_mask": vector.store_twin, "absolute": np.abs, "LANES": LANES}
    return FunctionType(compute.__code__, twins)


@pytest.mark.filterwarnings("ignore")
def test_each_operation_does_as_its_twin():
    functions = njit(compute), by_twins()
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = rng.normal(size=3 * LANES + 2).astype(np.float32)
        places = rng.random(x.size) < 0.2
        x[places] = rng.choice(ODD, places.sum())
        found = []
        for function in functions:
            out, mask = np.zeros(7 * LANES + 2, np.float32), np.full(LANES + 4, 9, np.uint8)
            function(x, 0.1, out, mask)
            found.append((out, mask))
        (out, mask), (want, want_mask) = found
        np.testing.assert_array_equal(out, want)
        assert np.array_equal(mask, want_mask)
        assert out[0] == out[-1] == 0
        assert (mask[:3] == 9).all()


def test_bytes_are_loaded_as_numbers():
    @njit
    def convert(x, out):
        store(out, 0, load(x, 5))

    x, out = np.arange(200, 206 + LANES).astype(np.uint8), np.zeros(LANES, np.float32)
    convert(x, out)
    assert np.array_equal(out, x[5 : 5 + LANES])
