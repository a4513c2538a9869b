"""An adapter that does anything at all costs its own case and no other."""

import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from refsnn.oracle.isolate import Isolated

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.name != "posix", reason="process groups"),
]

MISDEEDS = {
    "raises": (
        "1 / 0",
        "raised",
        r"ZeroDivisionError: division by zero "
        r"\(mine.py:14, in misbehave: exec\(case.summary\)\)",
    ),
    "exits": ("sys.exit(3)", "raised", r"SystemExit: 3 \(mine.py:14"),
    "interrupts": ("raise KeyboardInterrupt", "raised", "KeyboardInterrupt"),
    "leaves": ("os._exit(5)", "died", "^exit code 5 while it ran$"),
    "leaves well": ("os._exit(0)", "died", "^exit code 0 while it ran$"),
    "segfaults": ("ctypes.string_at(0)", "died", "^killed by SIGSEGV"),
    "aborts": ("os.abort()", "died", "^killed by SIGABRT"),
    "is killed": ("os.kill(os.getpid(), 9)", "died", "^killed by SIGKILL, perhaps out of mem"),
    "sleeps": ("time.sleep(1000)", "hung", r"^no answer within 2 s \(mine.py:14, in misbehave\)$"),
    "loops": ("while True: pass", "hung", "^no answer within 2 s"),
    "holds on": (
        "signal.signal(signal.SIGABRT, signal.SIG_IGN); time.sleep(1000)",
        "hung",
        "^no answer within 2 s$",
    ),
    "eats": ("bytearray(10**12)", "raised", r"^MemoryError \(mine.py:14"),
    "eats bit by bit": ("x = []\nwhile True: x.append(bytearray(2**22))", "raised", "^MemoryError"),
    "closes": ("os.closerange(3, 100)", "died", "exit code|closed the pipe"),
    "answers": (
        "for i in range(3, 20):\n try: os.write(i, b'{}\\n')\n except OSError: pass",
        "garbage",
        "^wrote b'{}.n.* where answers go$",
    ),
    "fills the disk": ("os.truncate(2, 2**40)", "raised", "OSError: .*File too large"),
}
ADAPTER = """
    import ctypes
    import os
    import signal
    import sys
    import time

    class Adapter:
        def run(self, case):
            self.misbehave(case)
            return {"y": 2 * case.inputs["x"]}

        def misbehave(self, case):
            exec(case.summary)
    """


@pytest.fixture
def misdeeds(adapter):
    adapter(ADAPTER)
    with Isolated("mine:Adapter", timeout=30, memory=2**29) as isolated:
        yield isolated


@pytest.mark.parametrize("name", MISDEEDS)
def test_a_misdeed_costs_one_case(name, misdeeds, doubling):
    code, status, message = MISDEEDS[name]
    case = doubling(summary=code)
    misdeeds.start()
    misdeeds.timeout = 2 if status == "hung" else 30
    answer = misdeeds.run(case)
    misdeeds.timeout = 30
    assert answer.status == status, answer
    assert re.search(message, answer.message), answer.message
    assert not answer.arrays
    after = misdeeds.run(doubling(summary=""))
    assert after.status == "done", after
    np.testing.assert_array_equal(after.arrays["y"], case.outputs["y"])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "got NoneType, want a mapping"),
        ("{'y': Odd()}", "y: got dtype object, want numbers"),
        ("{'y': Bad()}", "y: got Bad, want an array: no"),
        ("{'y': [1e0] * 10**6}", r"y: got shape \(1000000,\), want \(2, 3\)"),
    ],
)
def test_garbage_costs_one_case(returned, message, adapter, doubling):
    adapter(f"""
    class Odd:
        def __reduce__(self):
            return print, ("executed",)
    class Bad:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("no")
    def run(case):
        return {returned} if case.id == "neuron/bad" else {{"y": 2 * case.inputs["x"]}}
    """)
    with Isolated("mine:run") as isolated:
        answer = isolated.run(doubling("neuron/bad"))
        assert answer.status == "garbage"
        assert message.replace("\\", "") in answer.message
        assert isolated.run(doubling()).status == "done"


def test_an_answer_file_that_was_tampered_with_is_garbage(adapter, doubling):
    adapter("""
    import os, sys
    worker = sys.modules["__main__"]
    def run(case):
        size = int(case.summary)
        content = os.urandom(100) if size < 0 else bytes(size)
        worker.write_arrays = lambda path, arrays: path.write_bytes(content)
        return {}
    """)
    with Isolated("mine:run") as isolated:
        answer = isolated.run(doubling(summary="-1"))
        assert answer.status == "garbage"
        assert re.search(r"its answer can't be read: .*: is no \.npz file", answer.message)
        answer = isolated.run(doubling(summary=str(10**8)))
        assert "its answer can't be read: got 100000000 bytes, want at most" in answer.message


