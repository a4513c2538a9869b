"""The compiled sums of rows against their twin in Python, to the bit: both have one order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, njit

from refsnn.kernels import add_rows as kernels
from refsnn.kernels.add_rows import Lists, Table, add_rows_twin
from refsnn.kernels.simd import LANES, Flat

COMPILED = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the twins are what runs")
ACCUMULATE = pytest.mark.parametrize("accumulate", [False, True])


@njit
def add_rows1(lists, table, total, accumulate):
    kernels.add_rows1(lists, table, total, accumulate)


@njit
def add_rows2(lists, table, total, accumulate):
    kernels.add_rows2(lists, table, total, accumulate)


@njit
def add_rows4(lists, table, total, accumulate):
    kernels.add_rows4(lists, table, total, accumulate)


SUMS = pytest.mark.parametrize(
    ("add_rows", "width"), [(add_rows1, LANES), (add_rows2, 2 * LANES), (add_rows4, 4 * LANES)]
)


def lists_of(lengths, rows, width, step, span, rng):
    """indices and indptr, so that list i begins at bound i step and ends `span` further."""
    indptr = np.zeros((len(lengths) - 1) * step + span + 1, np.int64)
    indices = []
    for i, length in enumerate(lengths):
        indptr[i * step] = len(indices)
        indices += list(rng.integers(0, rows, length) * width)
        indptr[i * step + span] = len(indices)
    return np.array([*indices, 0], np.uint32), indptr


@COMPILED
@ACCUMULATE
@SUMS
@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    lengths=st.lists(st.sampled_from([0, 0, 1, 2, 3, 4, 5, 9]), min_size=1, max_size=5),
    span=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_sums_of_the_rows_that_lists_name(add_rows, width, accumulate, lengths, span, seed):
    rng = np.random.default_rng(seed)
    step = span + int(rng.integers(1, 3))
    indices, indptr = lists_of(lengths, 8, width, step, span, rng)
    first = int(rng.integers(0, 3))
    indptr = np.concatenate([np.full(first, 10**9), indptr])  # not to be looked at
    b_at, b_step, c_at = (int(n) for n in rng.integers(0, 40, 3))
    b = rng.normal(size=b_at + len(lengths) * b_step + 8 * width).astype(np.float32)
    c = rng.normal(size=c_at + width + 5).astype(np.float32)
    got, want = c.copy(), c.copy()
    lists, table = Lists(indices, indptr, first, step, span, len(lengths)), Table(b, b_at, b_step)
    add_rows(lists, table, Flat(got, c_at), accumulate)
    add_rows_twin(width)(lists, table, Flat(want, c_at), accumulate)
    assert got.tobytes() == want.tobytes()
    outside = np.r_[:c_at, c_at + width : c.size]
    assert np.array_equal(got[outside], c[outside])


@COMPILED
@ACCUMULATE
@SUMS
def test_lists_that_are_all_empty_sum_to_what_was_held(add_rows, width, accumulate):
    lists = Lists(np.zeros(1, np.uint32), np.zeros(4, np.int64), 0, 1, 1, 3)
    b, c = np.ones(width, np.float32), np.ones(width, np.float32)
    add_rows(lists, Table(b, 0, 0), Flat(c, 0), accumulate)
    assert (c == accumulate).all()


@COMPILED
@SUMS
@pytest.mark.parametrize("before", [3, 1 << 31])
def test_indices_make_up_for_an_offset_before_the_beginning(add_rows, width, before):
    b, c = np.arange(3 * width, dtype=np.float32), np.empty(width, np.float32)
    indices, indptr = np.array([before + 2 * width, before], np.uint32), np.array([0, 2])
    add_rows(Lists(indices, indptr, 0, 1, 1, 1), Table(b, -before, 0), Flat(c, 0), False)
    assert np.array_equal(c, b[2 * width :] + b[:width])
