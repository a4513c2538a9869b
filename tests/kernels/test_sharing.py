"""Kernels' tasks are shared among threads: each is computed once, errors arrive, forks work."""

import gc
import multiprocessing
import sys
import threading
import weakref

import numpy as np
import pytest
from numba import config, njit

from refsnn.kernels import threads
from refsnn.kernels.threads import get_num_threads, set_num_threads, share, take, take_twin

SEVERAL = pytest.mark.skipif(config.NUMBA_NUM_THREADS < 2, reason="one core")


@njit(nogil=True)
def mark(tasks, own, rounds, seen, by):
    task = take(tasks)
    while task >= 0:
        for _ in range(rounds):
            seen[task] += 1
        by[task] = own
        task = take(tasks)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_each_task_is_computed_once(with_threads, count):
    for number in {1, config.NUMBA_NUM_THREADS}:
        seen, by = np.zeros(count, np.int64), np.full(count, -1)
        with_threads(number, share, mark, count, 1, seen, by)
        assert (seen == 1).all()
        assert ((by >= 0) & (by < number)).all()


@SEVERAL
def test_all_take_part(with_threads):
    """A thread holds its first task until every other thread has one."""
    number = config.NUMBA_NUM_THREADS
    everybody, by = threading.Barrier(number, timeout=30), np.full(number, -1)

    def meet(tasks, own, by):
        task = take_twin(tasks)
        everybody.wait()
        by[task] = own

    with_threads(number, share, meet, number, by)
    assert sorted(by) == list(range(number))


@SEVERAL
@pytest.mark.parametrize("who", ["caller", "helper"])
def test_an_error_in_any_thread_arrives_and_later_kernels_run(with_threads, who):
    both = threading.Barrier(2, timeout=30)

    def fail(tasks, own):
        both.wait()
        if (own == 0) == (who == "caller"):
            raise ArithmeticError(who)

    with pytest.raises(ArithmeticError, match=who):
        with_threads(2, share, fail, 2)
    seen = np.zeros(10, np.int64)
    with_threads(2, share, mark, 10, 1, seen, seen.copy())
    assert (seen == 1).all()


@SEVERAL
def test_two_callers_at_once_do_not_mix(with_threads):
    results = [np.zeros(50, np.int64) for _ in range(4)]

    def call(seen):
        for _ in range(20):
            share(mark, len(seen), 1000, seen, seen.copy())

    def everybody():
        callers = [threading.Thread(target=call, args=(seen,)) for seen in results]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    with_threads(config.NUMBA_NUM_THREADS, everybody)
    for seen in results:
        assert (seen == 20 * 1000).all()


@SEVERAL
def test_no_array_is_kept_after_its_kernel(with_threads):
    class Held(np.ndarray):
        pass

    def nothing(tasks, own, x):
        pass

    held = np.zeros(3).view(Held)
    with_threads(2, share, nothing, 2, held)
    alive = weakref.ref(held)
    del held
    gc.collect()
    assert alive() is None


def child(queue):
    seen = np.zeros(100, np.int64)
    share(mark, 100, 1, seen, seen.copy())
    queue.put(bool((seen == 1).all()))


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(sys, "getswitchinterval") or sys.platform == "win32", reason="fork")
def test_a_forked_process_starts_its_own():
    seen = np.zeros(100, np.int64)
    share(mark, 100, 1, seen, seen.copy())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    assert queue.get(timeout=60)
    process.join()


def test_the_number_is_one_to_the_cores():
    before = get_num_threads()
    for number in (0, config.NUMBA_NUM_THREADS + 1):
        with pytest.raises(ValueError, match=rf"^threads: got {number}, want 1 to \d+ \(the cores"):
            set_num_threads(number)
    assert get_num_threads() == before


def test_they_are_started_when_first_needed(with_threads):
    with_threads(1, share, mark, 10, 1, np.zeros(10, np.int64), np.zeros(10, np.int64))
    assert len(threads.helpers_of(0)) == 0


def test_the_compiled_counter_does_as_its_twin():
    @njit
    def taken(tasks):
        return [take(tasks) for _ in range(5)]

    for count in (0, 1, 3, 9):
        tasks = np.array([0, count])
        assert taken(np.array([0, count])) == [take_twin(tasks) for _ in range(5)]
