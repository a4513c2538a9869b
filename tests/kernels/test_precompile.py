"""Kernels are compiled before training, by several processes into one cache."""

import gc
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from numba import config, njit

from refsnn.kernels import precompile

pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
SEVERAL = pytest.mark.skipif(config.NUMBA_NUM_THREADS < 2, reason="one core")


@pytest.fixture
def recorded(monkeypatch):
    """Replace the parts by some that compile a tiny function; return those that were called."""
    called = []

    def part(name):
        called.append((name, threading.current_thread() is threading.main_thread()))
        njit(lambda: name)()

    made = {f"part {i}": lambda i=i: part(f"part {i}") for i in range(4)}
    monkeypatch.setattr(precompile, "parts", lambda dtype, optimizer: dict(made))
    return called


@pytest.mark.parametrize("helper", ["fails", "ends at once", "ends when it is asked"])
@SEVERAL
def test_all_is_compiled_here_where_the_other_process_fails(
    helper, recorded, monkeypatch, tmp_path
):
    script = tmp_path / "python"
    lines = {
        "fails": "exit 3",
        "ends at once": "echo ready; exit 0",
        "ends when it is asked": "echo ready; read name; exit 1",
    }
    script.write_text(f"#!/bin/sh\n{lines[helper]}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    seen = []
    assert precompile.precompile("float32", "adamw", lambda *state: seen.append(state)) == 4
    assert sorted(name for name, _ in recorded) == [f"part {i}" for i in range(4)]
    assert seen[0] == (0, 4, "part 0")
    assert all(0 <= done < count == 4 for done, count, _ in seen)


def test_the_last_part_may_go_to_another_process(monkeypatch):
    """After this one saw that it was left."""

    class Emptied(precompile.deque):
        """It is full when looked at, and then another process takes its last part."""

        def __bool__(self):
            was_full = len(self) > 0
            if len(self) == 1:
                taken.append(self.pop())
            return was_full

    taken, called = [], []
    made = {name: lambda name=name: called.append(name) for name in "abc"}
    monkeypatch.setattr(precompile, "parts", lambda dtype, optimizer: made)
    monkeypatch.setattr(precompile, "deque", Emptied)
    assert precompile.precompile("float32", "adamw") == 0
    assert [called, [name for name, _ in taken]] == [["a", "b"], ["c"]]


@pytest.mark.parametrize("error", [BlockingIOError(11, "no more"), RuntimeError("no thread")])
def test_all_is_compiled_here_where_no_process_can_be_started(error, recorded, monkeypatch):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(precompile, "get_num_threads", lambda: 4)
    monkeypatch.setattr(precompile, "OtherProcess", fail)
    assert precompile.precompile("float32", "adamw") == 4
    assert [name for name, _ in recorded] == [f"part {i}" for i in range(4)]


def test_a_process_whose_thread_can_not_be_started_is_ended(monkeypatch):
    started, popen = [], subprocess.Popen

    def seen(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    def fail(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(precompile.subprocess, "Popen", seen)
    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="new thread"):
        precompile.OtherProcess(["float32", "adamw"], precompile.deque())
    assert started[0].returncode is not None


@SEVERAL
def test_a_process_that_is_not_ready_in_time_is_not_waited_for(recorded, monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 90\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    begin = time.monotonic()
    assert precompile.precompile("float32", "adamw") == 4
    assert time.monotonic() - begin < 60
    assert len(recorded) == 4


@pytest.mark.parametrize(
    ("threads", "count", "others"), [(2, 4, 1), (3, 4, 2), (16, 4, 3), (16, 2, 1), (16, 1, 0)]
)
def test_up_to_three_processes_help(threads, count, others, recorded, monkeypatch):
    """But no more than there are parts."""
    started, made = [], precompile.parts("float32", "adamw")

    class Idle:
        asked = None

        def __init__(self, arguments, left):
            started.append((arguments, len(left)))

        def wait(self):
            return False

        def end(self):
            started.append("ended")

    monkeypatch.setattr(precompile, "get_num_threads", lambda: threads)
    monkeypatch.setattr(precompile, "OtherProcess", Idle)
    some = dict(list(made.items())[:count])
    monkeypatch.setattr(precompile, "parts", lambda dtype, optimizer: dict(some))
    assert precompile.precompile("float32", "adamw") == count
    assert started == [(["float32", "adamw"], count - 1)] * others + ["ended"] * others


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_again_after_an_error(enabled):
    was, inside = gc.isenabled(), []

    @precompile.no_garbage_collection()
    def fail():
        inside.append(gc.isenabled())
        raise KeyError

    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(KeyError):
            fail()
        assert inside == [False]
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_one_thread_is_one_process(recorded, monkeypatch):
    monkeypatch.setattr(precompile, "get_num_threads", lambda: 1)
    monkeypatch.setattr(precompile, "OtherProcess", None)
    assert precompile.precompile("float32", "adamw") == 4


def test_no_process_is_started_where_nothing_is_to_be_compiled(monkeypatch):
    monkeypatch.setattr(precompile, "parts", lambda dtype, optimizer: {"nothing": lambda: None})
    monkeypatch.setattr(precompile, "OtherProcess", None)
    assert precompile.precompile("float32", "adamw") == 0


def test_an_error_in_a_part_ends_the_other_processes(recorded, monkeypatch):
    made = precompile.parts("float32", "adamw")

    def fail():
        raise KeyboardInterrupt

    started = []
    kept = precompile.OtherProcess

    def helper(*arguments):
        started.append(kept(*arguments))
        return started[-1]

    monkeypatch.setattr(precompile, "OtherProcess", helper)
    monkeypatch.setattr(precompile, "parts", lambda d, o: {**made, "part 1": fail})
    with pytest.raises(KeyboardInterrupt):
        precompile.precompile("float32", "adamw")
    assert all(one.process.poll() is not None for one in started)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_then_compiles_nothing_more(dtype, tmp_path, monkeypatch):
    """In a process of its own, after another has filled an empty cache."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    code = f"""
    import sys
    from refsnn.kernels.precompile import precompile
    print(precompile("{dtype}", "adamw"))
    """
    train = f"""
    from pathlib import Path
    from numba.core import event
    from refsnn.kernels.precompile import Compiled
    from refsnn.training.config import make_config
    from refsnn.training.run import start
    compiled = Compiled()
    with event.install_listener("numba:compile", compiled):
        config = make_config(arch="1-1:16-32", epochs=1, batch_size=721, dtype="{dtype}")
        start(Path(r"{tmp_path}") / "run", config).train(quiet=True)
    print(compiled.count)
    """
    counts = [
        int(
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(text)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
        )
        for text in (code, code, train)
    ]
    assert counts[0] > 5
    assert counts[1:] == [0, 0]
