"""Cases by name: made when asked for, from a folder or by refsnn itself."""

import json

import pytest

from refsnn.oracle import cases as building
from refsnn.oracle import vectors
from refsnn.oracle.catalogue import catalogue, check_patterns, choose, load
from refsnn.oracle.conventions import LEVELS


@pytest.fixture
def folder(doubling, tmp_path):
    names = ("neuron/a", "neuron/b", "layer/a")
    vectors.write([doubling(name) for name in names], tmp_path / "v")
    return tmp_path / "v"


def test_nothing_is_built_before_it_is_asked_for(monkeypatch):
    built = []
    monkeypatch.setattr(building, "build", lambda recipe: built.append(recipe.id))
    makers = catalogue(None)
    assert "training/vanilla" in makers
    assert not built
    load(makers, choose(makers, LEVELS, ["neuron/tie"]))
    assert built == ["neuron/tie"]


def test_a_damaged_file_stops_none_but_itself(cases, tmp_path):
    names = ["neuron/tie", "neuron/tanh"]
    vectors.write([cases[name] for name in names], tmp_path / "v")
    (tmp_path / "v/neuron/tie.npz").unlink()
    found, problems = load(catalogue(tmp_path / "v"), names)
    assert [case.id for case in found] == ["neuron/tanh"]
    assert list(problems) == ["neuron/tie"]
    assert problems["neuron/tie"].endswith("neuron/tie.npz is missing")


@pytest.mark.parametrize("value", [1e9, 0.0, 1e-3])
def test_a_tolerance_that_lets_more_pass_than_the_outputs_give_is_refused(value, cases, tmp_path):
    case = cases["neuron/tanh"]
    vectors.write([case], tmp_path / "v")
    path = tmp_path / "v/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["cases"][0]["outputs"][1]["tolerance"]["float64"] = value
    path.write_text(json.dumps(manifest))
    if value == 0:  # the schema's
        with pytest.raises(ValueError, match=r"tolerance\.float64: got 0\.0, want more than 0"):
            catalogue(tmp_path / "v")
        return
    with pytest.raises(ValueError, match=r"neuron/tanh: outputs: o: tolerance: float64: got "):
        catalogue(tmp_path / "v")["neuron/tanh"]()


def test_patterns_of_outputs_must_match_one(doubling):
    check_patterns(["y", "*"], [doubling()])
    with pytest.raises(
        ValueError, match="omit: got 'u_pre', want an output's name or pattern, like y"
    ):
        check_patterns(["y", "u_pre"], [doubling()])


def test_levels_and_patterns_choose_in_order(folder):
    def names(levels=LEVELS, patterns=None):
        return choose(catalogue(folder), levels, patterns)

    assert names() == ["neuron/a", "neuron/b", "layer/a"]
    assert names(levels=("layer",)) == ["layer/a"]
    assert names(patterns=["*/a"]) == ["neuron/a", "layer/a"]
    assert names(("neuron",), ["*/a"]) == ["neuron/a"]


def test_patterns_that_choose_nothing_are_refused(folder):
    with pytest.raises(ValueError, match=r"case: got 'neuron/c', want .* like neuron/"):
        choose(catalogue(folder), LEVELS, ["neuron/a", "neuron/c"])
    with pytest.raises(ValueError, match="case: got none of the level block"):
        choose(catalogue(folder), ("block",), None)


def test_a_file_that_may_not_be_opened_stops_none_but_itself(doubling):
    def refuse():
        raise PermissionError("no right to read it")

    found, problems = load({"neuron/a": refuse, "neuron/b": doubling}, ["neuron/a", "neuron/b"])
    assert len(found) == 1
    assert problems == {"neuron/a": "no right to read it"}


def test_vectors_keep_to_every_convention_that_is_declared(cases, tmp_path):
    """One that is as declared excuses no other."""
    vectors.write([cases["neuron/tanh"]], tmp_path / "v")
    assert list(catalogue(tmp_path / "v", {"reset": "zero", "tau": 0.5})) == ["neuron/tanh"]
    for given in ({"reset": "zero", "tau": 0.8}, {"reset": "subtract", "tau": 0.5}):
        with pytest.raises(ValueError, match=r"^conventions: those of the cases in .* can't be"):
            catalogue(tmp_path / "v", given)
