"""The README says what is so."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from refsnn import spec
from refsnn.cli import build_parser
from refsnn.network import ARCHITECTURES

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()


def test_the_example_shows_that_both_gradients_are_equal(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    exec(compile(code, "README.md", "exec"), {})
    assert float(capsys.readouterr().out) < 1e-14


@pytest.mark.parametrize("clause", spec.CLAUSES, ids=lambda c: c.id)
def test_every_clause_has_its_row(clause):
    assert f"| {clause.id} | {clause.statement} | {clause.choice} |" in TEXT.replace("\\|", "|")


def test_names_of_architectures():
    for name in ARCHITECTURES:
        assert f"`{name.removesuffix('-imagenet')}`" in TEXT


def test_commands_parse():
    commands = re.findall(r"(?:bin/|`)refsnn ([^`\n]*)", TEXT)
    assert len(commands) > 5
    for command in commands:
        if "--help" not in command:
            build_parser().parse_args(shlex.split(command))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, heading = target.partition("#")
        assert (README.parent / file).exists(), target
        assert f"## {heading.replace('-', ' ')}\n".lower() in TEXT.lower() or not heading


def test_every_script_of_a_picture_is_named_and_every_name_is_a_script():
    (names,) = re.findall(r"`python figures/NAME.py`([^\n]*)", TEXT)
    scripts = {path.stem for path in (README.parent / "figures").glob("[!_]*.py")}
    assert set(re.findall(r"`(\w+)`", names)) == scripts


def test_the_claims_table_says_what_was_recorded():
    rows = json.loads((README.parent / "figures" / "claim.json").read_text())["rows"]
    lines = [line for line in TEXT.splitlines() if re.match(r"\| (tanh|rectangular) \| \d", line)]
    assert len(lines) == len(rows) > 4
    for line, row in zip(lines, rows, strict=True):
        surrogate, layers, *cells = line.strip("| ").split(" | ")
        assert (surrogate, int(layers)) == (row["settings"]["surrogate"], row["depth"])
        numbers = [[cell["mean"], cell["std"]] for cell in row["methods"].values()]
        numbers += [[d["mean"], d["low"], d["high"]] for d in row["differences"].values()]
        for cell, values in zip(cells, numbers, strict=True):
            shown = [float(x) for x in re.findall(r"-?\d+\.\d", cell)]
            np.testing.assert_allclose(shown, np.multiply(100, values), rtol=0, atol=0.0500001)
