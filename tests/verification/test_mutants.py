"""Mutation testing: which lists of faults are refused, how a fault is run, and the verdict."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress

import psutil
import pytest

from refsnn import spec
from verification import mutants
from verification.mutants import FAULTS, ROOT, FaultError, Mutant, Workshop, matrix, mutated, read

GOOD = {
    "id": "sign",
    "file": "refsnn/equations/loss.py",
    "old": "labels] -= 1",
    "new": "labels] += 1",
    "clause": "D13",
}


@pytest.fixture
def write(tmp_path):
    def to_file(content):
        path = tmp_path / "faults.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


def test_all_faults_of_the_list_can_be_put_into_the_code():
    faults = read(FAULTS)
    for fault in faults:
        compile(mutated(fault), fault.file, "exec")
    places = Counter(fault.file.split("/")[1] for fault in faults)
    assert len(faults) >= 60
    assert all(places[name] >= 10 for name in ("equations", "kernels", "network", "training"))
    assert {fault.clause for fault in faults} <= {clause.id for clause in spec.CLAUSES}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"old": "no such text"}, "sign: old occurs 0 times"),
        ({"old": "dlogits"}, "times in refsnn/equations/loss.py, want once"),
        ({"file": "refsnn/nowhere.py"}, "sign: no file refsnn/nowhere.py"),
        ({"file": str(ROOT / GOOD["file"])}, "sign: no file"),  # it would be edited there
        ({"file": "tests/test_cli.py"}, "sign: no file tests/test_cli.py in refsnn/"),
        ({"new": "labels] -= 1"}, "another text as new"),
        ({"tests": "tests/nowhere.py"}, "sign: no tests tests/nowhere.py in tests/"),
        ({"tests": "refsnn"}, "sign: no tests refsnn in tests/"),
    ],
)
def test_a_fault_that_does_not_fit_is_refused(change, words, write, capsys):
    code = mutants.main(["--only-extra", "--extra", str(write([GOOD | change]))])
    assert code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "faults.json: not valid JSON"),
        ("[" * 10_000, "nested more than 64 deep"),
        ({"id": "x"}, "got an object, want an array"),
        ([{"id": "x"}], "[0].file is missing"),
        ([GOOD | {"old": 3}], "[0].old: got 3, want a string"),
        ([GOOD | {"id": "a\nb", "file": "x"}], r"'a\nb': no file x in"),
        ([GOOD | {"file": "a\0b"}], "no file 'a\\x00b' in refsnn/"),
        ([GOOD | {"file": "\ud800"}], "no file '\\ud800' in refsnn/"),
        ([GOOD, GOOD], "sign comes twice"),
    ],
)
def test_a_file_that_is_not_a_list_of_faults_is_refused(content, words, write, capsys):
    assert mutants.main(["--only-extra", "--extra", str(write(content))]) == 2
    assert words in capsys.readouterr().err


def test_only_extra_needs_extra(capsys):
    with pytest.raises(SystemExit):
        mutants.main(["--only-extra"])
    assert "--extra" in capsys.readouterr().err


def test_extra_faults_join_the_list_or_stand_alone(write, tmp_path, monkeypatch, capsys):
    asked = []

    def run_all(faults, jobs, whole, note):
        asked.append([fault.id for fault in faults])
        killed_by = {fault.id: [] if fault.id == "sign" else ["a check"] for fault in faults}
        for fault in faults:
            note(fault, killed_by[fault.id])
        return killed_by

    monkeypatch.setattr(mutants, "run_all", run_all)
    out = tmp_path / "kills.json"
    extra = ["--extra", str(write([GOOD])), "--json", str(out)]
    assert mutants.main(extra) == 1
    assert asked[0][-1] == "sign"
    assert len(asked[0]) == len(read(FAULTS)) + 1
    rows = json.loads(out.read_text())
    assert rows[-1] == {"id": "sign", "clause": "D13", "killed_by": []}
    assert rows[0]["killed_by"] == ["a check"]
    assert mutants.main(["--only-extra", *extra]) == 1
    assert asked[1] == ["sign"]
    assert "SURVIVED" in capsys.readouterr().out


def test_faults_are_chosen_by_id(write, monkeypatch, capsys):
    asked = []

    def run_all(faults, *options):
        asked.append([fault.id for fault in faults])
        return {fault.id: ["a check"] for fault in faults}

    monkeypatch.setattr(mutants, "run_all", run_all)
    own = [fault.id for fault in read(FAULTS)][3]
    extra = ["--extra", str(write([GOOD]))]
    assert mutants.main([*extra, "--id", "sign", own]) == 0
    assert asked == [[own, "sign"]]
    capsys.readouterr()
    assert mutants.main(["--id", "sign"]) == 2
    assert "id: no fault sign" in capsys.readouterr().err


def test_faults_that_are_all_killed_give_exit_code_zero(monkeypatch, capsys):
    monkeypatch.setattr(mutants, "run_all", lambda faults, *options: {f.id: ["x"] for f in faults})
    assert mutants.main([]) == 0
    assert "SURVIVED" not in capsys.readouterr().out


def test_a_list_with_an_id_of_the_own_list_is_refused(write, capsys):
    own = read(FAULTS)[0].id
    assert mutants.main(["--extra", str(write([GOOD | {"id": own}]))]) == 2
    assert f"{own} comes twice" in capsys.readouterr().err


def test_the_matrix_has_a_row_per_fault_and_a_column_per_check():
    faults = [Mutant(i, "f", "a", "b", "EQ1") for i in ("one", "two")]
    text = matrix(faults, {"one": ["red", "blue"], "two": ["blue"]})
    lines = text.splitlines()
    assert lines[1].split() == ["one", "EQ1", "x", "x"]
    assert lines[2].split() == ["two", "EQ1", ".", "x"]
    assert lines[-1] == "2 of 2 faults killed"


def test_a_workshop_puts_the_file_back(tmp_path, monkeypatch):
    shop = Workshop(tmp_path)
    path = shop.root / GOOD["file"]
    before, seen = (path.read_bytes(), path.stat().st_mtime_ns), []

    def failing_checks(self, cache, clause=""):
        seen.append(path.read_text())
        return ["a check"]

    monkeypatch.setattr(Workshop, "failing_checks", failing_checks)
    shop.verify(Mutant(**GOOD))
    assert "labels] += 1" in seen[0]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert (ROOT / GOOD["file"]).read_bytes() == before[0]


def test_checks_of_the_faults_clause_come_first_and_all_others_where_they_pass(
    tmp_path, monkeypatch
):
    shop, asked, verdict = Workshop(tmp_path), [], {"D13": ["of D13"], "": ["any"]}

    def failing_checks(self, cache, clause=""):
        harmed = "labels] += 1" in (self.root / GOOD["file"]).read_text()
        asked.append((clause, harmed))
        self.seconds[f"checks of {clause}" if clause else "checks"] = 1.0
        return verdict[clause] if harmed else []

    monkeypatch.setattr(Workshop, "failing_checks", failing_checks)
    assert shop.verify(Mutant(**GOOD)) == ["of D13"]
    assert shop.verify(Mutant(**GOOD), whole=True) == ["any"]
    verdict["D13"] = []
    assert shop.verify(Mutant(**GOOD)) == ["any"]
    # all checks have run without the fault before they are asked about it, once
    assert asked == [("D13", True), ("", False), ("", True), ("D13", True), ("", True)]


def test_few_faults_need_no_more_than_their_clauses_checks(monkeypatch):
    asked = []

    def failing_checks(self, cache, clause=""):
        harmed = "labels] += 1" in (self.root / GOOD["file"]).read_text()
        asked.append((clause, harmed))
        return ["a check"] * harmed

    monkeypatch.setattr(Workshop, "failing_checks", failing_checks)
    found = mutants.run_all([Mutant(**GOOD)], 2, False, lambda *_: None)
    assert found == {GOOD["id"]: ["a check"]}
    assert asked == [("D13", False), ("D13", True)]


@pytest.mark.parametrize("count", [1, mutants.FEW])
def test_a_check_that_fails_without_a_fault_finds_none(count, monkeypatch, capsys):
    faults = [Mutant(**GOOD | {"id": f"fault{k}"}) for k in range(count)]
    monkeypatch.setattr(mutants, "chosen", lambda *_: faults)
    monkeypatch.setattr(Workshop, "failing_checks", lambda *_: ["a check"])
    assert mutants.main(["--jobs", "2"]) == 2
    assert capsys.readouterr().err == "verification: error: without faults these fail: a check\n"


def test_a_slow_test_that_fails_without_a_fault_leaves_the_others_to_be_judged(monkeypatch, capsys):
    folders = ("tests/equations", "tests/network")
    faults = [Mutant(**GOOD | {"id": tests.split("/")[1], "tests": tests}) for tests in folders]

    def failing_tests(shop, tests, cache, marks=mutants.QUICK):
        harmed = "labels] += 1" in (shop.root / GOOD["file"]).read_text()
        slow = marks == mutants.SLOW
        return ["a slow test"] * (slow and (harmed or tests == "tests/equations"))

    monkeypatch.setattr(mutants, "chosen", lambda *_: faults)
    monkeypatch.setattr(Workshop, "failing_tests", failing_tests)
    assert mutants.main(["--jobs", "1"]) == 1
    out, err = capsys.readouterr()
    assert "equations can't be judged: without faults these fail: a slow test\n" in err
    assert "network" not in err
    assert "1 of 2 faults killed" in out


@pytest.mark.processes
def test_the_tests_that_a_fault_names_are_run_on_it(tmp_path):
    shop = Workshop(tmp_path)
    fault = Mutant(**GOOD | {"tests": "tests/equations/test_loss.py"})
    (killed_by,) = shop.verify(fault)
    assert killed_by.startswith("tests/equations/test_loss.py::")
    harmless = fault._replace(new="labels] -= 1.0")
    assert shop.verify(harmless) == []


@pytest.mark.processes
def test_an_endless_run_is_killed_with_all_processes_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "SECONDS", 3.0)
    shop = Workshop(tmp_path)
    shop.seconds["checks"] = 0.1
    fault = Mutant(
        **GOOD
        | {
            "old": "import numpy as np\n",
            "new": (
                "import subprocess, time\nimport numpy as np\n"
                "if 'refsnn.equations.loss' == __name__:\n"
                "    subprocess.Popen(['sleep', '3217'])\n    time.sleep(3217)\n"
            ),
        }
    )
    assert shop.verify(fault) == ["no end"]
    assert not subprocess.run(["pgrep", "-f", "sleep 3217"], capture_output=True).stdout


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="no signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_runs_and_removes_the_copies(number, tmp_path):
    some = {fault.clause: fault.id for fault in read(FAULTS)}
    command = [sys.executable, "-m", "verification", "mutants", "--jobs=2", "--id"]
    running = psutil.Popen(
        [*command, *[*some.values()][:3]],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    checks = []
    try:
        while len(checks) < 2:
            assert running.poll() is None
            time.sleep(0.05)
            checks = running.children(recursive=True)
        running.send_signal(number)
        _, errors = running.communicate(timeout=8)  # the checks take longer
        assert (running.returncode, errors) == (128 + number, "")
        assert not psutil.wait_procs(checks, timeout=5)[1]
        assert not list(tmp_path.iterdir())
    finally:
        for process in (running, *checks):
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.processes
def test_slow_tests_run_where_the_others_find_nothing(tmp_path):
    shop = Workshop(tmp_path)
    text = """
