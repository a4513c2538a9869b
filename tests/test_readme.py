"""The README says what is so."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from refsnn import spec
from refsnn.cli import build_parser, main
from refsnn.network import ARCHITECTURES
from refsnn.oracle import vectors
from refsnn.oracle.cases import build
from refsnn.oracle.recipes import recipes

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()


def block(name):
    """The code after the comment of this name."""
    (code,) = re.findall(rf"<!-- {re.escape(name)} -->\n```\w*\n(.*?)```", TEXT, re.S)
    return code


def test_the_example_shows_that_both_gradients_are_equal(capsys):
    exec(compile(block("eq9"), "README.md", "exec"), {})
    assert float(capsys.readouterr().out) < 1e-14


def test_gradcheck_says_of_its_example_what_is_said(capsys):
    code = block("gradcheck")
    exec(compile(code, "README.md", "exec"), {})
    (said,) = re.findall(r"It prints, among others, `(.*?)`", TEXT)
    assert said in " ".join(capsys.readouterr().out.split())
    mended = code.replace("du * (1 - o)", "du * (1 - o - u_pre * h)")
    assert mended != code
    exec(compile(mended, "README.md", "exec"), {})
    assert "failed" not in capsys.readouterr().out


def test_conform_says_of_its_example_what_is_said(capsys, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(block("mine.py"))
    (shown,) = re.findall(r"```text\n(.*?)```", TEXT, re.S)
    assert main(shlex.split(block("conform"))[1:]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line in lines for line in shown.splitlines() if line != "…")


def test_the_vectors_are_as_many_and_as_large_as_is_said(tmp_path):
    count, size = map(int, re.findall(r"\((\d+) cases, (\d+) MB", TEXT)[0])
    vectors.write(map(build, recipes()), tmp_path)
    files = list(tmp_path.rglob("*.npz"))
    assert len(files) == count
    assert round(sum(file.stat().st_size for file in files) / 1e6) == size


LIBRARIES = {
    "PyTorch": "pytorch:PyTorch",
    "SpikingJelly": "spikingjelly:SpikingJelly",
    "snnTorch": "snntorch:SnnTorch",
    "Norse": "norse:Norse",
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_libraries_pass_as_many_cases_as_is_said(library, tmp_path):
    pytest.importorskip("torch" if library == "PyTorch" else library.lower())
    (row,) = re.findall(rf"\| {library} [\d.]+.*", TEXT)
    passed, rest, defaults = row.strip("| ").split(" | ")[2:]
    levels = ["--level", "surrogate", "neuron", "layer", "block"]
    where = f"refsnn.oracle.adapters.{LIBRARIES[library]}"
    report = tmp_path / "report.json"
    assert main(["conform", where, *levels, "--json", str(report)]) == 0
    counts = json.loads(report.read_text())["counts"]
    assert counts == {
        "passed": int(passed),
        "unsupported": int(rest.split(":")[0]),
        "failed": 0,
        "expected": 0,
    }
    if library == "PyTorch":
        return
    given = tmp_path / "given"
    assert main(["conform", f"{where}Defaults", *levels, "--save", str(given)]) == 1
    assert main(["diagnose", str(given), "--json", str(report)]) == 0
    said = json.loads(report.read_text())["matches"][0]["words"]
    assert [
        text
        for text in said.split("; ")
        if not text.endswith(", even where a case asks for another")
    ] == (defaults.replace("\\|", "|").split("; "))


@pytest.mark.parametrize("clause", spec.CLAUSES, ids=lambda c: c.id)
def test_every_clause_has_its_row(clause):
    assert f"| {clause.id} | {clause.statement} | {clause.choice} |" in TEXT.replace("\\|", "|")


def test_every_architecture_is_named():
    for name in ARCHITECTURES:
        assert f"`{name.removesuffix('-imagenet')}`" in TEXT


def test_commands_are_accepted():
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


def test_the_table_of_real_images_says_what_was_recorded():
    rows = json.loads((README.parent / "figures" / "cifar.json").read_text())["rows"]
    lines = [line for line in TEXT.splitlines() if re.match(r"\| \d+ \| [\d.]+ ±", line)]
    assert len(lines) == len(rows) == 2
    for line, row in zip(lines, rows, strict=True):
        layers, *cells = line.strip("| ").split(" | ")
        accuracy = {name: cell["mean"] for name, cell in row["methods"].items()}
        variance = {name: p * (1 - p) / 10_000 for name, p in accuracy.items()}
        numbers = [[p, 1.96 * variance[name] ** 0.5] for name, p in accuracy.items()]
        for first, second in (name.split(" - ") for name in row["differences"]):
            half = 1.96 * (variance[first] + variance[second]) ** 0.5
            middle = accuracy[first] - accuracy[second]
            numbers.append([middle, middle - half, middle + half])
        assert int(layers) == row["depth"]
        for cell, values in zip(cells, numbers, strict=True):
            shown = [float(x) for x in re.findall(r"-?\d+\.\d", cell)]
            np.testing.assert_allclose(shown, np.multiply(100, values), rtol=0, atol=0.0500001)
