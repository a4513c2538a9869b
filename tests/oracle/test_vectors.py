"""Test vectors on disk: the same bytes each time, read back equal, and not believed if changed."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from refsnn.files.arrays import SUFFIXES, write_arrays
from refsnn.oracle import vectors
from refsnn.oracle.compare import compare_case
from refsnn.oracle.conventions import RENAMED
from refsnn.oracle.methods import NAMES

WRITE = """
import sys
from pathlib import Path
from refsnn.oracle import catalogue, vectors
from refsnn.oracle.methods import NAMES
vectors.write((make() for make in catalogue.catalogue(None).values()), Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def folder(cases, tmp_path_factory):
    """All cases, written."""
    path = tmp_path_factory.mktemp("vectors") / "all"
    vectors.write(cases.values(), path)
    return path


@pytest.fixture
def two(doubling, tmp_path):
    """A folder of neuron/a and layer/b."""
    vectors.write([doubling("neuron/a"), doubling("layer/b")], tmp_path / "v")
    return tmp_path / "v"


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def written_elsewhere(folder, **environment):
    subprocess.run(
        [sys.executable, "-c", WRITE, str(folder)], env={**os.environ, **environment}, check=True
    )
    return folder


def edit(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.processes
def test_another_process_writes_the_same_bytes(folder, tmp_path):
    other = written_elsewhere(
        tmp_path / "v", PYTHONHASHSEED="7", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"
    )
    assert contents(other) == contents(folder)


@pytest.mark.processes
def test_another_processors_products_agree(folder, tmp_path):
    """Whose last bits differ, as BLAS is free to sum in another order."""
    other = written_elsewhere(tmp_path / "v", OPENBLAS_CORETYPE="Prescott")
    for mine, theirs in zip(vectors.read(folder), vectors.read(other), strict=True):
        assert compare_case(mine, theirs.outputs).lines() == []


def test_all_is_small_and_plain(folder, cases):
    files = contents(folder)
    assert sum(map(len, files.values())) < 20e6
    assert len(files) == len(cases) + 1
    for path in files:
        if path.suffix == ".npz":
            with np.load(folder / path, allow_pickle=False) as archive:
                for name in archive.files:
                    array = archive[name]
                    label = name == "in.labels"
                    assert array.dtype == (np.int64 if label else np.float64), name
                    if name.startswith("in."):
                        np.testing.assert_array_equal(array, array.astype(np.float32))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_written_set_is_read(cases, tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    some = [cases[name] for name in ("surrogate/tanh", "layer/evaluation", "training/shortcut")]
    vectors.write(some, tmp_path / "v", suffix)
    for before, after in zip(some, vectors.read(tmp_path / "v"), strict=True):
        for name in (*vectors.FACTS, "tolerances"):
            assert getattr(after, name) == getattr(before, name)
        for part in ("inputs", "outputs"):
            ours, theirs = getattr(before, part), getattr(after, part)
            assert list(theirs) == list(ours)
            for name, array in ours.items():
                np.testing.assert_array_equal(theirs[name], array, strict=True)


def test_a_folder_of_other_things_is_left_alone(doubling, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds other files, want a new or an empty folder"):
        vectors.write([doubling()], tmp_path)
    assert list(contents(tmp_path)) == [(tmp_path / "thesis.tex").relative_to(tmp_path)]


def test_a_folder_of_vectors_is_written_again(two):
    before = contents(two)
    vectors.write(vectors.read(two), two)
    assert contents(two) == before


@pytest.mark.parametrize("where", [0, 200, -1])
def test_a_changed_byte_is_seen(two, where):
    path = two / "neuron/a.npz"
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"neuron/a\.npz has another checksum"):
        vectors.read(two)


def test_truncated_and_missing_files_are_named(two):
    path = two / "neuron/a.npz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"neuron/a\.npz has another checksum"):
        vectors.read(two)
    path.unlink()
    with pytest.raises(ValueError, match=r"neuron/a\.npz is missing"):
        vectors.read(two)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "want UTF-8 text"),
        (b"[" * 10**5, "nested more than 64 deep"),
        (b"[]", "has schema None, want 'refsnn-vectors-4'"),
        (b"3", "has schema None"),
        (b'{"schema": "%s"}' % (b"x" * 999), r"has schema 'x{76}\.\.\., want"),
        (b'{"schema": "refsnn-vectors-1"}', "refsnn is missing"),
        (b'{"schema": "refsnn-vectors-2"}', "refsnn is missing"),
        (b'{"schema": "refsnn-vectors-3"}', "refsnn is missing"),
        (b'{"schema": "refsnn-vectors-4"}', "refsnn is missing"),
        (b'{"schema": "refsnn-vectors-5", "cases": 7}', "has schema 'refsnn-vectors-5', want"),
        (
            b'{"schema": "refsnn-vectors-1", "refsnn": "1", "cases": [3]}',
            r"cases\[0\]: got 3, want an object",
        ),
    ],
)
def test_a_manifest_that_is_none_is_refused(two, text, message):
    (two / "manifest.json").write_bytes(text)
    with pytest.raises(ValueError, match=message) as error:
        vectors.read(two)
    assert "manifest.json" in str(error.value)


