"""Measurement of the machine's peak rates of matrix products and of copying memory."""

from time import perf_counter

import numpy as np
from numba import njit

from refsnn.kernels.threads import begin, get_num_threads, share, take

SIDE, REPEATS = 2048, 5
COPY_BYTES = 2**28
CHUNK = 2**14  # elements per task


@njit(nogil=True, cache=True)
def copy(tasks, own, x, y):  # type: ignore[no-untyped-def]
    """Copy `x` into `y`; a task is a chunk."""
    chunk = begin(tasks, own)
    while chunk >= 0:
        first = chunk * CHUNK
        y[first : first + CHUNK] = x[first : first + CHUNK]
        chunk = take(tasks, own)


def gemm_gflops() -> float:
    """Return the GFLOP/s of the fastest of several float32 matrix products by NumPy's BLAS."""
    x = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    return 2e-9 * SIDE**3 / best(lambda: np.dot(x, x))


def copy_gib_s() -> float:
    """Return the GiB/s, read and written, of the fastest of several copies of 256 MiB."""
    x = np.ones(COPY_BYTES // 4, np.float32)
    y = np.empty_like(x)
    return 2 * COPY_BYTES / 2**30 / best(lambda: share(copy, x.size // CHUNK, x, y))


def best(work) -> float:  # type: ignore[no-untyped-def]
    """Return the shortest time of several runs in seconds, after one that does not count."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return min(seconds[1:])


def peaks() -> dict[str, float]:
    """Return both peak rates, and the number of the kernels' threads."""
    gflops = gemm_gflops()
    return {"gemm_gflops": gflops, "copy_gib_s": copy_gib_s(), "threads": get_num_threads()}
