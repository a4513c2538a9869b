"""Adapters: which objects can be one, what they are given and may return."""

from types import SimpleNamespace

import numpy as np
import pytest

from refsnn.oracle import worker
from refsnn.oracle.conventions import with_old_names
from refsnn.oracle.declare import USUAL, profiles

ADAPTERS = """
    class Adapter:
        def run(self, case):
            return {"y": 2 * case.inputs["x"]}

    def make(scale=2):
        return Adapter()

    def run(case):
        return {"y": 2 * case.inputs["x"]}

    class Holder:
        made = Adapter()

    made = Adapter()
    number = 3
    """


@pytest.fixture
def mine(adapter, tmp_path, monkeypatch):
    adapter(ADAPTERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(worker.sys.modules, "mine", raising=False)
    yield
    worker.sys.modules.pop("mine", None)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("target", ["Adapter", "make", "run", "made", "Holder.made"])
def test_an_adapter_is_an_object_or_what_makes_one_or_a_function(target, doubling):
    case = doubling()
    found = worker.find_adapter(f"mine:{target}")
    np.testing.assert_array_equal(found.run(case)["y"], case.outputs["y"])


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mine", "got 'mine', want MODULE:OBJECT"),
        ("mine:", "got 'mine:', want MODULE:OBJECT"),
        (":run", "got ':run', want MODULE:OBJECT"),
        ("mine:nothing", "got 'mine:nothing', but mine has no nothing"),
        ("mine:Holder.nothing", "but mine has no Holder.nothing"),
        ("mine:number", r"got int, want an object with run\(case\)"),
        ("mine:Holder", r"got Holder, want an object with run\(case\)"),
    ],
)
def test_anything_else_is_refused(target, message):
    with pytest.raises(worker.Refused, match=message):
        worker.find_adapter(target)


def test_declarations_of_an_adapter():
    full = SimpleNamespace(name="n", precision="float32", levels=("neuron",), omits=("*u",))
    assert worker.describe(full, "m:o") == {
        "name": "n",
        "precision": "float32",
        "levels": ["neuron"],
        "omits": ["*u"],
        "conventions": {},
        "has_own_numbers": False,
    }
    assert worker.describe(SimpleNamespace(), "m:o") == {
        "name": "m:o",
        "precision": None,
        "levels": list(worker.LEVELS),
        "omits": [],
        "conventions": {},
        "has_own_numbers": False,
    }
    assert worker.describe(SimpleNamespace(has_own_numbers=True), "m:o")["conventions"] == USUAL


@pytest.mark.parametrize(
    ("conventions", "expected"),
    [
        ("norse-box", profiles()["norse-box"]["conventions"]),
        ({"tau": 0.75}, {"tau": 0.75}),
        (["authors", "tau=0.75"], profiles()["authors"]["conventions"] | {"tau": 0.75}),
    ],
)
def test_an_adapter_declares_its_conventions(conventions, expected):
    mine = SimpleNamespace(conventions=conventions)
    assert worker.describe(mine, "m:o")["conventions"] == expected


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"precision": "half"}, "precision: got 'half', want one of float64, float32"),
        ({"precision": np.float32}, "precision: got .*want one of float64"),
        ({"levels": "neuron"}, "levels: got 'neuron', want a tuple of strings"),
        ({"levels": ("neurons",)}, "levels: got 'neurons', want some of surrogate, neuron"),
        ({"omits": "u"}, "omits: got 'u', want a tuple of strings"),
        ({"omits": [3]}, r"omits: got \[3\], want a tuple of strings"),
        ({"conventions": "nors"}, "conventions: got 'nors'; did you mean norse?"),
        ({"conventions": {"tau": 2}}, "tau: got 2, want a number from 0 to 1"),
        ({"conventions": 3}, "conventions: got 3, want a profile, a file, a dict or a list"),
        ({"conventions": "none.toml"}, "none.toml"),
    ],
)
def test_wrong_declarations_are_refused(declared, message):
    with pytest.raises(worker.Refused, match=message):
        worker.describe(SimpleNamespace(**declared), "m:o")


