"""refsnn vectors, as its users see it."""

import json
import shutil

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.oracle import agreement, recipes, schema, vectors


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated") / "v"
    assert main(["vectors", "generate", str(folder), "--level", "surrogate", "neuron"]) == 0
    return folder


@pytest.fixture
def neurons(generated, tmp_path):
    """A folder that was generated: surrogates and neurons."""
    return shutil.copytree(generated, tmp_path / "v")


def outputs_of(folder, name, change):
    """Changes a file and its checksum in the manifest."""
    cases = vectors.read(folder)
    for case in cases:
        if case.id == name:
            change(case.outputs)
    vectors.write(cases, folder)


def test_generated_vectors_are_read_and_checked(neurons, capsys):
    manifest = json.loads((neurons / "manifest.json").read_text())
    levels = {entry["level"] for entry in manifest["cases"]}
    assert levels == {"surrogate", "neuron"}
    assert main(["vectors", "check", str(neurons)]) == 0
    count = len(manifest["cases"])
    assert capsys.readouterr().out == f"{count} cases, 0 failures\n"


def test_generate_says_what_it_wrote(tmp_path, capsys):
    folder = tmp_path / "v"
    assert main(["vectors", "generate", str(folder), "--level", "surrogate"]) == 0
    assert capsys.readouterr().out == (
        f"15 cases, 0.0 MB in {folder}, on which refsnn and the naive loops agree\n"
    )


def test_safetensors_hold_the_same(neurons, tmp_path):
    pytest.importorskip("safetensors")
    other = tmp_path / "s"
    line = ["vectors", "generate", str(other), "--level", "surrogate", "neuron"]
    assert main([*line, "--format", "safetensors"]) == 0
    assert {p.suffix for p in other.rglob("*") if p.is_file()} == {".json", ".safetensors"}
    for mine, theirs in zip(vectors.read(neurons), vectors.read(other), strict=True):
        for name, value in mine.outputs.items():
            np.testing.assert_array_equal(theirs.outputs[name], value)
    assert main(["compare", str(neurons), str(other)]) == 0


def test_values_on_which_the_naive_loops_disagree_are_not_written(tmp_path, monkeypatch, refused):
    true = agreement.disagreements
    monkeypatch.setattr(
        agreement,
        "disagreements",
        lambda case: [f"{case.id}: h"] if case.id == "surrogate/triangle" else true(case),
    )
    line = refused(["vectors", "generate", tmp_path / "v", "--level", "surrogate"])
    assert line.endswith("refsnn and the naive loops differ: surrogate/triangle: h")
    assert "belongs to an unfinished run" in refused(["vectors", "check", tmp_path / "v"])
    monkeypatch.undo()
    assert main(["vectors", "generate", str(tmp_path / "v"), "--level", "surrogate"]) == 0
    assert main(["vectors", "check", str(tmp_path / "v")]) == 0


def test_a_folder_of_other_things_is_refused(tmp_path, refused):
    (tmp_path / "thesis.tex").touch()
    line = refused(["vectors", "generate", tmp_path])
    assert line.endswith(f"vectors: {tmp_path} holds other files, want a new or an empty folder")


@pytest.mark.slow
def test_check_names_every_failure_and_goes_on(neurons, capsys):
    def wrong(outputs):
        outputs["u_pre"][0, 0] += 1

    outputs_of(neurons, "neuron/tanh", wrong)
    (neurons / "neuron/tie.npz").unlink()
    path = neurons / "neuron/grid.npz"
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["vectors", "check", str(neurons)]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "refsnn computes something else",
        "the naive loops differ",
        "vectors",
        "vectors",
    ]
    assert "neuron/tanh: u_pre at step 0, index [0]" in lines[0]
    assert "neuron/tanh: u_pre at step 0, index [0]" in lines[1]
    assert lines[2].endswith("neuron/tie.npz is missing")
    assert lines[3].endswith("neuron/grid.npz has another checksum than its manifest says")
    assert last.endswith(" cases, 4 failures")


@pytest.mark.slow
def test_check_names_files_that_are_no_part_of_the_set(neurons, capsys):
    shutil.copy(neurons / "neuron/tie.npz", neurons / "neuron/old.npz")
    assert main(["vectors", "check", str(neurons)]) == 1
    line, total = capsys.readouterr().out.splitlines()
    assert line == f"vectors: {neurons}/neuron/old.npz does not belong to the set"
    assert total.endswith(" cases, 1 failure")


def test_check_of_no_folder_is_refused(tmp_path, refused):
    assert "manifest.json is missing, want a folder that refsnn vectors generate wrote" in refused(
        ["vectors", "check", tmp_path]
    )


def test_list_needs_no_arrays(neurons, capsys):
    (neurons / "neuron/tie.npz").unlink()
    assert main(["vectors", "list", str(neurons), "--json", "-"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert main(["vectors", "list", "--json", "-"]) == 0
    everything = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in everything] == [r.id for r in recipes.recipes()]
    assert listed == everything[: len(listed)]
    tie = next(entry for entry in listed if entry["id"] == "neuron/tie")
    assert tie["flags"] == ["THRESHOLD_TIE"]
    assert tie["clauses"] == ["EQ2", "D2"]


def test_list_as_a_table_and_a_file(tmp_path, capsys):
    assert main(["vectors", "list", "--json", str(tmp_path / "list.json")]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["case", "clauses", "catches", "summary"]
    entries = json.loads((tmp_path / "list.json").read_text())
    assert [row.split()[0] for row in rows] == [entry["id"] for entry in entries]
    (row,) = (row for row in rows if row.startswith("neuron/authors "))
    assert "RESET_GRADIENT" in row
    assert "random currents: tau = 0.25; v_th = 0.5; " in row
    (row,) = (row for row in rows if row.startswith("neuron/tanh "))
    assert row.endswith(" random currents")


def test_schema_prints_what_is_in_use(capsys):
    assert main(["vectors", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.manifest()
