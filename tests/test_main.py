"""The process of a command: its standard streams, and what Ctrl-C does at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.processes

SMALL = ["--arch=1-1:4-8", "--ops=numpy", "--batch-size=160"]
#: the command, which says what is imported when Ctrl-C gets its handler: before, Python itself
#: answers it with a traceback
ANNOUNCED = """
import sys
from refsnn import __main__ as command

def announced(install=command.leave_when_stopped):
    command.leave_when_stopped = install
    install()
    heavy = [name for name in sys.modules if name.startswith(("refsnn", "numpy", "argparse"))]
    print(*sorted(heavy), flush=True)

command.leave_when_stopped = announced
command.entry()
"""


def shell(line, folder, **environment):
    """Run `python -m refsnn` in a line of the shell, which makes the redirections."""
    line = line.replace("refsnn", f"{sys.executable} -m refsnn", 1)
    return subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        timeout=120,
    )


def interrupted(arguments, delay, folder, number=signal.SIGINT):
    """Exit code and standard error of a command whose process group got the signal then."""
    process = subprocess.Popen(
        [sys.executable, "-c", ANNOUNCED, *arguments],
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "refsnn refsnn.__main__ refsnn.version\n"
    time.sleep(delay)
    os.killpg(process.pid, number)
    error = process.communicate(timeout=120)[1]
    return process.returncode, error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "longest"),
    [
        (["train", "--epochs=500", *SMALL], 1.5),
        (["train", "--epochs=500", "--workers=2", *SMALL], 1.2),
        (["ablation", "--jobs=2", "--epochs=500", "--archs=1-1:4-8", "--ops=numpy"], 3.0),
        (["vectors", "generate", "v"], 1.5),
    ],
    ids=["train", "workers", "ablation", "vectors"],
)
def test_ctrl_c_at_any_moment_ends_without_a_traceback(arguments, longest, tmp_path):
    draws = random.Random(0)
    for number, delay in enumerate([0, 0.05, 0.1, *(draws.uniform(0, longest) for _ in "12")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        code, error = interrupted(arguments, delay, folder)
        assert "Traceback" not in error, (delay, error)
        assert code == 130, (delay, code, error)


def test_sigterm_lets_what_was_begun_be_put_away(tmp_path):
    code, error = interrupted(["diagnose", "nowhere"], 0.02, tmp_path, signal.SIGTERM)
    assert code == 143
    assert "Traceback" not in error
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "slow.py").write_text("import time\ndef run(case): time.sleep(100)")
    environment = dict(os.environ, TMPDIR=str(temporary))
    process = subprocess.Popen(
        [sys.executable, "-m", "refsnn", "conform", "slow:run"], cwd=tmp_path, env=environment
    )
    while not list(temporary.glob("refsnn-*/*case*")):
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 143
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_output_that_its_encoding_lacks_is_escaped(encoding, tmp_path):
    line = f"refsnn train --out λ --epochs=1 {' '.join(SMALL)}"
    done = shell(line, tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"run folder \\u03bb\n")
    assert rb"\u03bb=" in done.stderr


def test_a_locale_without_greek_does_not_end_a_run(tmp_path):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell(f"refsnn train --out r --epochs=1 {' '.join(SMALL)}", tmp_path, **plain)
    assert done.returncode == 0, done.stderr
    assert b"test accuracy" in done.stdout
    assert rb"\u03bb=" in done.stderr


def test_json_stays_json_whatever_the_encoding(tmp_path):
    (tmp_path / "mine.py").write_text("class A:\n name = 'λ ±'\n run = dict", encoding="utf-8")
    line = "refsnn conform mine:A --case neuron/tie --json -"
    found = [
        json.loads(shell(line, tmp_path, PYTHONIOENCODING=encoding).stdout.decode("latin-1"))
        for encoding in ("ascii", "latin-1")
    ]
    assert [each["adapter"] for each in found] == ["λ ±", "λ ±"]


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "mine.py").write_text("class A:\n name = 'λ ±'\n run = dict", encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell("refsnn conform mine:A --case neuron/tie --json f", tmp_path, **plain)
    assert done.returncode == 1, done.stderr
    assert json.loads((tmp_path / "f").read_text("utf-8"))["adapter"] == "λ ±"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output_is_named(unbuffered, tmp_path):
    for line in ("refsnn spec > /dev/full", "refsnn --version > /dev/full"):
        done = shell(line, tmp_path, PYTHONUNBUFFERED=unbuffered)
        assert done.returncode == 2, line
        assert done.stderr == b"refsnn: error: No space left on device: standard output\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_behind_standard_error_costs_nothing(tmp_path):
    done = shell(f"refsnn train --out r --epochs=1 {' '.join(SMALL)} 2> /dev/full", tmp_path)
    assert done.returncode == 0
    assert b"test accuracy" in done.stdout
    assert shell("refsnn spec none 2> /dev/full", tmp_path).returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_nothing(closed, tmp_path):
    done = shell(f"refsnn train --out r --epochs=1 {' '.join(SMALL)} {closed}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "r" / "summary.json").exists()


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path):
    done = shell("refsnn spec | head -1", tmp_path)
    assert done.stderr == b""
