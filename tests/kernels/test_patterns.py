"""Sums over table rows that bits choose: compiled code against its twins."""

import numpy as np
import pytest
from numba import config, njit

from refsnn.kernels import patterns
from refsnn.kernels.patterns import Rows, Words
from refsnn.kernels.simd import LANES, Flat

EACH = patterns.QUARTERS * patterns.PATTERNS  # rows of the table for a word


def call(operation):
    """Return a function that calls the operation, compiled where it is."""
    if config.DISABLE_JIT:
        return operation
    return {
        4: njit(lambda a, b, c, d: operation(a, b, c, d)),
        3: njit(lambda a, b, c: operation(a, b, c)),
        2: njit(lambda a, b: operation(a, b)),
    }[len(operation._defn.__code__.co_varnames[: operation._defn.__code__.co_argcount]) - 1]


def drawn(rows, length, width):
    """Words and a table, each with something before, between and after it."""
    rng = np.random.default_rng(rows)
    bits = rng.integers(0, 1 << 16, 3 + rows * (length + 2), dtype=np.uint16)
    row = EACH * length * width + 5
    table = rng.integers(-9, 10, 7 + rows * row + 4).astype(np.float32)
    return Words(bits, 3, length + 2, rows, length), Rows(table, 7, row)


@pytest.mark.parametrize("vectors", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 9)])
def test_rows_are_summed_and_added_to_as_the_twins_do(size, vectors):
    width = vectors * LANES
    bits, table = drawn(*size, width)
    for accumulate in (False, True):
        sums = [np.arange(2.0 + width, dtype=np.float32) for _ in range(2)]
        summing = getattr(patterns, f"sum_patterns{vectors}")
        for total, function in zip(
            sums, (call(summing), patterns.sum_patterns_twin(width)), strict=True
        ):
            function(bits, table, Flat(total, 1), accumulate)
        assert np.array_equal(*sums)
        assert sums[0][0] == 0
        assert sums[0][-1] == width + 1
    row, adding = np.arange(3.0 + width, dtype=np.float32), f"add_to_patterns{vectors}"
    tables = [table.data.copy() for _ in range(2)]
    functions = call(getattr(patterns, adding)), patterns.add_to_patterns_twin(width)
    for data, function in zip(tables, functions, strict=True):
        function(bits, table._replace(data=data), Flat(row, 2))
    assert np.array_equal(*tables)
    assert (tables[0] != table.data).any()


def test_eight_spikes_are_a_byte():
    spikes = np.random.default_rng(0).integers(0, 2, 300, dtype=np.uint8)
    byte_of = call(patterns.byte_of)
    for at in range(290):
        want = sum(int(spikes[at + k]) << k for k in range(8))
        assert byte_of(spikes, at) == patterns.byte_twin(spikes, at) == want