def test_a_folder_without_manifest_says_how_to_make_it(tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.json is missing, want a folder that refsnn"):
        vectors.read(tmp_path)


def test_nothing_outside_of_the_folder_is_read(two, tmp_path):
    """Even where the checksum is right."""
    secret = tmp_path / "secret.npz"
    (two / "neuron/a.npz").rename(secret)
    for name in ("neuron/../../secret", "../secret", str(tmp_path / "secret")):
        edit(two, lambda m, name=name: m["cases"][0].update(id=name, file=f"{name}.npz"))
        with pytest.raises(ValueError, match=r"cases\[0\]\.id: got .*, want a text like"):
            vectors.read(two)
    edit(two, lambda m: m["cases"][0].update(id="neuron/a", file="layer/b.npz"))
    with pytest.raises(ValueError, match=r"neuron/a has level neuron and file layer/b\.npz"):
        vectors.read(two)


def test_ids_are_unique_and_of_their_level(two):
    edit(two, lambda m: m["cases"][1].update(m["cases"][0]))
    with pytest.raises(ValueError, match="neuron/a occurs twice"):
        vectors.read(two)
    edit(two, lambda m: m["cases"][0].update(level="layer"))
    with pytest.raises(ValueError, match="neuron/a has level layer"):
        vectors.read(two)


class Loud:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("in.x", np.array([[Loud()] * 3] * 2, object), "in.x got dtype object, want numbers"),
        ("out.y", np.ones((3, 2)), r"out.y: got float64 \(3, 2\), want float64 \(2, 3\)"),
        ("out.y", np.ones((2, 3), np.float32), r"out.y: got float32 \(2, 3\), want float64"),
        ("out.y", np.full((2, 3), np.nan), "out.y has numbers that are not finite"),
        ("out.z", np.ones((2, 3)), "out.y is missing"),
    ],
    ids=["object", "shape", "dtype", "nan", "missing"],
)
def test_arrays_must_be_as_the_manifest_says(two, capsys, name, array, message):
    """With a checksum that is right."""
    arrays = {"in.x": np.ones((2, 3)), "out.y": np.ones((2, 3))}
    arrays = {name if k[:2] == name[:2] else k: v for k, v in arrays.items()} | {name: array}
    path = two / "neuron/a.npz"
    np.savez(path, allow_pickle=True, **arrays)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(two, lambda m: m["cases"][0].update(sha256=sha256))
    with pytest.raises(ValueError, match=message):
        vectors.read(two)
    assert not capsys.readouterr().out


def test_surplus_arrays_do_no_harm(two, doubling):
    path = two / "neuron/a.npz"
    case = doubling()
    write_arrays(path, {"in.x": case.inputs["x"], "out.y": case.outputs["y"], "out.z": np.ones(1)})
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(two, lambda m: m["cases"][0].update(sha256=sha256))
    found = vectors.read(two)[0]
    assert list(found.outputs) == ["y"]
    assert replace(found, inputs={}, outputs={}) == replace(case, inputs={}, outputs={})


