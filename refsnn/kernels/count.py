"""Counting of spikes, in one pass over memory that also checks that they are spikes."""

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations.surrogate import Array
from refsnn.kernels.simd import contiguous
from refsnn.kernels.threads import begin, share, take

BLOCK = 1 << 14  # words per task
WORD = 8  # spikes that are counted at a time
ONES = np.uint64(0x0101010101010101)
TOP = np.uint64(56)  # bits below a word's highest byte, which in word * ONES is the sum of all


@njit(nogil=True, cache=True, error_model="numpy")
def count_words(tasks, own, words, counts, bits):  # type: ignore[no-untyped-def]
    """Write to each task's entry how many bytes are 1, and which bits are set in any word."""
    block = begin(tasks, own)
    while block >= 0:
        count, seen = np.uint64(0), np.uint64(0)
        for k in range(block * BLOCK, min((block + 1) * BLOCK, words.size)):
            count += (words[k] * ONES) >> TOP
            seen |= words[k]
        counts[block], bits[block] = count, seen
        block = take(tasks, own)


def count_spikes(x: Array) -> int:
    """Return the number of spikes in x: ones if x is uint8, else elements that are not 0.

    ValueError if x is uint8 and has other numbers than 0 and 1.
    """
    if x.dtype != np.uint8:
        return int(np.count_nonzero(x))
    flat = contiguous(x).reshape(-1)
    whole = flat.size // WORD * WORD
    words, rest = flat[:whole].view(np.uint64), flat[whole:]
    tasks = -(-words.size // BLOCK)
    counts, bits = empty(tasks, np.uint64), empty(tasks, np.uint64)
    share(count_words, tasks, words, counts, bits)
    if np.bitwise_or.reduce(bits) & ~ONES or (rest > 1).any():
        raise ValueError(f"x: got {flat.max()} among spikes, want 0 and 1")
    return int(counts.sum()) + int(rest.sum())
