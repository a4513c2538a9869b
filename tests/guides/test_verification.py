"""The guide of the verification: its commands, its counts, the form of a failure."""

import argparse
import json
import shlex

from guides import guide
from run import run_block

from verification import __main__ as command
from verification.mutants import FAULTS
from verification.record import Row
from verification.registry import EVIDENCE

GUIDE = guide("verification/README.md")


def test_there_are_as_many_faults_as_is_said():
    count = len(json.loads(FAULTS.read_text(encoding="utf-8")))
    assert f"`mutants.json` lists {count} faults" in GUIDE.text
    assert f"- {count} faults, put into the code one by one" in guide("README.md").text


def test_both_gradients_of_the_example_are_equal():
    assert float(run_block(GUIDE, GUIDE.block("eq9"), {})) < 1e-14


def test_every_side_has_its_row():
    rows = [row[0] for row in GUIDE.rows("|".join(EVIDENCE))]
    assert set(EVIDENCE) <= set(rows)


def test_commands_are_accepted():
    lines = [line.split("#")[0] for line in GUIDE.text.splitlines() if line.startswith("python -m")]
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "verification"]
        if words[3:] != ["mutants"]:
            assert isinstance(command.build_parser().parse_args(words[3:]), argparse.Namespace)


def test_a_failure_has_the_form_that_is_shown():
    text = "lif: dc_seq[t=3,n=0]: got …, want …, err/tol 41, values OK"
    row = Row("EQ3", "LIF against loops", "oracle", failure=text)
    assert f"`{command.failure(row, 7, False)}`" in GUIDE.text
