"""What the machine can do at best: multiply matrices, and copy memory."""

from time import perf_counter

import numpy as np
from numba import get_num_threads, njit, prange

SIDE, REPEATS = 2048, 5
COPY_BYTES = 2**28
CHUNK = 2**14  # elements a task copies


@njit(parallel=True, cache=True)
def copy(x, y):  # type: ignore[no-untyped-def]
    for chunk in prange(x.size // CHUNK):
        first = chunk * CHUNK
        y[first : first + CHUNK] = x[first : first + CHUNK]


def gemm_gflops() -> float:
    """GFLOP/s of the best of some float32 matrix products by NumPy's BLAS."""
    x = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    return 2e-9 * SIDE**3 / best(lambda: np.dot(x, x))


def copy_gib_s() -> float:
    """GiB/s of the best copy of 256 MiB on all of Numba's threads; reads and writes both count."""
    x = np.ones(COPY_BYTES // 4, np.float32)
    y = np.empty_like(x)
    return 2 * COPY_BYTES / 2**30 / best(lambda: copy(x, y))


def best(work) -> float:  # type: ignore[no-untyped-def]
    """Seconds of the quickest time, after one that does not count."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return min(seconds[1:])


def peaks() -> dict[str, float]:
    gflops = gemm_gflops()
    return {"gemm_gflops": gflops, "copy_gib_s": copy_gib_s(), "threads": get_num_threads()}
