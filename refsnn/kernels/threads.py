"""Threads that share the tasks of a kernel (`tasks`).

Every element of a result belongs to one task, so the bits depend neither on the number of threads
nor on which of them computes what.

The threads are Python's, and wait in compiled code. Numba's `parallel=True` would take twice as
long to compile, and its threads (OpenMP's) wait for one another after every kernel: with another
program on one of two cores, a kernel of 10 us took 1300 us with them, and 45 us with Python's.
"""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from numba import config

from refsnn.kernels.tasks import (
    ENTRIES,
    FAILED,
    HELPERS,
    LEFT,
    begin,
    close,
    make_tasks,
    serve,
    take,
)

__all__ = ["Kernel", "begin", "get_num_threads", "set_num_threads", "share", "take"]

Kernel = Callable[..., None]

_number: int = config.NUMBA_NUM_THREADS  # the cores, or the environment variable of this name


def get_num_threads() -> int:
    """Return the number of threads that share a kernel, by default NUMBA_NUM_THREADS."""
    return _number


def set_num_threads(number: int) -> None:
    """Set the number of threads that share a kernel, from 1 to NUMBA_NUM_THREADS."""
    global _number
    if not 1 <= number <= config.NUMBA_NUM_THREADS:
        raise ValueError(
            f"threads: got {number}, want 1 to {config.NUMBA_NUM_THREADS} (the cores, or "
            "NUMBA_NUM_THREADS)"
        )
    _number = number


class Team:
    """The caller of a kernel and the threads that help with it."""

    def __init__(self) -> None:
        self.desk = np.zeros(ENTRIES, np.int64)
        self.address = self.desk.ctypes.data
        self.busy = threading.Lock()  # held by the caller of the kernel that is shared
        self.helpers: list[Helper] = []

    def grow(self, number: int) -> int:
        """Start helpers until there are so many, or no more can be started; return how many."""
        try:
            while len(self.helpers) < number:
                self.helpers.append(Helper(self.desk, len(self.helpers) + 1))
        except RuntimeError:  # the system allows no more threads
            pass
        return len(self.helpers)

    def run(self, kernel: Kernel, count: int, args: tuple[Any, ...], number: int) -> None:
        """Compute all tasks with up to so many helpers; MemoryError if one of them failed."""
        number = min(number, self.grow(number))
        self.desk[HELPERS], self.desk[LEFT], self.desk[FAILED] = number, 0, 0
        for helper in self.helpers[:number]:
            helper.wake()
        tasks = make_tasks(count, self.address)  # the helpers read it until `close` returns
        try:
            kernel(tasks, 0, *args)
        finally:
            failed = close(self.desk)
        if failed:  # the only error that a kernel can meet
            raise MemoryError(f"{failed} of {number + 1} threads of {kernel.__name__} failed")


class Helper:
    """A thread that helps with one kernel after the other."""

    def __init__(self, desk: Any, own: int) -> None:
        self.desk, self.own = desk, own
        self.awake, self.bell = True, SimpleQueue[None]()
        self.called = 0  # number of kernels that wanted help
        name = f"refsnn-kernels-{own}"
        threading.Thread(target=self.help_for_ever, name=name, daemon=True).start()

    def wake(self) -> None:
        """Wake the thread if it sleeps."""
        self.called += 1
        if not self.awake:
            self.awake = True
            self.bell.put(None)

    def help_for_ever(self) -> None:
        """Wait at the desk for kernels; after some time without one sleep until one comes."""
        seen = 0
        while True:
            called = self.called
            seen = serve(self.desk, self.own, seen)
            self.awake = False
            if self.called == called:  # else a kernel came while this thread went to sleep
                self.bell.get()
            self.awake = True


_team = Team()


def start_anew() -> None:
    """Forget the threads, of which a process that is forked has only the one that forked it."""
    global _team
    _team = Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=start_anew)


def share(kernel: Kernel, count: int, *args: Any, threads: int | None = None) -> None:
    """Compute the tasks 0 to count - 1 of a kernel, on up to `threads` threads.

    By default that is `get_num_threads()`. A caller that has allocated memory for each thread must
    give the number that it allocated for, since another Python thread may have changed it. While
    another thread's kernel is shared, the caller computes all tasks by itself.
    """
    number, team = min(_number if threads is None else threads, count) - 1, _team
    if number > 0 and not config.DISABLE_JIT and team.busy.acquire(blocking=False):
        try:
            team.run(kernel, count, args, number)
        finally:
            team.busy.release()
    elif count > 0:
        kernel(make_tasks(count), 0, *args)
