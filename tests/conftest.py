"""Fixtures of all tests, and kernels compiled before the first of them."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import FunctionType
from typing import Any
from zlib import crc32

import pytest

from refsnn.cli import main
from refsnn.kernels import direct

# idle threads of one process would otherwise spin on the cores that the others compute on; workers
# and all processes that tests start inherit it
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """Compile the kernels by two processes before workers start, each of which would compile the
    same; only where all tests are asked for."""
    config = session.config
    workers = getattr(config.option, "numprocesses", None)
    if workers and config.args_source is config.ArgsSource.TESTPATHS and not compiled():
        script = Path(__file__).with_name("compile_kernels.py")
        parts = [subprocess.Popen([sys.executable, script, p]) for p in ("numbers", "spikes")]
        if any([part.wait() for part in parts]):  # noqa: C419 (none is left running)
            raise pytest.UsageError("the kernels can't be compiled: see above")


def compiled():
    """Tell whether Numba's cache has kernels of each module, newer than its source."""
    cache = Path(direct.gather.stats.cache_path)
    for source in Path(direct.__file__).parent.glob("*.py"):
        found = [path.stat().st_mtime for path in cache.glob(f"{source.stem}.*.nbi")]
        if "@njit" in source.read_text() and max(found, default=0) < source.stat().st_mtime:
            return False
    return True


collect_ignore = [] if os.name == "posix" else ["attack"]
#: what a test can't do on Windows
POSIX = {
    *("SIGKILL", "killpg", "pause", "mkfifo", "symlink_to", "symlink", "chmod", "set_blocking"),
    *("preexec_fn", "getpgid", "resource", "fcntl", "st_blocks", "posix_fallocate"),
}


def names(function):
    """Return the names that a test uses, and functions of its module that it calls."""
    found, todo = set(), [function]
    while todo:
        at = todo.pop()
        for code in (at.__code__, *(c for c in at.__code__.co_consts if hasattr(c, "co_names"))):
            texts = {c for c in code.co_consts if isinstance(c, str)}
            keywords = {k for c in code.co_consts if isinstance(c, tuple) for k in c}
            new = ({*code.co_names} | texts | keywords) - found
            found |= new
            called = [at.__globals__.get(name) for name in new if isinstance(name, str)]
            todo += [
                f for f in called if isinstance(f, FunctionType) and f.__module__ == at.__module__
            ]
    return found


def pytest_addoption(parser):
    parser.addoption("--part", metavar="K/N", help="run the K-th of N parts of the tests, from 0")


def pytest_collection_modifyitems(config, items):
    """Mark as slow what `slow_after` says; leave out the tests of other parts; skip on Windows what
    needs signals, pipes with a name, links or a shell."""
    parameters = Counter[Any]()
    for item in items:
        if few := item.get_closest_marker("slow_after"):
            parameters[item.parent, item.originalname] += 1
            if parameters[item.parent, item.originalname] > few.args[0]:
                item.add_marker("slow")
    if config.option.part is not None:
        part, parts = map(int, config.option.part.split("/"))
        split: list[list[Any]] = [[], []]
        for item in items:
            split[crc32(item.nodeid.encode()) % parts == part].append(item)
        config.hook.pytest_deselected(items=split[False])
        items[:] = split[True]
    if os.name == "posix":
        return
    for item in items:
        params = item.callspec.params.values() if hasattr(item, "callspec") else ()
        used = names(item.function) | {x for x in params if isinstance(x, str)}
        if item.path.name == "test_main.py" or POSIX & used:
            item.add_marker(pytest.mark.skip(reason="needs POSIX"))


@pytest.fixture
def refused(capsys):
    """Runs a command that can't be done: the one line of its error, with exit code 2."""

    def line(arguments):
        capsys.readouterr()
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:  # from argparse
            code = stop.code
        shown = capsys.readouterr()
        lines = shown.err.splitlines()
        assert code == 2
        assert len(lines) == 1, lines
        assert not shown.out
        return lines[0]

    return line
