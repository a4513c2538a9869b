"""Where compiled code is kept, or that it can't be; in processes of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import refsnn

pytestmark = pytest.mark.processes

CODE = """
import os, sys, pwd
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "homeless":
    def nobody(number):
        raise KeyError(number)
    pwd.getpwuid = nobody
import refsnn.kernels.add, numba, numpy
total = numpy.ones(3, numpy.float32)
refsnn.kernels.add.add_into(total, total.copy())
assert total.tolist() == [2, 2, 2]
print(refsnn.__file__, numba.config.CACHE_DIR, os.path.isdir(numba.config.CACHE_DIR or "none"))
"""


@pytest.fixture
def installed(tmp_path):
    """A copy of the package in a folder that can't be written, and how to run as one who can't."""
    shutil.copytree(
        Path(refsnn.__file__).parent,
        tmp_path / "site" / "refsnn",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    plain = []
    if os.geteuid() == 0:
        plain = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
        if shutil.which("setpriv") is None:
            pytest.skip("root can write everywhere")
    folders = [tmp_path / "site", *(p for p in (tmp_path / "site").rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield plain
    for folder in folders:
        folder.chmod(0o755)


def started(plain, tmp_path, home, **environment):
    """Words and lines that a process prints which imports the copy's kernels."""
    for name in ("work", "tmp"):
        (tmp_path / name).mkdir(exist_ok=True)
    given = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path / "tmp")} | environment
    done = subprocess.run(
        [*plain, sys.executable, "-c", CODE, tmp_path / "site", home],
        cwd=tmp_path / "work",
        env=given,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    file, *words = done.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    return words, done.stderr.splitlines()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody can make")
@pytest.mark.parametrize("home", ["/proc/none", "homeless"])
def test_where_nothing_can_be_kept_it_goes_on_and_says_so(home, installed, tmp_path):
    environment = {} if home == "homeless" else {"HOME": home}
    (folder, exists), (line,) = started(installed, tmp_path, home, **environment)
    assert Path(folder).parent == tmp_path / "tmp"
    assert exists == "True"
    assert line.startswith("refsnn: compiled code can't be kept")
    assert "NUMBA_CACHE_DIR" in line
    assert not Path(folder).exists(), "it goes with the process"
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("home", ["/proc/none", "homeless"])
def test_a_folder_that_is_named_is_taken(home, installed, tmp_path):
    environment = {} if home == "homeless" else {"HOME": home}
    kept = tmp_path / "kept"
    words, lines = started(installed, tmp_path, home, NUMBA_CACHE_DIR=str(kept), **environment)
    assert (words, lines) == ([str(kept), "True"], [])


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody can make")
def test_a_named_folder_that_cannot_be_written_is_one_line_too(installed, tmp_path):
    (folder, exists), (line,) = started(
        installed, tmp_path, "", HOME="/proc/none", NUMBA_CACHE_DIR="/proc/none/kept"
    )
    assert Path(folder).parent == tmp_path / "tmp"
    assert exists == "True"
    assert line.startswith("refsnn: compiled code can't be kept")
    assert "NUMBA_CACHE_DIR" in line


def test_a_home_is_taken(installed, tmp_path):
    words, lines = started(installed, tmp_path, "", HOME=str(tmp_path / "home"))
    assert (words, lines) == (["False"], [])
    assert list((tmp_path / "home" / ".cache" / "numba").iterdir())
