"""Faults as data: which lists are refused, what becomes of a fault, and the verdict."""

import json
from collections import Counter

import pytest

from refsnn import spec
from verification import mutants
from verification.mutants import FAULTS, ROOT, FaultError, Mutant, Workshop, matrix, mutated, read

GOOD = {
    "id": "sign", "file": "refsnn/equations/loss.py", "old": "labels] -= 1", "new": "labels] += 1",
    "clause": "D13",
}  # fmt: skip


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
    ],
)
def test_a_fault_that_does_not_fit_is_refused(change, words, write, capsys):
    code = mutants.main(["--only-extra", "--extra", str(write([GOOD | change]))])
    assert code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "faults.json: no JSON"),
        ({"id": "x"}, "want a list"),
        ([{"id": "x"}], "fault 0: want id, file, old, new, clause"),
        ([GOOD, GOOD], "sign comes twice"),
    ],
)
def test_a_file_that_is_no_list_of_faults_is_refused(content, words, write, capsys):
    assert mutants.main(["--only-extra", "--extra", str(write(content))]) == 2
    assert words in capsys.readouterr().err


def test_only_extra_needs_extra(capsys):
    with pytest.raises(SystemExit):
        mutants.main(["--only-extra"])
    assert "--extra" in capsys.readouterr().err


def test_extra_faults_join_the_list_or_stand_alone(write, tmp_path, monkeypatch, capsys):
    asked = []

    def run_all(faults, jobs):
        asked.append([fault.id for fault in faults])
        return {fault.id: [] if fault.id == "sign" else ["a check"] for fault in faults}

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


def test_faults_that_are_all_killed_give_exit_code_zero(monkeypatch, capsys):
    monkeypatch.setattr(mutants, "run_all", lambda faults, jobs: {f.id: ["x"] for f in faults})
    assert mutants.main([]) == 0
    assert "SURVIVED" not in capsys.readouterr().out


def test_a_list_with_an_id_of_the_own_list_is_refused(write, capsys):
    own = read(FAULTS)[0].id
    assert mutants.main(["--extra", str(write([GOOD | {"id": own}]))]) == 2
    assert f"{own} comes twice" in capsys.readouterr().err


def test_the_matrix_has_a_row_a_fault_and_a_column_a_check():
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
    monkeypatch.setattr(Workshop, "failing", lambda self, cache: seen.append(path.read_text()))
    shop.verify(Mutant(**GOOD))
    assert "labels] += 1" in seen[0]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert (ROOT / GOOD["file"]).read_bytes() == before[0]


def test_a_package_that_cannot_be_imported_is_a_kill(tmp_path):
    shop = Workshop(tmp_path)
    fault = Mutant("syntax", "refsnn/ops.py", 'name="numpy",\n    lif_forward', "name=(", "EQ1")
    assert shop.verify(fault) == ["import"]


def test_errors_of_a_fault_are_raised_by_name():
    with pytest.raises(FaultError, match="sign"):
        mutated(Mutant(**GOOD | {"old": "zzz"}))
