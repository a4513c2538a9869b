"""Threads that share the tasks of a kernel.

A kernel that is shared is a compiled function `kernel(tasks, own, *args)` which releases the GIL
and computes one task after the other, each taken from `tasks`, until none is left:

    task = take(tasks)
    while task >= 0:
        ...
        task = take(tasks)

Every element of a result belongs to one task, so the bits depend neither on the number of threads
nor on which of them computes what. `own` is the number of the thread, for memory of its own.

The threads are Python's. Numba's `parallel=True` would take twice as long to compile, and its
threads (OpenMP's) wait for one another after every kernel: with another program on one of two
cores, a kernel of 10 us took 1300 us with them, and 45 us with these.
"""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic

from refsnn.equations.surrogate import Array

Kernel = Callable[..., None]

#: of waiting without sleep, some 50 us: longer than most kernels are apart, so that a step does not
#: wait until threads wake, and so short that other programs on the cores are not slowed down
ROUNDS = 20_000

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


def take_twin(tasks: Array) -> int:
    """Return the next of tasks (number of those taken, number of all), -1 if none is left."""
    tasks[0] += 1
    return int(tasks[0]) - 1 if tasks[0] <= tasks[1] else -1


@intrinsic
def take_atomic(context, tasks):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        kind = ir.IntType(64)
        task = builder.atomic_rmw("add", data, kind(1), "monotonic")
        count = builder.load(builder.gep(data, [kind(1)]))
        return builder.select(builder.icmp_signed("<", task, count), task, kind(-1))

    return types.int64(tasks), codegen


take = take_twin if config.DISABLE_JIT else take_atomic


@intrinsic
def load_atomic(context, values, index):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, given):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, given[0]).data
        place = builder.gep(data, [context.cast(builder, given[1], signature.args[1], types.int64)])
        return builder.load_atomic(place, "monotonic", 8)

    return types.int64(values, index), codegen


@njit(nogil=True, cache=True)
def spin(values, index, old):  # type: ignore[no-untyped-def]
    """Wait until an entry of values is another than `old`, but not for long."""
    for _ in range(ROUNDS):
        if load_atomic(values, index) != old:
            return


def no_spin(values: Array, index: int, old: int) -> None:
    """Wait for nothing."""


wait_shortly = no_spin if config.DISABLE_JIT else spin


class Job:
    """A kernel that several threads share."""

    def __init__(self, kernel: Kernel, count: int, args: tuple[Any, ...]) -> None:
        self.kernel, self.args = kernel, args
        self.tasks = np.array([0, count, 0], np.int64)  # taken, all; and how many helpers ended
        self.errors: SimpleQueue[BaseException | None] = SimpleQueue()  # one entry per helper

    def help(self, own: int) -> None:
        """Compute tasks in a thread beside the caller's."""
        error = None
        try:
            self.kernel(self.tasks, own, *self.args)
        except BaseException as raised:
            error = raised
        self.errors.put(error)
        self.tasks[2] += 1

    def run(self, helpers: "list[Helper]") -> None:
        """Compute all tasks, and wait for the helpers; raise what one of them raised."""
        for own, helper in enumerate(helpers, 1):
            helper.call(self, own)
        try:
            self.kernel(self.tasks, 0, *self.args)
        finally:
            for ended in range(len(helpers)):
                wait_shortly(self.tasks, 2, ended)
            errors = [self.errors.get() for _ in helpers]
        for error in errors:
            if error is not None:
                raise error


class Helper:
    """A thread that takes part in jobs, one after the other."""

    def __init__(self, name: str) -> None:
        self.jobs: SimpleQueue[tuple[Job, int]] = SimpleQueue()
        self.called = np.zeros(1, np.int64)  # the number of jobs so far
        threading.Thread(target=self.serve, name=name, daemon=True).start()

    def call(self, job: Job, own: int) -> None:
        self.jobs.put((job, own))
        self.called[0] += 1

    def serve(self) -> None:
        """Take part in jobs for ever."""
        seen = 0
        while True:
            wait_shortly(self.called, 0, seen)
            job, own = self.jobs.get()
            seen += 1
            job.help(own)
            del job  # else its arrays would be kept until the next one


_helpers: list[Helper] = []


def helpers_of(number: int) -> list[Helper]:
    """Return so many helpers, which are started where there are fewer."""
    while len(_helpers) < number:
        _helpers.append(Helper(f"refsnn-kernels-{len(_helpers) + 1}"))
    return _helpers[:number]


if hasattr(os, "register_at_fork"):  # a process that is forked has no threads but its first
    os.register_at_fork(after_in_child=_helpers.clear)


def share(kernel: Kernel, count: int, *args: Any) -> None:
    """Compute the tasks 0 to count - 1 of a kernel, on up to `get_num_threads()` threads."""
    if count > 0:
        Job(kernel, count, args).run(helpers_of(min(_number, count) - 1))
