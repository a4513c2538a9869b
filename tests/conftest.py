"""Fixtures of all tests, and kernels compiled before the first of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from refsnn.cli import main
from refsnn.kernels import direct


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
