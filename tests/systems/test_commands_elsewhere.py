"""Each command's main path as on another system: as on Windows, with output in a code page; and
with output in ASCII. Every path has spaces and letters of several scripts.

Nothing of this replaces a run on the system itself (.github/workflows/tests.yml).
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for open files in /proc"),
    pytest.mark.processes,
    pytest.mark.slow,
]

ROOT = Path(__file__).parents[2]
AS_WINDOWS = str(Path(__file__).parent / "as_windows")
SMALL = ["--arch=1-1:4-8", "--batch-size=160", "--ops=numpy"]
NAME = "größe λ 雪"
FORBIDDEN = set('<>:"\\|?*')  # in names of files, on Windows
ADAPTER = """
import subprocess, sys, time
from refsnn.oracle.compute import compute

def run(case):
    print("λ", case.id)
    return compute(case.level, case.inputs, case.settings, case.conventions)

def hang(case):
    subprocess.Popen([sys.executable, "-c", CHILD])
    time.sleep(1000)

CHILD = "import os, time; open('new', 'w').write(str(os.getpid())); os.rename('new', 'pid')\\n" \\
    "time.sleep(1000)"
"""
SYSTEMS = {
    "windows": {
        "PYTHONPATH": os.pathsep.join([AS_WINDOWS, str(ROOT)]),
        "PYTHONIOENCODING": "cp1252",
        "PYTHONWARNDEFAULTENCODING": "1",
    },
    "ascii": {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
}


class System:
    """A folder, and the environment of the commands that run in it."""

    def __init__(self, folder, name):
        self.folder = folder / NAME
        self.folder.mkdir()
        (self.folder / "mine.py").write_text(ADAPTER, encoding="utf-8")
        self.environment = (
            os.environ
            | SYSTEMS[name]
            | {
                "REFSNN_CACHE": str(self.folder / "cache é"),
                "TMPDIR": str(self.folder),
                "WINDOWS_ROOT": str(folder),
            }
        )

    def start(self, *arguments):
        """Start a program of Python; its descriptors 1 and 2 are pipes."""
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments, code=0):
        """Run a command; its standard output and error, in the encoding that it was told."""
        process = self.start("-m", "refsnn", *arguments)
        shown = [text.decode("cp1252") for text in process.communicate(timeout=300)]
        assert process.returncode == code, shown
        assert "Traceback" not in shown[1]
        assert "Warning" not in shown[1]
        return shown

    def json(self, *arguments, **how):
        return json.loads(self.run(*arguments, **how)[0])


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request, tmp_path_factory):
    return System(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def trained(system):
    """A run that was interrupted after its first epoch, and resumed."""
    run = system.folder / "run ü λ"
    process = system.start("-m", "refsnn", "train", "--out", run, "--epochs=20", *SMALL)
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_bytes()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1].decode("cp1252")
    assert process.returncode == 130, error
    assert "stopped; go on with: refsnn train --resume" in error
    text = system.run("train", "--resume", run, "--workers=1")[0]
    assert "test accuracy" in text
    return run


@pytest.fixture(scope="module")
def answered(system):
    """Test vectors, and what an adapter gave for two of them."""
    vectors, given = system.folder / "vectors ß", system.folder / "given ß"
    system.run("vectors", "generate", vectors, "--level", "neuron")
    found = system.json(
        *("conform", "mine:run", "--case", "neuron/t*", "--save", given, "--vectors", vectors),
        *("--verbose", "--json", "-"),
    )
    assert found["passed"]
    return SimpleNamespace(vectors=vectors, given=given)


def test_a_run_is_trained_interrupted_resumed_and_tested(system, trained):
    assert {path.name for path in trained.iterdir()} == {
        *("config.json", "metrics.jsonl", "summary.json", "checkpoint.npz", "curves.png"),
    }
    found = system.json("evaluate", trained, "--json")
    summary = json.loads((trained / "summary.json").read_text(encoding="utf-8"))
    assert found["test_accuracy"] == summary["test_accuracy"]
    again = system.run("train", "--out", trained, *SMALL, code=2)[1]
    assert "already" in again
    assert len(again.splitlines()) == 1


def test_a_run_that_another_process_has_is_refused(system):
    run = system.folder / "held"
    process = system.start("-m", "refsnn", "train", "--out", run, "--epochs=1000", *SMALL)
    while not (run / "checkpoint.npz").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    try:
        error = system.run("train", "--resume", run, code=2)[1]
    finally:
        process.kill()
        process.communicate()
    assert "another process is at work on this run" in error
    assert len(error.splitlines()) == 1


def test_the_ledger(system):
    assert "EQ3" in system.run("spec")[0]
    assert len(system.json("spec", "--json")) > 20


def test_vectors_are_listed_and_checked(system, answered):
    assert "neuron/tie" in system.run("vectors", "list")[0]
    system.run("vectors", "check", answered.vectors)
    assert system.json("vectors", "schema")


def test_arrays_are_compared_and_diagnosed(system, answered):
    assert system.json("compare", answered.vectors, answered.given, "--json", "-")["passed"]
    file = answered.given / "neuron" / "tie.npz"
    assert "everything matches" in system.run("diagnose", file)[0]


def test_an_adapter_that_hangs_ends_with_what_it_started(system):
    arguments = ("mine:hang", "--case", "neuron/tie", "--timeout", "3")
    assert "no answer within 3 s" in system.run("conform", *arguments, code=1)[0]
    pid = int((system.folder / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_program_is_an_adapter(system):
    (system.folder / "program.py").write_text("import sys; sys.exit('not λ')", encoding="utf-8")
    command = f'"{sys.executable}" program.py'
    found = system.json(
        "conform", "--program", command, "--case", "neuron/tie", "--json", "-", code=1
    )
    assert "exit code 1" in json.dumps(found)


def test_gradients(system, trained):
    assert system.run("gradients", *SMALL)[0]
    assert system.json("gradients", trained, "--json", "-")


def test_an_ablation_of_two_runs_at_once(system):
    folder = system.folder / "ablation ñ"
    system.run(
        *("ablation", "--out", folder, "--methods", "vanilla", "shortcut", "--archs=1-1:4-8"),
        *("--epochs=1", "--seeds=1", "--batch-size=160", "--ops=numpy", "--jobs=2"),
    )
    assert (folder / "table.json").exists()
    assert (folder / "ablation.png").exists()


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "nir"])
def test_a_network_leaves_in_every_form(system, trained, suffix):
    pytest.importorskip({"npz": "numpy"}.get(suffix, suffix))
    file = system.folder / f"netz λ.{suffix}"
    assert file.name.encode("cp1252", "backslashreplace").decode("cp1252")
    system.run("export", trained, file)
    assert file.stat().st_size > 1000


def test_a_nir_graph_is_read_in_a_process_of_its_own(system, trained):
    pytest.importorskip("nir")
    file = system.folder / "graph λ.nir"
    system.run("export", trained, file)
    code = (
        "import sys\nfrom pathlib import Path\nfrom refsnn.export.nir_read import read_nir\n"
        "print(len(read_nir(Path(sys.argv[1])).nodes))"
    )
    process = system.start("-c", code, file)
    shown = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert int(shown[0]) > 3


def test_data_sets_are_listed_checked_and_kept_in_the_cache(system):
    data = system.folder / "data ø" / "nmnist"
    for part in ("Train", "Test"):
        for label in range(2):
            folder = data / part / str(label)
            folder.mkdir(parents=True)
            for number in range(3):
                events = bytes([number, 7 * label, 128, 0, 10, 3, 4, 0, 1, 0]) * 20
                (folder / f"{number}.bin").write_bytes(events)
    assert "nmnist" in system.run("data", "list", "--data-dir", data.parent)[0]
    system.run("data", "check", "nmnist", "--data-dir", data)
    options = ("--dataset=nmnist", "--data-dir", data, "--image-size=8", "--epochs=1", *SMALL)
    for name in ("events one", "events two"):
        system.run("train", "--out", system.folder / name, *options)
    made = [path.name.split("-")[0] for path in (system.folder / "cache é").iterdir()]
    assert made == ["nmnist"]


def test_an_archive_is_unpacked(system):
    code = (
        "import sys, tarfile\nfrom pathlib import Path\nfrom refsnn.data.unpack import unpack\n"
        "with tarfile.open('a.tar.gz', 'w:gz') as archive: archive.add('mine.py')\n"
        "unpack(Path('a.tar.gz'), Path('ünpacked'), 10**6)\n"
    )
    process = system.start("-c", code)
    assert process.communicate(timeout=60)[1] == b""
    assert [path.name for path in (system.folder / "ünpacked").iterdir()] == ["mine.py"]


def test_a_benchmark(system):
    found = system.json(
        *("bench", "--arch=1-1:4-8", "--batch-size=2", "--size=8", "--steps=2", "--repeats=1"),
        *("--ops=numpy", "--json", "-"),
    )
    assert found["results"][0]["peak_mib"] > 10


def test_no_file_has_a_name_that_windows_forbids(system, trained, answered):
    names = [path.name for path in system.folder.rglob("*")]
    assert len(names) > 20
    for name in names:
        assert not FORBIDDEN & set(name), name
        assert name == name.rstrip(". "), name


def test_nothing_is_left_in_temporary_folders(system, trained, answered):
    assert not list(system.folder.glob("refsnn-*"))
