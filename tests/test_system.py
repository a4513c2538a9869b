"""Differences between systems, as far as they can be tested on this one."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from refsnn import system


def run(code):
    """Exit code and output of a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(system.resource is None, reason="no limits")
def test_a_limit_holds_and_an_unknown_one_is_ignored():
    code = "from refsnn import system\nsystem.limit('DATA', 2**28)\nbytearray(2**29)"
    assert "MemoryError" in run(code)[1]
    assert run(code.replace("DATA", "NOTHING")) == (0, "")


@pytest.mark.skipif(system.resource is None, reason="no limits")
def test_a_limit_is_not_raised_above_the_hard_one():
    code = (
        "import resource\nfrom refsnn import system\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))\n"
        "system.limit('DATA', 2**31)\nprint(*resource.getrlimit(resource.RLIMIT_DATA))"
    )
    assert run(code) == (0, f"{2**30} {2**30}\n")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity")
def test_cores_are_those_that_this_process_may_use():
    assert system.usable_cores() == len(os.sched_getaffinity(0))
    code = (
        "import os\nfrom refsnn import system\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint(system.usable_cores())"
    )
    assert run(code) == (0, "1\n")


#: a process with a child and a grandchild, all of which sleep
FAMILY = (
    "import subprocess, sys, time\n"
    "if depth := int(sys.argv[1]):\n"
    "    subprocess.Popen([sys.executable, '-c', sys.argv[2], str(depth - 1), sys.argv[2]])\n"
    "print('up', flush=True)\n"
    "time.sleep(1000)"
)


@pytest.fixture
def family():
    """Start a process with two descendants."""
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY, "2", FAMILY], stdout=subprocess.PIPE, **system.APART
    )
    assert [process.stdout.readline() for _ in "123"] == [b"up\n"] * 3
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("groups", [True, False])
def test_killing_a_process_kills_its_descendants(family, groups, monkeypatch):
    if groups and not system.GROUPS:
        pytest.skip("no process groups")
    monkeypatch.setattr(system, "GROUPS", groups)
    since = psutil.Process().create_time()
    below = system.descendants(family.pid, since)
    assert len(below) == 2
    system.kill_group(family.pid)
    assert family.wait(10) != 0
    assert not psutil.wait_procs(below, 10)[1]


def test_older_processes_are_not_descendants():
    assert not system.descendants(os.getppid(), time.time() + 1000)


def test_a_file_that_is_open_for_a_while_is_replaced(tmp_path, monkeypatch):
    """The replacement is refused as on Windows."""
    real, calls = os.replace, []

    def busy(source, target):
        calls.append(source)
        if len(calls) < 3:
            raise PermissionError
        real(source, target)

    new, old = tmp_path / "new", tmp_path / "old"
    new.write_bytes(b"new")
    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(system, "WINDOWS", False)  # where the error means what it says
    with pytest.raises(PermissionError):
        system.replace(new, old)
    monkeypatch.setattr(system, "WINDOWS", True)
    system.replace(new, old)
    assert old.read_bytes() == b"new"
    monkeypatch.setattr(system, "PATIENCE", 0)
    calls[:] = []
    with pytest.raises(PermissionError):
        system.replace(old, new)
