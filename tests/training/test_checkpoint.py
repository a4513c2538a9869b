"""Checkpoints give back the state to the bit, or say that they can't."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.training import checkpoint
from refsnn.training.checkpoint import GROUPS, CheckpointError, State, load, save

CONFIG = {"method": "vanilla", "lr": 0.1, "surrogate_shape": None}


@pytest.fixture
def state():
    rng = np.random.default_rng(4)
    return State(
        params={
            "stem.conv0.weight": rng.normal(size=(3, 3, 1, 2)).astype("float32"),
            "head.fc.bias": np.array([0.0, -0.0, 1e-310, np.inf]),
        },
        buffers={"stem.bn0.running_mean": rng.normal(size=2)},
        optimizer={"mean.head.fc.bias": np.zeros(4)},
        rng=rng,
        iteration=17,
        order=rng.permutation(30),
        sums={"loss": 0.1 + 0.2, "images": 32},
    )


@pytest.fixture
def path(tmp_path, state):
    save(tmp_path / "checkpoint.npz", state, CONFIG)
    return tmp_path / "checkpoint.npz"


def everything(state):
    """All of a state in a form that == compares bit for bit."""
    groups = {g: getattr(state, g) for g in GROUPS} | {"order": {"": state.order}}
    arrays = {
        (group, name): (a.dtype.str, a.shape, a.tobytes())
        for group, members in groups.items()
        for name, a in members.items()
    }
    return arrays, state.iteration, state.sums, state.rng.bit_generator.state


def test_a_state_comes_back_to_the_bit(path, state):
    loaded, config = load(path)
    assert everything(loaded) == everything(state)
    assert config == CONFIG
    for group in GROUPS:
        assert list(getattr(loaded, group)) == list(getattr(state, group))


def test_the_generator_goes_on_with_the_same_stream(path, state):
    loaded, _ = load(path)
    for draw in (lambda g: g.normal(size=50), lambda g: g.permutation(30)):
        assert np.array_equal(draw(loaded.rng), draw(state.rng))


def test_a_new_state_has_no_order_and_no_sums(tmp_path):
    save(tmp_path / "a.npz", State({}, {}, {}, np.random.default_rng(0)), {})
    loaded, config = load(tmp_path / "a.npz")
    assert (loaded.iteration, loaded.sums, len(loaded.order), config) == (0, {}, 0, {})


def test_the_same_state_gives_the_same_bytes(path, state, tmp_path):
    save(tmp_path / "other.npz", *load(path))
    assert (tmp_path / "other.npz").read_bytes() == path.read_bytes()
    state.iteration += 1
    save(tmp_path / "other.npz", state, CONFIG)
    assert (tmp_path / "other.npz").read_bytes() != path.read_bytes()


def test_no_pickle_is_inside(path):
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    assert not any(a.dtype.hasobject for a in arrays.values())


def test_arrays_that_are_not_contiguous_come_back(tmp_path, state):
    state.params["w"] = np.arange(12.0).reshape(3, 4).T[::2]
    save(tmp_path / "a.npz", state, CONFIG)
    assert np.array_equal(load(tmp_path / "a.npz")[0].params["w"], state.params["w"])


def test_truncation_is_refused_at_any_length(path):
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 23), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"checkpoint\.npz: "):
            load(path)


def test_a_flipped_bit_is_refused_or_harmless(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("flip") / "checkpoint.npz"
    wanted = everything(state)
    save(path, state, CONFIG)
    whole = path.read_bytes()
    refused = []

    @settings(deadline=None, max_examples=400, derandomize=True)
    @given(st.integers(0, len(whole) - 1), st.integers(0, 7))
    def flip(position, bit):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            loaded, config = load(path)
        except CheckpointError:
            refused.append(position)
        else:
            assert everything(loaded) == wanted
            assert config == CONFIG

    flip()
    assert len(refused) > 200  # the harmless ones are in the archive's own fields


def rewritten(path, change):
    """The checkpoint's arrays in a sound archive, after `change`."""
    with np.load(path) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["params/stem.conv0.weight"].__setitem__((0, 0, 0, 0), 1),
        lambda a: a.update(order=a["order"].astype("int32")),
        lambda a: a.update({"params/head.fc.bias": a["params/head.fc.bias"].reshape(2, 2)}),
        lambda a: a.update({"params/head.fc.bias": a["params/head.fc.bias"].view("int64")}),
        lambda a: a.update({"params/new": np.zeros(1)}),
        lambda a: a.pop("order"),
        lambda a: a.pop("meta"),
        lambda a: a.pop("sha256"),
        lambda a: a.update({"params/w": a.pop("params/head.fc.bias")}),
        lambda a: a["meta"].__setitem__(30, a["meta"][30] ^ 1),
    ],
)
def test_altered_arrays_in_a_sound_archive_are_refused(path, change):
    rewritten(path, change)
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: altered or damaged"):
        load(path)


def test_an_archive_written_again_without_change_is_accepted(path, state):
    rewritten(path, lambda arrays: None)
    assert everything(load(path)[0]) == everything(state)


def test_another_format_is_refused(path, state, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    save(path, state, CONFIG)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: meta: format: got 2, want 1"):
        load(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.npz: no checkpoint there"):
        load(tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x04N."])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.npz: is no \.npz file, or a damaged one"):
        load(tmp_path / "a.npz")


def test_an_array_file_is_no_checkpoint(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(CheckpointError, match=r"a\.npz"):
        load(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"a\.npz: altered or damaged"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_the_old_checkpoint_survives_when_saving_fails(path, state, monkeypatch, call):
    before = path.read_bytes()
    state.iteration += 1

    def fail(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="disk full"):
            save(path, state, CONFIG)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    save(path, state, CONFIG)
    assert load(path)[0].iteration == 18


def test_a_digest_is_of_the_values_not_of_how_they_lie_in_memory():
    values = np.random.default_rng(0).normal(size=(5, 4, 3))
    wanted = checkpoint.digest({"a": values})
    for same in (np.asfortranarray(values), values.repeat(2, 1)[:, ::2], values[..., None][..., 0]):
        assert checkpoint.digest({"a": same}) == wanted
    assert checkpoint.digest({"a": values.transpose(1, 0, 2)}) != wanted
