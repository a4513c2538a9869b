"""The guide of the oracle: how many test vectors there are, and what the libraries pass."""

import json
import re

import pytest
from guides import guide

from refsnn.cli import main
from refsnn.oracle import vectors
from refsnn.oracle.cases import build
from refsnn.oracle.conventions import LEVELS
from refsnn.oracle.declare import profiles
from refsnn.oracle.recipes import recipes

GUIDE = guide("refsnn/oracle/README.md")


def test_the_vectors_are_as_many_and_as_large_as_is_said(tmp_path):
    count, size = map(int, re.findall(r"that is (\d+) cases, (\d+) MB", GUIDE.text)[0])
    vectors.write(map(build, recipes()), tmp_path)
    files = list(tmp_path.rglob("*.npz"))
    assert len(files) == count
    assert round(sum(file.stat().st_size for file in files) / 1e6) == size


def test_every_level_has_its_row():
    assert [row[0].strip("`") for row in GUIDE.rows("|".join(f"`{x}`" for x in LEVELS))] == [
        *LEVELS
    ]


LIBRARIES = {
    "PyTorch": "pytorch:PyTorch",
    "SpikingJelly": "spikingjelly:SpikingJelly",
    "snnTorch": "snntorch:SnnTorch",
    "Norse": "norse:Norse",
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_libraries_pass_as_many_cases_as_is_said(library, tmp_path):
    pytest.importorskip("torch" if library == "PyTorch" else library.lower())
    (row,) = GUIDE.rows(rf"{library} [\d.]+.*")
    passed, rest, failed, defaults = row[2:]
    levels = ["--level", "surrogate", "neuron", "layer", "block"]
    where = f"refsnn.oracle.adapters.{LIBRARIES[library]}"
    report = tmp_path / "report.json"
    code = main(["conform", where, *levels, "--json", str(report)])
    counts = json.loads(report.read_text())["counts"]
    assert counts == {
        "passed": int(passed),
        "unsupported": int(rest.split(":")[0]),
        "failed": int(failed.split(":")[0]),
        "expected": 0,
    }
    assert code == (counts["failed"] > 0)
    if library == "PyTorch":
        return
    given = tmp_path / "given"
    assert main(["conform", f"{where}Defaults", *levels, "--save", str(given)]) == 1
    assert main(["diagnose", str(given), "--json", str(report)]) == 0
    said = json.loads(report.read_text())["matches"][0]["words"]
    own = [text for text in said.split("; ") if not text.endswith(" always")]
    assert own == (defaults.replace("\\|", "|").split("; "))


def test_the_profiles_are_those_there_are():
    rows = GUIDE.rows("|".join(f"`{name}`" for name in profiles()))
    assert {row[0].strip("`"): row[1] for row in rows} == {
        name: facts["summary"] for name, facts in profiles().items()
    }
