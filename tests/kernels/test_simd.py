"""Memory for vectors."""

import numpy as np
import pytest

from refsnn.kernels import simd
from refsnn.kernels.simd import LANES


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
