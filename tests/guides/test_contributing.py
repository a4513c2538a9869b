"""The guide for contributors says what is in the repository and its settings."""

import json
import re
import tomllib

from guides import ROOT, guide

from verification.mutants import FAULTS

GUIDE = guide(".github/CONTRIBUTING.md")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_layout_has_every_folder_of_the_package():
    named = {row[0].strip("`") for row in GUIDE.rows("`[a-z/.]+`")}
    for folder in (ROOT / "refsnn").glob("[a-z]*/"):
        assert not list(folder.glob("*.py")) or f"refsnn/{folder.name}" in named, folder.name
    assert {"verification", "tests", "figures"} <= named


def test_files_that_are_named_exist():
    for span in GUIDE.spans:
        if re.fullmatch(r"[\w./]+/[\w./]+", span) and " " not in span:
            assert (ROOT / span).exists(), span


def test_the_mutant_is_one_of_the_list():
    assert json.loads(GUIDE.block("mutant").code) in json.loads(FAULTS.read_text(encoding="utf-8"))


def test_every_marker_has_its_row():
    markers = {line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    rows = {row[0].strip("`") for row in GUIDE.rows(r"`[a-z_]+(?:\(n\))?`")}
    assert markers <= rows


def test_the_matrix_of_ci_is_the_one_that_is_said():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert 'python: ["3.11", "3.12", "3.13", "3.14"]' in workflow
    assert "os: [ubuntu-latest, macos-latest, windows-latest]" in workflow
    assert "Linux, macOS and Windows with Python 3.11 to 3.14" in GUIDE.text
    bound = PROJECT["tool"]["coverage"]["report"]["fail_under"]
    assert f"({bound} % of" in GUIDE.text.replace("coverage (", "(")
