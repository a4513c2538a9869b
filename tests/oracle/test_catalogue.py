"""Cases by name: made when asked for, from a folder or by refsnn itself."""

import pytest

from refsnn.oracle import cases, vectors
from refsnn.oracle.catalogue import catalogue, choose
from refsnn.oracle.conventions import LEVELS


@pytest.fixture
def folder(doubling, tmp_path):
    names = ("neuron/a", "neuron/b", "layer/a")
    vectors.write([doubling(name) for name in names], tmp_path / "v")
    return tmp_path / "v"


def test_nothing_is_built_before_it_is_asked_for(monkeypatch):
    built = []
    monkeypatch.setattr(cases, "build", lambda recipe: built.append(recipe.id))
    ids, chosen = choose(None, LEVELS, ["neuron/tie*"])
    assert "training/vanilla" in ids
    assert not built
    next(chosen)
    assert built == ["neuron/tie"]


def test_a_damaged_file_stops_none_but_itself(folder):
    (folder / "neuron/a.npz").unlink()
    makers = catalogue(folder)
    assert makers["neuron/b"]().id == "neuron/b"
    with pytest.raises(ValueError, match=r"neuron/a\.npz is missing"):
        makers["neuron/a"]()


def test_levels_and_patterns_choose_in_order(folder):
    def names(levels=LEVELS, patterns=None):
        return [case.id for case in choose(folder, levels, patterns)[1]]

    assert names() == ["neuron/a", "neuron/b", "layer/a"]
    assert names(levels=("layer",)) == ["layer/a"]
    assert names(patterns=["*/a"]) == ["neuron/a", "layer/a"]
    assert names(("neuron",), ["*/a"]) == ["neuron/a"]


def test_what_chooses_nothing_is_refused(folder):
    with pytest.raises(ValueError, match=r"case: got 'neuron/c', want .* like neuron/"):
        choose(folder, LEVELS, ["neuron/a", "neuron/c"])
    with pytest.raises(ValueError, match="case: got none of the level block"):
        choose(folder, ("block",), None)