def test_a_case_arrives_whole_but_for_its_expected_values(doubling, tmp_path):
    case = doubling(repeat=3)
    worker.write_case(tmp_path / "case.npz", case)
    found = worker.read_case(tmp_path / "case.npz")
    changed = ("inputs", "outputs", "conventions")
    assert {k: v for k, v in vars(found).items() if k not in changed} == {
        k: v for k, v in vars(case).items() if k not in changed
    }
    assert found.conventions == with_old_names(case.conventions)
    assert found.conventions.items() > case.conventions.items()
    assert list(found.inputs) == ["x"]
    np.testing.assert_array_equal(found.inputs["x"], case.inputs["x"], strict=True)
    assert found.outputs["y"].shape == case.outputs["y"].shape
    assert np.isnan(found.outputs["y"]).all()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "bool"])
def test_objects_that_become_arrays_of_numbers_pass_with_their_dtype(dtype):
    wanted = {"y": np.zeros((1, 2))}
    (found,) = worker.as_arrays({"y": np.ones((1, 2), dtype)}, wanted).values()
    assert found.dtype == dtype
    (found,) = worker.as_arrays({"y": [[1.0, 2.0]]}, wanted).values()
    np.testing.assert_array_equal(found, [[1.0, 2.0]])


def test_the_names_of_unwanted_outputs_are_passed_on():
    found = worker.as_arrays({"z": object(), "y": 1.0}, {"y": np.zeros(())})
    assert {name: array.shape for name, array in found.items()} == {"z": (0,), "y": ()}


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (None, r"run\(case\): got NoneType, want a mapping"),
        ([1], r"run\(case\): got list, want a mapping"),
        ({3: 1}, r"run\(case\): got a name 3, want strings"),
        ({"y": object()}, "y: got dtype object, want numbers"),
        ({"y": "abc"}, "y: got dtype <U3, want numbers"),
        ({"y": [1j]}, "y: got dtype complex128, want numbers"),
        ({"y": [[1, 2], [3]]}, "y: got list, want an array: .*inhomogeneous"),
        ({"y": np.zeros(10**6)}, r"y: got shape \(1000000,\), want \(1, 2\)"),
    ],
)
def test_garbage_is_named(got, message):
    with pytest.raises((TypeError, ValueError), match=message):
        worker.as_arrays(got, {"y": np.zeros((1, 2))})


def test_it_is_said_how_to_return_bfloat16():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("Got unsupported ScalarType BFloat16")

    with pytest.raises(TypeError, match=r"^y: got Tensor, .* BFloat16; .* float32 .* declare prec"):
        worker.as_arrays({"y": Tensor()}, {"y": np.zeros(2)})


def test_libraries_are_told_from_the_authors_files(tmp_path, monkeypatch):
    import json

    packages = tmp_path / "venv" / "lib" / "site-packages" / "snn.py"
    assert worker.in_library(json.__file__)
    assert worker.in_library(np.__file__)
    assert worker.in_library(worker.__file__)
    assert worker.in_library(str(packages))
    assert not worker.in_library(str(tmp_path / "mine.py"))
    monkeypatch.syspath_prepend(tmp_path)
    assert not worker.in_library(str(tmp_path / "mine.py"))
    (tmp_path / "torch-2.0.dist-info").mkdir()  # as pip install --target leaves it
    assert worker.in_library(str(tmp_path / "torch" / "tensor.py"))
    assert not worker.in_library(__file__)


def test_wrong_shapes_of_reasonable_size_pass_for_the_comparison_to_name():
    found = worker.as_arrays({"y": np.zeros(1000)}, {"y": np.zeros((1, 2))})
    assert found["y"].shape == (1000,)
