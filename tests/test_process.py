"""Settings of a command's process; tests use a process of their own, since settings stay."""

import errno
import io
import os
import subprocess
import sys

import pytest

from refsnn import process, system
from refsnn.cli import main
from refsnn.process import Output, limit_threads, output

pytestmark = pytest.mark.processes


def printed_by(code, **environment):
    """The words that a fresh interpreter prints."""
    pools = ("OMP_NUM_THREADS",)
    known = {k: v for k, v in os.environ.items() if k not in pools}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=known | environment,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout.split()


FAULTS = """
import resource
import numpy as np
from refsnn.process import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.empty(3 << 20, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(keep_freed_memory(large=LARGE) if KEEP else True)
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_for_reuse():
    keeping = FAULTS.replace("KEEP", "True")
    kept, faults = printed_by(keeping.replace("LARGE", "True"))
    if kept == "False":
        pytest.skip("no glibc")
    assert int(faults) < 100
    kept, faults = printed_by(keeping.replace("LARGE", "False"))  # 3 MiB are not large
    assert int(faults) < 100
    larger = keeping.replace("LARGE", "False").replace("3 << 20", "33 << 20")
    kept, faults = printed_by(larger)
    assert kept == "True"
    assert int(faults) > 1000
    _, without = printed_by(FAULTS.replace("KEEP", "False"), MALLOC_MMAP_THRESHOLD_="100000")
    assert int(without) > 1000, "nothing was to be gained, so nothing is shown"


def test_threads_are_limited_in_kernels_and_in_blas():
    code = (
        "import numpy, scipy.linalg, threadpoolctl\n"
        "from refsnn.kernels.threads import get_num_threads\n"
        "from refsnn.process import limit_threads\n"
        "limit_threads(1)\n"
        "print(get_num_threads(),"
        " *(pool['num_threads'] for pool in threadpoolctl.threadpool_info()))"
    )
    found = printed_by(code, NUMBA_NUM_THREADS="2")
    assert len(found) > 1
    assert set(found) == {"1"}


def test_none_leaves_the_environments_number():
    code = (
        "from refsnn.kernels.threads import get_num_threads\n"
        "from refsnn.process import limit_threads\nlimit_threads(None)\n"
        "print(get_num_threads())"
    )
    assert printed_by(code, NUMBA_NUM_THREADS="2") == ["2"]


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_more_threads_than_cores_are_refused(threads, capsys):
    with pytest.raises(ValueError, match=rf"^threads: got {threads}, want 1 to \d+ \(the cores"):
        limit_threads(threads)
    for command in (["train"], ["evaluate", "nowhere"]):
        assert main([*command, "--threads", str(threads)]) == 2
        assert capsys.readouterr().err.startswith(f"refsnn: error: threads: got {threads}")


def test_a_console_that_is_no_file_is_kept():
    class Console(io.RawIOBase):
        """As that of Windows is: no file."""

        def writable(self):
            return True

        def write(self, content):
            shown.append(bytes(content))
            return len(content)

    shown = []
    stream = io.TextIOWrapper(io.BufferedWriter(Console()), encoding="cp1252")
    assert output(1, stream) is stream
    stream.write("a λ")
    stream.flush()
    assert b"".join(shown) == rb"a \u03bb"


def test_a_pipe_without_a_reader_is_a_broken_pipe_on_windows_too(monkeypatch):
    def invalid(path):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(process, "naming_path", invalid)
    stream = Output(2, "w", closefd=False)
    assert stream.write(b"a") == 1  # best effort
    monkeypatch.setattr(system, "WINDOWS", True)
    with pytest.raises(BrokenPipeError):
        stream.write(b"a")
