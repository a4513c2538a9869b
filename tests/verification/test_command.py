"""`python -m verification`: its output, its exit codes, and that it names the broken clause."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refsnn import spec
from refsnn.ops import NUMPY, get_ops
from verification import __main__ as command
from verification import cases
from verification.record import Row
from verification.suite import checks

ROOT = Path(__file__).parents[2]
CHECKS = checks()
FIELDS = {"clause", "check", "evidence", "cases", "worst_error", "tolerance", "passed"}


def test_every_clause_is_checked_and_those_with_numbers_by_two_kinds_of_evidence():
    conventions = {"D1", "D24", "M3"}  # two constants, a switch, two constants
    for clause in spec.CLAUSES:
        kinds = {one.evidence for one in CHECKS if clause.id in one.clauses} - {"peer"}
        assert len(kinds) >= (1 if clause.id in conventions else 2), (clause.id, kinds)


def test_checks_name_clauses_of_the_ledger_and_have_names_of_their_own():
    known = {clause.id for clause in spec.CLAUSES}
    assert all(set(one.clauses) <= known for one in CHECKS)
    names = [one.name for one in CHECKS]
    assert len(names) == len(set(names))


def test_a_clause_alone_as_json(tmp_path, capsys):
    file = tmp_path / "ledger.json"
    assert command.main(["--clause", "r2", "--quick", "--jobs=1", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert {row["clause"] for row in rows} == {"R2"}
    assert all(set(row) >= FIELDS and row["passed"] and row["cases"] > 0 for row in rows)
    shown = capsys.readouterr().out
    assert "digits split" in shown
    assert "all passed" in shown
    assert command.main(["--clause", "R2", "--quick", "--jobs=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows


def test_an_unknown_clause_is_refused(capsys):
    assert command.main(["--clause", "EQ11"]) == 2
    line = capsys.readouterr().err
    assert "EQ11" in line
    assert len(line.splitlines()) == 1


def test_a_clause_without_a_check_fails(monkeypatch, capsys):
    monkeypatch.setattr(command, "one_run", lambda *_: [Row("EQ1", "a", "oracle", cases=1)])
    assert command.main(["--quick"]) == 1
    shown = capsys.readouterr().out
    assert f"{len(spec.CLAUSES) - 1} FAILED" in shown


def test_a_failed_row_gives_exit_code_one_and_stands_in_the_table(monkeypatch, capsys):
    rows = [Row(clause.id, "a", "oracle", cases=1) for clause in spec.CLAUSES]
    monkeypatch.setattr(command, "one_run", lambda *_: [Row(**vars(row)) for row in rows])
    assert command.main([]) == 0
    rows[4].passed = False
    assert command.main([]) == 1
    assert "1 FAILED" in capsys.readouterr().out


def test_a_campaign_adds_cases_up_and_keeps_the_worst(monkeypatch, capsys):
    seeds = []

    def one_run(options, seed):
        seeds.append(seed)
        error = 0.5 if seed == 4 else 0.1
        return [Row(c.id, "a", "oracle", 2, 1, error, 1.0, seed != 4) for c in spec.CLAUSES]

    monkeypatch.setattr(command, "one_run", one_run)
    clock = iter(range(10))
    monkeypatch.setattr(command.time, "monotonic", lambda: next(clock))
    options = command.build_parser().parse_args(["--seed=3", "--hours", str(2.5 / 3600)])
    rows = command.campaign(options)
    assert seeds == [3, 4, 5]
    assert (rows[0].cases, rows[0].rejected, rows[0].worst_error) == (6, 3, 0.5)
    assert not rows[0].passed


def test_a_failure_prints_the_command_that_repeats_it():
    row = Row("EQ3", "LIF", "oracle", passed=False, failure="dc_seq[t=3]: got 1, want 2")
    line = command.failure(row, 7, quick=False)
    assert line == (
        "[EQ3] LIF: dc_seq[t=3]: got 1, want 2, "
        "replay: python -m verification --clause EQ3 --seed 7"
    )
    assert command.failure(row, 7, quick=True).endswith("--seed 7 --quick")
    assert command.failure(row, 7, False, "event").endswith("--seed 7 --conv event")


@pytest.fixture
def unforced():
    yield
    cases.force_conv("auto")


def test_the_method_of_convolutions_reaches_every_kernel_that_a_check_asks_for(unforced):
    assert cases.conv_methods() == ["auto", "direct", "dense", "event", "lookup", "winograd"]
    assert command.main(["--clause=R4", "--quick", "--jobs=1", "--conv=event", "--json"]) == 0
    assert cases.conv_methods() == ["event"]
    assert cases.get_ops("numba") is get_ops("numba", "event")
    assert cases.get_ops("numba", "dense") is get_ops("numba", "dense")  # a check's own choice
    assert cases.get_ops("numpy") is NUMPY


def test_a_failing_replay_carries_the_method(unforced, monkeypatch, capsys):
    broken = Row("R4", "pooling", "twin", passed=False, failure="y: got 1, want 2")
    monkeypatch.setattr(command, "run_named", lambda name, **options: [broken])
    command.main(["--clause=R4", "--jobs=1", "--conv=dense"])
    assert "--clause R4 --seed 0 --conv dense" in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", sorted((ROOT / "verification").glob("*.py")), ids=lambda path: path.name
)
def test_every_check_gets_its_operations_from_cases(path):
    names = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "refsnn.ops"
        for alias in node.names
    }
    assert "get_ops" not in names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "clauses"),
    [
        ("equations/lif.py", "du = p.tau * delta_seq[t]", "du = delta_seq[t]", {"EQ3", "D3"}),
        ("kernels/direct.py", "acc[c, k] += value * dy", "acc[c, k] -= value * dy", {"EQ3"}),
    ],
)
def test_a_broken_line_is_named_by_its_clause_in_the_first_failing_line(
    file, old, new, clauses, tmp_path
):
    for name in ("refsnn", "verification"):
        # compiled kernels go along, but for those that a broken kernel may be part of
        ignore = shutil.ignore_patterns("__pycache__" if file.startswith("kernels") else "")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    path = tmp_path / "refsnn" / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    process = subprocess.Popen(
        [sys.executable, "-m", "verification", "--quick", "--jobs=1", "--no-peers"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    process.kill()
    process.communicate()
    assert first[1:].split("]")[0] in clauses, first
    assert "replay: python -m verification --clause" in first