def test_only_vectors_are_written_over(doubling, tmp_path):
    for text in ('{"name": "an app"}', "[]", "no JSON", '{"schema": 3, "cases": []}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match="holds other files, want a new or an empty folder"):
            vectors.write([doubling()], tmp_path)
        assert (tmp_path / "manifest.json").read_text() == text


def test_a_set_is_replaced_whole(doubling, tmp_path):
    folder = tmp_path / "v"
    vectors.write([doubling("neuron/a"), doubling("neuron/b")], folder)
    (folder / "neuron" / "notes.txt").touch()
    vectors.write([doubling("neuron/b"), doubling("layer/c")], folder)
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert left == {"manifest.json", "neuron/b.npz", "layer/c.npz", "neuron/notes.txt"}


def test_no_file_outside_the_folder_is_removed(doubling, tmp_path):
    folder = tmp_path / "v"
    vectors.write([doubling()], folder)
    (tmp_path / "thesis.npz").touch()
    text = (folder / "manifest.json").read_text()
    for name in ("../thesis.npz", str(tmp_path / "thesis.npz"), "neuron/../../thesis.npz"):
        (folder / "manifest.json").write_text(text.replace("neuron/a.npz", name))
        vectors.write([doubling()], folder)
        assert (tmp_path / "thesis.npz").exists()


def test_no_link_is_followed_out_of_the_folder(doubling, tmp_path):
    folder = tmp_path / "v"
    vectors.write([doubling()], folder)
    (folder / "neuron").rename(tmp_path / "elsewhere")
    (folder / "neuron").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="v/neuron is a link, want a folder"):
        vectors.write([doubling()], folder)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["a.npz"]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", range(11))
def test_after_a_kill_at_any_moment_the_next_set_is_alone(
    moment, again, doubling, tmp_path, monkeypatch
):
    """A kill leaves what was written, and the temporary file of what was not."""
    folder, replace_file, unlink, left = tmp_path / "v", os.replace, os.unlink, [moment]
    if again:
        vectors.write([doubling("neuron/old")], folder)

    def killed(*paths):
        if left[0] == 0:
            left[0] = -1
            raise SystemExit
        left[0] -= 1
        replace_file(*paths)

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(os, "unlink", lambda path: unlink(path) if left[0] >= 0 else None)
    with pytest.raises(SystemExit):
        vectors.write([doubling(f"layer/{n}") for n in range(5)], folder)
    monkeypatch.undo()
    vectors.write([doubling("block/a"), doubling("block/b")], folder)
    assert {path.as_posix() for path in contents(folder)} == {
        "manifest.json",
        "block/a.npz",
        "block/b.npz",
    }
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "block"}


def test_a_pipe_among_the_files_is_named(two):
    (two / "neuron/a.npz").unlink()
    os.mkfifo(two / "neuron/a.npz")
    with pytest.raises(ValueError, match=r"neuron/a\.npz: is no regular file"):
        vectors.read(two)
    (two / "manifest.json").unlink()
    os.mkfifo(two / "manifest.json")
    with pytest.raises(ValueError, match=r"manifest\.json: is no regular file"):
        vectors.read(two)


def former(conventions):
    """Conventions by the names and values that the first version had."""
    then = {}
    for name, value in conventions.items():
        old, meant = next(
            ((old, meant) for old, (now, meant) in RENAMED.items() if now == name), (name, {})
        )
        then[old] = next((was for was, now in meant.items() if now == value), value)
    return then


def test_vectors_without_the_conventions_of_methods_are_read(two):
    path = two / "manifest.json"
    manifest = json.loads(path.read_text())
    wanted = [case.conventions for case in vectors.read(two)]
    for case in manifest["cases"]:
        case["conventions"] = {k: v for k, v in case["conventions"].items() if k not in NAMES}
    path.write_text(json.dumps(manifest | {"schema": "refsnn-vectors-3"}))
    assert [case.conventions for case in vectors.read(two)] == wanted
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"conventions.*neuron_model"):
        vectors.read(two)


def test_vectors_of_the_first_version_are_read(two):
    path = two / "manifest.json"
    manifest = json.loads(path.read_text())
    for case in manifest["cases"]:
        case["conventions"] = former(case["conventions"])
        assert case["conventions"]["fire"] in (">", ">=")
        assert case["conventions"]["lambda"] == "1 - i/I, i from 1"
    wanted = [case.conventions for case in vectors.read(two)]
    path.write_text(json.dumps(manifest | {"schema": "refsnn-vectors-1"}))
    assert [case.conventions for case in vectors.read(two)] == wanted
    path.write_text(json.dumps(manifest))  # which says that it is of today's
    with pytest.raises(ValueError, match="conventions"):
        vectors.read(two)
