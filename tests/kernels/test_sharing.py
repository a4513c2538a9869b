"""Kernels' tasks are shared among threads: each is computed once, errors arrive, forks work."""

import gc
import multiprocessing
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from refsnn.equations.conv import Conv
from refsnn.kernels import conv, dense, event, lookup, threads, winograd
from refsnn.kernels.tasks import add, look, take_twin
from refsnn.kernels.threads import begin, get_num_threads, set_num_threads, share, take

COMPILED = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
SEVERAL = pytest.mark.skipif(
    config.NUMBA_NUM_THREADS < 2 or bool(config.DISABLE_JIT), reason="one core, or not compiled"
)
ROUNDS = 10**9  # of waiting for another thread, some seconds


@njit(nogil=True)
def mark(tasks, own, rounds, seen, by):
    task = begin(tasks, own)
    while task >= 0:
        for _ in range(rounds):
            seen[task] += 1
        by[task] = own
        task = take(tasks, own)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_each_task_is_computed_once(with_threads, count):
    for number in {1, config.NUMBA_NUM_THREADS}:
        seen, by = np.zeros(count, np.int64), np.full(count, -1)
        with_threads(number, share, mark, count, 1, seen, by)
        assert (seen == 1).all()
        assert ((by >= 0) & (by < number)).all()


@njit(nogil=True, error_model="numpy")
def meet(tasks, own, met, by):
    """Hold the first task until every other thread has one."""
    task = begin(tasks, own)
    add(met, 0, 1)
    for _ in range(ROUNDS):
        if look(met, 0) == by.size:
            break
    by[task] = own


def compile_first(kernel, *args):
    """Helpers fall asleep while the caller's kernel compiles."""
    kernel(np.array([1, 1, 0]), 0, *args)


@SEVERAL
def test_all_take_part(with_threads):
    number = config.NUMBA_NUM_THREADS
    compile_first(meet, np.zeros(1, np.int64), np.zeros(1, np.int64))
    for _ in range(20):
        by = np.full(number, -1)
        with_threads(number, share, meet, number, np.zeros(1, np.int64), by)
        assert sorted(by) == list(range(number))


@SEVERAL
def test_threads_that_sleep_are_woken(with_threads):
    compile_first(meet, np.zeros(1, np.int64), np.zeros(1, np.int64))
    by = np.full(2, -1)
    with_threads(2, share, meet, 2, np.zeros(1, np.int64), by)
    (helper, *_) = threads._team.helpers
    for _ in range(1000):
        if not helper.awake:
            break
        time.sleep(0.01)
    assert not helper.awake
    with_threads(2, share, meet, 2, np.zeros(1, np.int64), by)
    assert sorted(by) == [0, 1]


@njit(nogil=True, error_model="numpy")
def fail(tasks, own, met, who):
    begin(tasks, own)
    add(met, 0, 1)
    for _ in range(ROUNDS):
        if look(met, 0) >= 2:
            break
    if own == who:
        raise ArithmeticError("kernel")


@SEVERAL
@pytest.mark.parametrize(
    ("who", "error", "message"),
    [(0, ArithmeticError, "^kernel$"), (1, MemoryError, "^1 of 2 threads of fail failed$")],
)
def test_an_error_in_any_thread_arrives_and_later_kernels_run(with_threads, who, error, message):
    compile_first(fail, np.ones(1, np.int64), 2)
    for _ in range(20):
        with pytest.raises(error, match=message):
            with_threads(2, share, fail, 2, np.zeros(1, np.int64), who)
        seen = np.zeros(10, np.int64)
        with_threads(2, share, mark, 10, 1, seen, seen.copy())
        assert (seen == 1).all()


@SEVERAL
def test_a_helper_gets_every_argument(with_threads):
    """Numbers, flags, tuples in tuples and arrays of any layout: the helper writes what it got."""

    @njit(nogil=True, error_model="numpy")
    def write(tasks, own, met, number, flag, nested, strided, out):
        task = begin(tasks, own)
        add(met, 0, 1)
        for _ in range(ROUNDS):
            if look(met, 0) >= 2:
                break
        while task >= 0:
            out[own, 0] = number
            out[own, 1] = 1.0 if flag else 0.0
            out[own, 2] = nested[0] + nested[1][0] + nested[1][1][2]
            out[own, 3] = strided[1, 2] + strided.shape[1]
            task = take(tasks, own)

    out, met = np.zeros((2, 4)), np.zeros(1, np.int64)
    nested = (1, (2.5, np.arange(3.0)))
    strided = np.arange(24.0).reshape(4, 6).T[::2]
    given = np.float32(0.1), True, nested, strided, out
    compile_first(write, np.ones(1, np.int64), *given)
    with_threads(2, share, write, 2, met, *given)
    assert out[0].tolist() == out[1].tolist() == [np.float32(0.1), 1, 5.5, strided[1, 2] + 4]