import pytest
from refsnn.equations import loss

def text():
    return open(loss.__file__).read()

def test_quick():
    assert "labels] -= 1" in text() or "labels] = 2" in text()

@pytest.mark.slow
def test_slow():
    assert "labels] -= 1" in text()
"""
    (shop.root / "tests/test_parts.py").write_text(text)
    fault = Mutant(**GOOD | {"tests": "tests/test_parts.py"})
    assert shop.verify(fault) == ["tests/test_parts.py::test_quick"]
    assert mutants.tests_key(fault.tests, mutants.SLOW) not in shop.seconds
    fault = fault._replace(new="labels] = 2")
    assert shop.verify(fault) == ["tests/test_parts.py::test_slow"]
    (shop.root / "tests/test_parts.py").write_text("def test_quick():\n    pass\n")
    assert shop.verify(fault) == []


@pytest.mark.processes
def test_a_slow_machine_gets_more_time(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "SECONDS", 0.01)
    shop = Workshop(tmp_path)
    shop.seconds["checks"] = 20.0  # a run without a fault takes longer than the least limit
    assert shop.run("checks", ["timeit", "-n1", "-r1", "pass"], tmp_path)[0] == 0
    shop.seconds["checks"] = 0.001
    assert shop.run("checks", ["timeit", "-n1", "-r1", "pass"], tmp_path)[0] is None


def test_kernels_that_a_fault_may_have_changed_are_compiled_again(tmp_path):
    kernels, cache = ROOT / "refsnn/kernels", tmp_path / "cache/kernels_0"
    cache.mkdir(parents=True)
    for name in ("simd", "dense", "update", "winograd", "event", "layout"):
        (cache / f"{name}.f-1.py311.nbi").touch()

    def kept(changed):
        own = tmp_path / changed
        mutants.copy_kernels(tmp_path / "cache", own, kernels / f"{changed}.py")
        return {path.name.split(".")[0] for path in own.rglob("*.nb*")}

    assert kept("update") == {"simd", "dense", "winograd", "event", "layout"}
    assert kept("dense") == {
        "simd",
        "update",
        "event",
        "layout",
    }  # winograd has products of dense's
    assert kept("simd") == set()


@pytest.mark.processes
def test_a_package_that_cannot_be_imported_is_a_kill(tmp_path):
    shop = Workshop(tmp_path)
    fault = Mutant("syntax", "refsnn/ops.py", 'name="numpy",\n    lif_forward', "name=(", "EQ1")
    assert shop.verify(fault) == ["no start"]


def test_errors_of_a_fault_are_raised_by_name():
    with pytest.raises(FaultError, match="sign"):
        mutated(Mutant(**GOOD | {"old": "zzz"}))
