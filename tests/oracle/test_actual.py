"""Files that an implementation wrote: each belongs to a case, or is named."""

import os

import numpy as np
import pytest

from refsnn.files.arrays import write_arrays
from refsnn.oracle.actual import read_actual

IDS = ("neuron/tie", "neuron/leak-0.75", "layer/plain")


@pytest.fixture
def put(tmp_path):
    """Writes arrays into a file of the folder out."""

    def write(name, **arrays):
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {k: np.asarray(v) for k, v in arrays.items()} or {"y": np.ones(2)})
        return path

    return write


def test_a_folders_files_are_named_as_cases(put, tmp_path):
    put("neuron/tie.npz", o=[1.0])
    put("neuron/leak-0.75.npz", **{"out.o": [2.0], "in.c": [3.0]})
    actual = read_actual(tmp_path / "out", IDS)
    assert {k: {n: a.tolist() for n, a in v.items()} for k, v in actual.got.items()} == {
        "neuron/tie": {"o": [1.0]},
        "neuron/leak-0.75": {"o": [2.0]},
    }
    assert actual.problems == {}


def test_safetensors_will_do_but_not_two_of_one_case(put, tmp_path):
    pytest.importorskip("safetensors")
    put("neuron/tie.safetensors", o=[1.0])
    put("layer/plain.npz")
    second = put("layer/plain.safetensors")
    actual = read_actual(tmp_path / "out", IDS)
    assert set(actual.got) == {"neuron/tie", "layer/plain"}
    assert actual.problems == {str(second): "is a second file of layer/plain"}


def test_others_do_not_stop_it(put, tmp_path):
    put("neuron/tie.npz")
    thesis = put("thesis.npz")
    (tmp_path / "out" / "notes.txt").touch()
    broken = put("layer/plain.npz")
    broken.write_bytes(broken.read_bytes()[:20])
    actual = read_actual(tmp_path / "out", IDS)
    assert set(actual.got) == {"neuron/tie"}
    assert set(actual.problems) == {"layer/plain", str(thesis)}
    assert "is no .npz file, or a damaged one" in actual.problems["layer/plain"]
    assert actual.problems[str(thesis)] == (
        "is not named after a case, want LEVEL/NAME.npz such as neuron/tie.npz"
    )


def test_one_file_is_known_by_its_name_or_as_it_is_said(put, monkeypatch, tmp_path):
    path = put("neuron/leak-0.75.npz")
    assert set(read_actual(path, IDS).got) == {"neuron/leak-0.75"}
    monkeypatch.chdir(tmp_path / "out" / "neuron")
    assert set(read_actual(path.relative_to(path.parent), IDS).got) == {"neuron/leak-0.75"}
    mine = put("mine.npz")
    assert set(read_actual(mine, IDS, "neuron/tie").got) == {"neuron/tie"}
    with pytest.raises(
        ValueError, match=r"actual: .*mine\.npz is not named after a case: name it LEVEL/NAME"
    ):
        read_actual(mine, IDS)
    with pytest.raises(ValueError, match="case: got 'neuron/tii'"):
        read_actual(mine, IDS, "neuron/tii")


def test_where_nothing_is_it_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"actual: .*nothing does not exist, want an \.npz file"):
        read_actual(tmp_path / "nothing", IDS)
    with pytest.raises(ValueError, match=r"holds no \.npz file, want LEVEL/NAME\.npz"):
        read_actual(tmp_path, IDS)
    with pytest.raises(ValueError, match=r"actual: .* holds no neuron/tie\.npz"):
        read_actual(tmp_path, IDS, "neuron/tie")


def test_the_folder_of_one_level_serves_too(put, tmp_path):
    put("neuron/tie.npz", o=[1.0])
    actual = read_actual(tmp_path / "out" / "neuron", IDS)
    assert list(actual.got) == ["neuron/tie"]
    assert actual.problems == {}


def test_known_cases_that_were_not_asked_for_are_no_problem(put, tmp_path):
    put("neuron/tie.npz")
    put("block/stride.npz")
    actual = read_actual(tmp_path / "out", IDS)
    assert list(actual.got) == ["neuron/tie"]
    assert (actual.problems, actual.others) == ({}, ["block/stride"])
    with pytest.raises(ValueError, match=r"holds only files of other cases \(block/stride, …\)"):
        read_actual(tmp_path / "out" / "block", IDS)


def test_one_of_a_folder(put, tmp_path):
    put("neuron/tie.npz")
    put("layer/plain.npz")
    assert list(read_actual(tmp_path / "out", IDS, "layer/plain").got) == ["layer/plain"]


def test_an_output_that_is_there_twice_is_refused(put, tmp_path):
    put("neuron/tie.npz", **{"o": [1.0], "out.o": [0.0]})
    actual = read_actual(tmp_path / "out", IDS)
    assert "has an output twice" in actual.problems["neuron/tie"]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_pipes_and_devices_are_no_files(suffix, tmp_path):
    folder = tmp_path / "neuron"
    folder.mkdir()
    os.mkfifo(folder / f"tie{suffix}")
    (folder / f"leak-0.75{suffix}").symlink_to("/dev/zero")
    for name in ("tie", "leak-0.75"):
        found = read_actual(folder / f"{name}{suffix}", IDS)
        assert found.problems[f"neuron/{name}"].endswith(f"{name}{suffix}: is no regular file")
    assert set(read_actual(tmp_path, IDS).problems) == {"neuron/tie", "neuron/leak-0.75"}