@SEVERAL
def test_a_helpers_arrays_have_no_owner_whose_users_two_threads_would_count(with_threads):
    """Also arrays of bytes, whose data has the type of an owner, and arrays in a tuple."""

    @intrinsic
    def owned(context, array):
        def codegen(context, builder, kinds, values):
            owner = context.make_array(kinds.args[0])(context, builder, values[0]).meminfo
            return cgutils.is_not_null(builder, owner)

        return types.boolean(array), codegen

    @njit(nogil=True, error_model="numpy")
    def look_at(tasks, own, met, spikes, pair, out):
        task = begin(tasks, own)
        add(met, 0, 1)
        for _ in range(ROUNDS):
            if look(met, 0) >= 2:
                break
        while task >= 0:
            out[own, 0] = owned(spikes) or owned(pair[0]) or owned(pair[1]) or owned(out)
            out[own, 1] = 100 * spikes[2] + 10 * pair[0][1] + pair[1][0]
            task = take(tasks, own)

    out, met = np.zeros((2, 2), np.int64), np.zeros(1, np.int64)
    given = np.arange(3, dtype=np.uint8), (np.arange(5, 9, dtype=np.uint8), np.ones(4)), out
    compile_first(look_at, np.ones(1, np.int64), *given)
    with_threads(2, share, look_at, 2, met, *given)
    assert out.tolist() == [[1, 261], [0, 261]]


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
    held = np.zeros(3, np.int64)
    with_threads(2, share, mark, 3, 1, held, held.copy())
    alive = weakref.ref(held)
    del held
    gc.collect()
    assert alive() is None


@SEVERAL
def test_many_kernels_one_after_the_other(with_threads):
    def everything():
        for count in range(2, 2000):
            seen = np.zeros(count % 7 + 1, np.int64)
            share(mark, len(seen), count % 5, seen, seen.copy())
            assert (seen == count % 5).all()

    with_threads(config.NUMBA_NUM_THREADS, everything)


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


def convolve(direction, method, x, w):
    p = Conv((1, 1), (1, 1))
    dy = np.ones((*x.shape[:3], w.shape[3]), np.float32)
    if direction == "forward":
        return conv.conv_forward(x, w, p, method=method)[0]
    gradient = conv.conv_input_gradient if direction == "dx" else conv.conv_weight_gradient
    return gradient(dy, conv.ConvCache(x, w, p), method=method)


def test_a_number_of_threads_that_is_given_is_the_most(monkeypatch):
    seen, by = np.zeros(50, np.int64), np.zeros(50, np.int64)
    monkeypatch.setattr(threads.Team, "run", lambda *given: pytest.fail("helpers were called"))
    share(mark, 50, 1, seen, by, threads=1)
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("direction", "method"),
    [
        ("forward", "dense"),
        ("forward", "event"),
        ("forward", "winograd"),
        ("dx", "dense"),
        ("dx", "winograd"),
        ("dw", "dense"),
        ("dw", "event"),
        ("dw", "lookup"),
        ("dw", "winograd"),
    ],
)
def test_no_more_threads_share_a_kernel_than_have_scratch_memory(
    direction, method, with_threads, monkeypatch
):
    """Another Python thread may set a larger number after the memory was allocated."""
    numbers = {}

    def shared(kernel, count, *args, threads=None):
        numbers[kernel.__name__] = threads
        share(kernel, count, *args, threads=threads)

    for module in (dense, event, lookup, winograd):
        monkeypatch.setattr(module, "share", shared)
    x = (np.random.default_rng(0).random((9, 8, 8, 16)) < 0.3).astype(np.uint8)
    w = np.ones((3, 3, 16, 16), np.float32)
    with_threads(1, convolve, direction, method, x, w)
    assert 1 in [numbers.get(f"{kind}_tasks") for kind in ("correlate", "gradient", "weight")]


def test_they_are_started_when_first_needed(with_threads, monkeypatch):
    monkeypatch.setattr(threads, "_team", threads.Team())
    with_threads(1, share, mark, 10, 1, np.zeros(10, np.int64), np.zeros(10, np.int64))
    assert threads._team.helpers == []


@njit
def taken(tasks):
    return [take(tasks, 1) for _ in range(5)]


@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_the_compiled_counter_does_as_its_twin(count):
    tasks = np.array([0, count])
    assert taken(np.array([0, count, 0])) == [take_twin(tasks, 1) for _ in range(5)]


@COMPILED
def test_too_many_arguments_are_refused():
    @njit
    def many(tasks, own, arrays):
        return begin(tasks, own)

    with pytest.raises(TypeError, match="take more than 253 entries"):
        many(np.zeros(256, np.int64), 0, tuple(np.zeros(1) for _ in range(40)))
