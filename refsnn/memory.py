"""Freed memory is kept for the next step, where the C library is glibc.

Pages fresh from the system are zeroed when they are first touched, which costs as much as a
kernel's pass over them: a step that gives its arrays back and asks for the same again pays
that every time.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """For the whole process, so only for one that does nothing but compute; was it done?"""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, MOST) and mallopt(M_MMAP_MAX, 0))
