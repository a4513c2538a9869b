"""What a command sets for its whole process: how memory is kept, how many threads compute, what
signals do.

A library must leave them to the program that it is part of, so nothing here runs by itself.
"""

import ctypes
import signal
import sys
from typing import Any

from threadpoolctl import threadpool_limits

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep what is freed for the next step, where the C library is glibc; was it done?

    Pages fresh from the system are zeroed when they are first touched, which costs as much as a
    kernel's pass over them: a step that gives its arrays back and asks for the same again would
    pay that every time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, MOST) and mallopt(M_MMAP_MAX, 0))


def limit_threads(threads: int | None) -> None:
    """At most so many threads in Numba's kernels and in BLAS; None: as the environment says."""
    if threads is None:
        return
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= threads <= most:
        raise ValueError(
            f"threads: got {threads}, want 1 to {most} (the cores, or NUMBA_NUM_THREADS)"
        )
    numba.set_num_threads(threads)
    threadpool_limits(threads)


class Signals:
    """Ctrl-C and SIGTERM ask once; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.caught: int | None = None

    def __enter__(self) -> "Signals":
        self.before = {s: signal.signal(s, self.note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def note(self, number: int, frame: Any) -> None:
        self.caught = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