def test_printed_output_is_kept_by_case_and_apart_from_answers(adapter, doubling):
    adapter("""
    import os, subprocess, sys
    print("when imported")
    def run(case):
        print("out", case.id)
        print("err", case.id, file=sys.stderr)
        os.write(1, b"written\\n")
        subprocess.run(["echo", "child"])
        return {"y": 2 * case.inputs["x"]}
    """)
    with Isolated("mine:run") as isolated:
        for name in ("neuron/a", "neuron/b"):
            answer = isolated.run(doubling(name))
            assert answer.status == "done"
            lines = [*answer.printed.splitlines()]
            assert lines == [f"out {name}", f"err {name}", "written", "child"]


def test_the_end_of_a_long_output_is_kept(adapter, doubling):
    adapter("""
    def run(case):
        print("x" * 10**6 + "end")
        return {}
    """)
    with Isolated("mine:run") as isolated:
        printed = isolated.run(doubling()).printed
    assert len(printed) <= 2**16
    assert printed.endswith("end\n")


def test_unsupported_says_why_and_keeps_the_process(adapter, doubling):
    adapter("""
    import os
    from refsnn.oracle.adapters import Unsupported
    def run(case):
        if case.id == "neuron/no":
            raise Unsupported("no such surrogate")
        return {"y": os.getpid()}
    """)
    with Isolated("mine:run") as isolated:
        first = isolated.run(doubling())
        answer = isolated.run(doubling("neuron/no"))
        assert (answer.status, answer.message) == ("unsupported", "no such surrogate")
        assert isolated.run(doubling()).arrays["y"] == first.arrays["y"]


def test_after_an_error_another_process_goes_on(adapter, doubling):
    adapter("""
    import os
    def run(case):
        return {"y": os.getpid() if case.id == "neuron/a" else 1 / 0}
    """)
    with Isolated("mine:run") as isolated:
        first = isolated.run(doubling())
        assert isolated.run(doubling("neuron/b")).status == "raised"
        assert isolated.run(doubling()).arrays["y"] != first.arrays["y"]


def test_an_error_in_every_case_costs_one_restart(adapter, doubling, tmp_path):
    adapter("""
    import os, pathlib
    with open("started", "a") as file:
        file.write("x")
    def run(case):
        if case.id == "neuron/right":
            return {"y": os.getpid()}
        if case.id == "neuron/other":
            raise TypeError
        raise ValueError(f"shape {len(case.id)}")
    """)

    def started():
        return len((tmp_path / "started").read_text())

    with Isolated("mine:run") as isolated:
        for count in range(5):
            answer = isolated.run(doubling("neuron/" + "a" * count))
            assert answer.message.startswith(f"ValueError: shape {7 + count} (mine.py:10, in run")
        assert started() == 2
        # what is right after an error was computed by a process without one
        first = isolated.run(doubling("neuron/right"))
        assert (first.status, started()) == ("done", 3)
        assert isolated.run(doubling("neuron/right")).arrays["y"] == first.arrays["y"]
        assert isolated.run(doubling("neuron/a")).status == "raised"
        assert isolated.run(doubling("neuron/other")).message.startswith("TypeError")
        assert started() == 4
        isolated.run(doubling("neuron/a"))
        assert started() == 5


def test_state_that_an_error_leaves_is_not_met(adapter, doubling):
    adapter("""
    class Adapter:
        broken = False
        def run(self, case):
            if case.id == "neuron/bad":
                self.broken = True
                raise ValueError
            return {"y": case.inputs["x"] * (3 if self.broken else 2)}
    """)
    with Isolated("mine:Adapter") as isolated:
        for name in ("bad", "good", "bad", "bad", "good", "good"):
            answer = isolated.run(doubling(f"neuron/{name}"))
            if name == "good":
                np.testing.assert_array_equal(answer.arrays["y"], doubling().outputs["y"])


def test_repeats_run_on_one_object_with_inputs_as_given(adapter, doubling):
    adapter("""
    class Adapter:
        runs = 0
        def run(self, case):
            self.runs += 1
            x = case.inputs["x"]
            x *= 2
            return {"y": x + 100 * self.runs}
    """)
    case = doubling(repeat=3)
    with Isolated("mine:Adapter") as isolated:
        np.testing.assert_array_equal(isolated.run(case).arrays["y"], case.outputs["y"] + 300)


def test_expected_values_are_not_shown(adapter, doubling):
    adapter("def run(case): return case.outputs")
    with Isolated("mine:run") as isolated:
        assert np.isnan(isolated.run(doubling()).arrays["y"]).all()


def test_a_process_that_died_between_cases_is_replaced(adapter, doubling):
    adapter("""
    import os, threading
    def run(case):
        threading.Timer(0.2, os._exit, [1]).start()
        return {}
    """)
    with Isolated("mine:run") as isolated:
        assert isolated.run(doubling()).status == "done"
        isolated.process.wait(10)
        assert isolated.run(doubling()).status == "done"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_like_this", r"No module named 'nothing_like_this' \(mine.py:1"),
        ("1 / 0", r"^adapter: ZeroDivisionError: .*\(mine.py:1, in <module>: 1 / 0\)$"),
        ("def", "SyntaxError: invalid syntax"),
        ("import os; os._exit(4)", "^adapter: exit code 4 while it ran"),
        ("class run:\n    def __init__(self, size): pass", "needs size: give a function without"),
        ("run = 3", "^adapter: got int, want an object"),
    ],
)
def test_an_object_that_is_no_adapter_is_refused(code, message, adapter):
    adapter(code)
    with Isolated("mine:run") as isolated, pytest.raises(ValueError, match=message) as caught:
        isolated.start()
    assert "\n" not in str(caught.value)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


