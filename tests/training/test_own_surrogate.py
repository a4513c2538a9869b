"""A surrogate of the user's own, named `module:object` or given as an object."""

import itertools
import sys

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.equations.surrogate import Tanh
from refsnn.training.checkpoint import load
from refsnn.training.config import make_config

SMALL = ["--arch=1-1:4-8", "--epochs=1", "--batch-size=400"]
OWN = """
import numpy as np

class Soft:
    k = 0.5
    def slope(self, x, v_th):
        return self.k * (1 - np.tanh(x) ** 2)
    def primitive(self, x, v_th):
        return self.k * (1 + np.tanh(x))

class Steep(Soft):
    k = 2.0

steep = Steep()
slope = 3
"""
NUMBER = itertools.count()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module in the current folder, another one for each test."""
    name = f"own{next(NUMBER)}"
    (tmp_path / f"{name}.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def params(folder):
    return load(folder / "checkpoint.npz")[0].params


@pytest.mark.parametrize(("ops", "dtype"), [("numpy", "float64"), ("numba", "float32")])
@pytest.mark.slow_after(1)
def test_one_that_is_the_papers_trains_the_papers_network(own, ops, dtype, tmp_path, capsys):
    for out, surrogate in (("own", f"{own}:Soft"), ("tanh", "tanh")):
        options = [f"--surrogate={surrogate}", f"--ops={ops}", f"--dtype={dtype}", f"--out={out}"]
        assert main(["train", *SMALL, *options]) == 0
    got, want = params(tmp_path / "own"), params(tmp_path / "tanh")
    for name in want:  # in float32 the fused pass, which knows the paper's alone, rounds its way
        if dtype == "float64":
            assert np.array_equal(got[name], want[name]), name
        else:
            np.testing.assert_allclose(got[name], want[name], rtol=0, atol=2e-3, err_msg=name)


def test_its_slope_is_the_one_that_trains(own, tmp_path, capsys):
    for kind in ("Soft", "Steep", "steep"):
        out = [f"--surrogate={own}:{kind}", f"--out={kind}", "--ops=numpy"]
        assert main(["train", *SMALL, *out]) == 0
    soft, steep, made = (params(tmp_path / kind) for kind in ("Soft", "Steep", "steep"))
    name = "stem.conv0.weight"
    assert not np.array_equal(soft[name], steep[name])
    assert np.array_equal(made[name], steep[name])


def test_a_run_with_one_is_evaluated_and_goes_on(own, tmp_path, capsys):
    assert main(["train", *SMALL, f"--surrogate={own}:Soft", "--out=run", "--ops=numpy"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 0
    assert main(["train", "--resume", "run"]) == 0


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere:Soft", r"surrogate: can't load 'nowhere:Soft' \(ModuleNotFoundError: "),
        ("{own}:Sift", r"surrogate: can't load 'own\d+:Sift' \(AttributeError: "),
        ("{own}:slope", r"surrogate: got 3, want an object with slope\(x, v_th\)"),
        ("{own}:", r"surrogate: got 'own\d+:', want module:object"),
        (":Soft", "surrogate: got ':Soft', want module:object"),
    ],
)
def test_one_that_is_none_is_refused_in_a_line(own, reference, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        make_config(surrogate=reference.format(own=own))


def test_an_object_serves_in_place_of_a_name():
    surrogate = Tanh(0.7)
    assert make_config(surrogate=surrogate).build_network(1, 2).lif.surrogate is surrogate


@pytest.mark.parametrize("name", ["surrogate_shape", "surrogate_edge"])
def test_settings_of_the_papers_surrogates_are_not_those_of_ones_own(own, name):
    value = {"surrogate_shape": 0.7, "surrogate_edge": "inside"}[name]
    with pytest.raises(ValueError, match=f"^{name}: want it for tanh, "):
        make_config(surrogate=f"{own}:Soft", **{name: value})
