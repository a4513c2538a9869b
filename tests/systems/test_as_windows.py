"""The simulation of Windows refuses the calls that Windows refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for open files in /proc")

#: code of a module of refsnn -> the error that ends it
REFUSED = {
    "import fcntl": "ModuleNotFoundError",
    "import resource": "ModuleNotFoundError",
    "import select": "ModuleNotFoundError",
    "import os; os.killpg": "AttributeError",
    "from os import fork": "ImportError",
    "import os; os.open('folder', os.O_RDONLY)": "PermissionError",
    "import signal; signal.SIGKILL": "AttributeError",
    "import sys; assert sys.platform != 'win32'": "AssertionError",
    "import ctypes; ctypes.CDLL(None)": "TypeError",
    "import multiprocessing as m; m.get_context('fork')": "ValueError",
    "import subprocess as s; s.Popen('true', preexec_fn=print)": "ValueError",
    "import os; f = open('file', 'wb'); os.rename('file', 'new')": "PermissionError",
    "import os; f = open('file', 'wb'); os.unlink('file')": "PermissionError",
    "import os; f = open('folder/file', 'wb'); os.rename('folder', 'new')": "PermissionError",
    "import os; f = open('file', 'wb'); os.replace('folder', 'file')": "PermissionError",
    "import os; os.mkdir('new'); os.rename('folder', 'new')": "FileExistsError",
    "import numpy as np, os\nx = np.lib.format.open_memmap('x.npy', 'w+', shape=(9,))\n"
    "os.unlink('x.npy')": "PermissionError",
    "import shutil; f = open('folder/file', 'wb'); shutil.rmtree('folder')": "PermissionError",
    "open('file', 'w')": "EncodingWarning",
}


def ran(code, name, folder):
    """Return the error that code of a module of that name prints."""
    (folder / "folder").mkdir()
    content = f"exec({code!r}, {{'__name__': {name!r}}})"
    here = Path(__file__).parent
    environment = {
        "PYTHONPATH": os.pathsep.join([str(here / "as_windows"), str(here.parents[1])]),
        "PYTHONWARNDEFAULTENCODING": "1",
        "WINDOWS_ROOT": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", content],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
    )
    return done.stderr


@pytest.mark.parametrize("code", REFUSED)
def test_it_refuses(code, tmp_path):
    assert f"\n{REFUSED[code]}" in ran(code, "refsnn.some", tmp_path)


@pytest.mark.parametrize("code", ["import fcntl", "import os; os.killpg", "open('file', 'w')"])
def test_other_packages_are_left_alone(code, tmp_path):
    assert ran(code, "other", tmp_path) == ""


def test_a_closed_file_can_be_moved(tmp_path):
    code = (
        "import os\nwith open('folder/file', 'wb') as f: f.write(b'a')\n"
        "os.rename('folder', 'new')\nos.replace('new/file', 'file')\nos.unlink('file')"
    )
    assert ran(code, "refsnn.some", tmp_path) == ""