#: how a process may be started that is to outlive who started it; CHILD is its command
STARTED = {
    "child": "subprocess.Popen(CHILD)",
    "session": "subprocess.Popen(CHILD, start_new_session=True)",
    "orphan": "subprocess.run(['sh', '-c', 'setsid \"$@\" &', 'sh', *CHILD], env={})",
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("ending", ["time.sleep(1000)", "os._exit(1)", "ctypes.string_at(0)", ""])
@pytest.mark.parametrize("start", STARTED)
def test_all_that_it_started_ends_too(start, ending, misdeeds, doubling, tmp_path):
    command = [
        "/bin/sh",
        "-c",
        f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; "
        "trap '' TERM HUP; sleep 1000 & wait; wait",
    ]
    code = f"""
import subprocess
CHILD = {command}
{STARTED[start]}
while not os.path.exists({str(tmp_path / "pid")!r}):
    time.sleep(0.01)
{ending}
"""
    misdeeds.timeout = 2
    answer = misdeeds.run(doubling(summary=code))
    assert answer.status == {"time.sleep(1000)": "hung", "": "done"}.get(ending, "died")
    pid = int((tmp_path / "pid").read_text())
    misdeeds.stop()
    assert not alive(pid)


ASKING = """
    import dataclasses
    from refsnn.oracle import cases, recipes
    from refsnn.oracle.isolate import Isolated
    case = cases.build(next(recipes.recipes(("neuron",))))
    isolated = Isolated("mine:Adapter", timeout=1000)
    isolated.run(dataclasses.replace(case, summary={code!r}))
    """


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("ending", ["", "while True: pass", "time.sleep(1000)"])
def test_it_does_not_outlive_the_asking_process(ending, adapter, tmp_path):
    adapter(ADAPTER)
    note = tmp_path / "pid"
    code = f"open('new', 'w').write(str(os.getpid())); os.rename('new', 'pid')\n{ending}"
    asking = subprocess.Popen([sys.executable, "-c", textwrap.dedent(ASKING).format(code=code)])
    while not note.exists():
        time.sleep(0.05)
        assert asking.poll() is None or note.exists()
    asking.kill()
    asking.wait()
    assert gone(int(note.read_text()))


def test_nothing_is_left_behind(misdeeds, doubling):
    folder = Path(misdeeds.folder.name)
    misdeeds.run(doubling(summary=""))
    process = misdeeds.process
    assert folder.is_dir()
    misdeeds.__exit__(None, None, None)
    assert process.returncode is not None
    assert not folder.exists()


IN_THE_WAY = {
    "pipe": "os.mkfifo(path)",
    "link": "os.symlink(os.path.abspath('precious'), path)",
    "folder": "os.mkdir(path)",
    "endless": "os.symlink('/dev/zero', path)",
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_files_that_it_puts_in_the_way_are_not_used(what, adapter, doubling, tmp_path):
    (tmp_path / "precious").write_text("mine")
    adapter(f"""
    import os, sys
    def put_in_the_way(top):
        for folder, _, files in os.walk(top):
            for path in {{os.path.join(folder, n) for n in (*files, "case.npz", "printed")}}:
                if os.path.isdir(path):
                    continue
                if os.path.lexists(path):
                    os.unlink(path)
                {IN_THE_WAY[what]}
    def run(case):
        put_in_the_way(sys.argv[1])
        return {{"y": 2 * case.inputs["x"]}}
    """)
    with Isolated("mine:run", timeout=10) as isolated:
        for _ in range(3):
            answer = isolated.run(doubling())
            assert answer.status == "done"
        isolated.stop()
        assert isolated.run(doubling()).status == "done"
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_an_answer_that_is_no_file_is_garbage(what, adapter, doubling, tmp_path):
    adapter(f"""
    import os, sys
    worker = sys.modules["__main__"]
    def write(path, arrays):
        {IN_THE_WAY[what]}
    def run(case):
        worker.write_arrays = write
        return {{}}
    """)
    with Isolated("mine:run", timeout=10) as isolated:
        answer = isolated.run(doubling())
    assert answer.status == "garbage"
    assert "its answer can't be read" in answer.message


def test_a_polite_end_lets_it_clean_up(adapter, doubling, tmp_path):
    adapter("""
    import atexit, pathlib, time
    @atexit.register
    def end():
        time.sleep(0.5)
        pathlib.Path("ended").touch()
    def run(case):
        return {}
    """)
    with Isolated("mine:run") as isolated:
        isolated.run(doubling())
    assert (tmp_path / "ended").exists()
