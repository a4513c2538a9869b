"""Numba twin of `total += x`, bit for bit: NumPy would do it on one core, bound by memory."""

import numpy as np
from numba import njit

from refsnn.equations.surrogate import Array
from refsnn.equations.validate import like
from refsnn.kernels.simd import contiguous
from refsnn.kernels.threads import begin, share, take

BLOCK = 1 << 14  # elements per task


@njit(nogil=True, cache=True, error_model="numpy")
def add_loop(tasks, own, total, x):  # type: ignore[no-untyped-def]
    """Add x to total, both flat."""
    block = begin(tasks, own)
    while block >= 0:
        for k in range(block * BLOCK, min((block + 1) * BLOCK, total.size)):
            total[k] += x[k]
        block = take(tasks, own)


def add_into(total: Array, x: Array) -> None:
    """Compute total += x, for arrays of the same shape and dtype.

    If `total` is not contiguous, or x shares its memory, NumPy does it.
    """
    like("x", x, total.shape, total.dtype, "total")
    if not total.flags.carray or np.may_share_memory(total, x):
        total += x
        return
    share(add_loop, -(-total.size // BLOCK), total.reshape(-1), contiguous(x).reshape(-1))
