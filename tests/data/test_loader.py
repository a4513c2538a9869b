"""Batches made ahead of time: the same bits with any number of workers, which end in time."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from multiprocessing import current_process, get_all_start_methods

import numpy as np
import pytest

from refsnn.data import Batch, Loader, in_order, load
from refsnn.data import loader as loader_module

pytestmark = pytest.mark.processes

SIGKILL = getattr(signal, "SIGKILL", None)  # Windows has none


def noisy(images, rng):
    return images + rng.integers(0, 5, images.shape).astype(images.dtype)


def make(costly=False):
    """The digits with an augmentation that hardly repeats itself."""
    return replace(load("digits"), augment=(noisy,), costly=costly)


def failing():
    def fail(images, rng):
        raise ValueError("image 7: not an image")

    return replace(load("digits"), augment=(fail,))


def plan(n=7):
    order = np.random.default_rng(0).permutation(1442)
    seeds = [np.random.SeedSequence(i // 2, spawn_key=(2, i)) for i in range(n)]
    return [Batch(order[20 * i : 20 * i + 20], seed) for i, seed in enumerate(seeds)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_depend_only_on_their_plan(workers):
    data = make()
    with Loader(data, make, workers) as loader:
        got = list(loader.batches("train", plan(), np.float64))
    assert len(got) == 7
    for (images, labels), (which, seed) in zip(got, plan(), strict=True):
        want = data.batch(data.train, which, np.float64, np.random.default_rng(seed))
        assert images.tobytes() == want[0].tobytes()
        assert np.array_equal(labels, data.train.labels[which])
        plain, _ = data.batch(data.train, which, np.float64)
        assert not np.array_equal(images, plain)


@pytest.mark.parametrize("method", sorted({"spawn", "forkserver"} & set(get_all_start_methods())))
def test_batches_are_the_same_however_workers_are_started(method, monkeypatch):
    monkeypatch.setattr(loader_module, "get_all_start_methods", lambda: [method])
    data = make()
    found = []
    for workers in (0, 2):
        with Loader(data, make, workers) as loader:
            assert workers == 0 or loader.pool._mp_context.get_start_method() == method
            batches = loader.batches("train", plan(), np.float32)
            found.append([(images.tobytes(), labels.tobytes()) for images, labels in batches])
    assert found[0] == found[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_without_a_seed_nothing_is_augmented(workers):
    data = make()
    with Loader(data, make, workers) as loader:
        got = list(loader.batches("test", in_order(355, 100), np.float32))
    assert [len(labels) for _, labels in got] == [100, 100, 100, 55]
    images, labels = (np.concatenate(parts) for parts in zip(*got, strict=True))
    want = data.batch(data.test, np.arange(355), np.float32)
    assert np.array_equal(images, want[0])
    assert np.array_equal(labels, want[1])


def test_batches_are_made_ahead_of_time():
    asked = []

    def watched():
        for batch in plan(40):
            asked.append(batch)
            yield batch

    with Loader(make(), make, 2) as loader:
        batches = loader.batches("train", watched(), np.float32)
        next(batches)
        assert len(asked) == 5  # AHEAD for each worker, and the one that came
        next(batches)
        assert len(asked) == 6


def test_one_worker_is_the_default_where_batches_are_costly():
    for costly in (False, True):
        with Loader(make(costly), make) as loader:
            assert loader.workers == costly


def test_a_daemon_makes_its_batches_itself(monkeypatch):
    monkeypatch.setitem(current_process()._config, "daemon", True)
    with Loader(make(costly=True), make) as loader:
        assert loader.workers == 0


def test_leaving_early_leaves_no_worker():
    with Loader(make(), make, 2) as loader:
        next(loader.batches("train", plan(), np.float32))
        workers = list(loader.pool._processes)
    assert workers
    for pid in workers:
        assert gone(pid)


def test_a_workers_error_about_an_image_is_raised_in_the_parent():
    data = failing()
    for workers in (0, 1):
        with Loader(data, failing, workers) as loader:
            batches = loader.batches("train", plan(), np.float32)
            with pytest.raises(ValueError, match=r"^image 7: not an image$"):
                next(batches)


def test_a_worker_that_dies_is_noticed():
    with Loader(make(), make, 1) as loader:
        batches = loader.batches("train", plan(), np.float32)
        next(batches)
        os.kill(next(iter(loader.pool._processes)), SIGKILL)
        with pytest.raises(OSError, match="a worker process that makes batches has died"):
            list(batches)


def test_invalid_numbers_of_workers_are_refused():
    with pytest.raises(ValueError, match="workers: got -1, want a whole number of at least 0"):
        Loader(make(), make, -1)


def gone(pid, seconds=20.0):
    """Tell whether the processes have ended in time; a zombie counts as ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


PARENT = """
from functools import partial
import numpy as np
from refsnn.data import Batch, Loader, load

if __name__ == "__main__":
    make = partial(load, "digits")
    with Loader(make(), make, 2) as loader:
        plan = (Batch(np.arange(20)) for _ in range(10**6))
        batches = loader.batches("train", plan, np.float32)
        next(batches)
        next(batches)
        print(*loader.pool._processes, flush=True)
        for _ in batches:
            pass
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(how, tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # started in the background, these tests have a parent that ignores SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert workers
    process.send_signal(how)
    process.wait(timeout=20)
    for pid in workers:
        assert gone(pid)


def test_data_sets_by_name_go_to_workers():
    make = partial(load, "digits")
    with Loader(make(), make, 1) as loader:
        images, _ = next(loader.batches("train", plan(), np.float32))
    assert images.shape == (20, 8, 8, 1)
