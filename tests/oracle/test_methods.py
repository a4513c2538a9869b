"""Neurons of other methods among the cases: declared, listed, written, read and refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.oracle import vectors
from refsnn.oracle.agreement import disagreements
from refsnn.oracle.compare import compare_case
from refsnn.oracle.contents import require_inputs
from refsnn.oracle.method_neuron import OWN
from refsnn.oracle.recipes import recipes
from refsnn.oracle.recompute import recompute

MODELS = list(OWN)
#: what else may be declared
WITH = [
    ("plif", {"plif_input_decay": False}),
    ("plif", {"reset_gradient": "detached", "surrogate": "atan", "surrogate_shape": 2.0}),
    ("glif", {"surrogate": "triangular", "surrogate_unit": "v_th"}),
    ("glif", {"reset_gradient": "detached", "fire_at_threshold": True}),
    ("diet", {"diet_reset_leaks": False}),
    ("diet", {"reset_gradient": "detached", "surrogate_scale": 0.3}),
    ("mpbn", {"tau": 0.25, "v_th": 0.5, "surrogate": "dspike", "surrogate_shape": 3.0}),
    ("mpbn", {"reset_gradient": "detached"}),
    ("real_spike", {"tau": 1.0, "reset_gradient": "detached"}),
]


def of(model, **more):
    return refsnn.cases("neuron", conventions={"neuron_model": model, **more})


def test_none_is_among_the_cases_if_it_is_not_declared():
    assert not any("neuron_model" in recipe.given for recipe in recipes())


@pytest.mark.parametrize("model", MODELS)
def test_refsnn_and_the_naive_loops_agree(model):
    cases = of(model)
    assert all(model in case.id.replace("-", "_") for case in cases)
    for case in cases:
        require_inputs(case.level, case.inputs, case.settings, case.conventions)
        assert disagreements(case) == []


@pytest.mark.parametrize(("model", "more"), WITH)
def test_they_agree_on_what_else_is_declared(model, more):
    cases = of(model, **more)  # raises ValueError where they do not
    assert len(cases) >= 6
    for case in cases:
        assert more.items() <= case.conventions.items()


@pytest.mark.parametrize("model", MODELS)
def test_neurons_fire_and_rest_at_every_step(model):
    fired = of(model)[0].outputs["o"].mean((1, 2))
    assert (fired > 0.05).all()
    assert (fired < 0.9).all()


@pytest.mark.parametrize("model", ["plif", "diet", "real_spike"])
def test_many_potentials_of_the_tie_are_on_the_threshold(model):
    (case,) = (case for case in of(model) if case.id.endswith("-tie"))
    v_th = case.inputs["v_th"] if model == "diet" else case.conventions["v_th"]
    assert (case.outputs["u_pre"] == v_th).sum() >= 5


@pytest.mark.parametrize(
    ("model", "told", "message"),
    [
        ("plif", {"tau": 0.75}, "tau: 0.75 cannot be declared with neuron_model plif"),
        ("plif", {"leak": "tau*(u + c)"}, r"leak: tau\*\(u \+ c\) cannot be declared with"),
        ("glif", {"reset": "subtract"}, "reset: subtract cannot be declared with neuron_model gl"),
        ("diet", {"v_th": 0.5}, "v_th: 0.5 cannot be declared with neuron_model diet"),
        ("mpbn", {"tau": 0.0}, "tau: got 0, want more for neuron_model mpbn"),
        ("mpbn", {"mpbn_state": "normalised"}, "can be recognised, but not declared"),
    ],
)
def test_what_a_neuron_does_not_follow_can_not_be_declared(model, told, message):
    with pytest.raises(ValueError, match=message):
        of(model, **told)


@pytest.mark.parametrize("model", MODELS)
def test_each_input_is_missed_and_no_other_is_taken(model):
    case = of(model)[0]
    told = case.settings, case.conventions
    for name, value in case.inputs.items():
        fewer = {k: v for k, v in case.inputs.items() if k != name}
        with pytest.raises(ValueError, match=f"^inputs: {name}: got none, want an array of"):
            require_inputs("neuron", fewer, *told)
        if name != "c":
            with pytest.raises(ValueError, match=f"^inputs: {name}: got .* want an array of sha"):
                require_inputs("neuron", case.inputs | {name: value[None]}, *told)
    with pytest.raises(ValueError, match=r"^inputs: more: is not an input of level neuron$"):
        require_inputs("neuron", case.inputs | {"more": np.ones(1)}, *told)


def test_mpbn_needs_to_know_whether_it_is_trained():
    case = of("mpbn")[0]
    with pytest.raises(ValueError, match="settings: training is missing"):
        require_inputs("neuron", case.inputs, {}, case.conventions)


@pytest.mark.parametrize("model", MODELS)
def test_vectors_are_written_read_and_checked(model, tmp_path, capsys):
    folder = tmp_path / "v"
    told = f"neuron_model={model}"
    assert main(["vectors", "generate", str(folder), "--level", "neuron", "--as", told]) == 0
    assert main(["vectors", "check", str(folder)]) == 0
    for mine, read in zip(of(model), vectors.read(folder), strict=True):
        assert (mine.id, mine.conventions) == (read.id, read.conventions)
        for name, value in mine.outputs.items():
            np.testing.assert_array_equal(value, read.outputs[name])
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["cases"][0]["inputs"][-1]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(["vectors", "check", str(folder)]) == 1
    assert "got none, want an array of shape" in capsys.readouterr().out


def test_they_are_listed_if_they_are_declared(capsys, tmp_path):
    assert main(["vectors", "list", "--as", "neuron_model=glif"]) == 0
    listed = capsys.readouterr().out
    assert "neuron/glif-three-steps" in listed
    assert "neuron/tie" not in listed
    assert "gated LIF neurons (GLIF)" in listed
    assert main(["vectors", "list", str(tmp_path), "--as", "neuron_model=glif"]) == 2
    assert "a folder's cases have their own" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precisions_are_not_judged(precision):
    case = of("plif")[0]
    found = compare_case(case, case.outputs, precision)
    assert found.unjudged == (
        f"not judged in {precision}: spikes that rounding moves are not followed for plif"
    )


def test_a_spike_that_rounding_may_move_is_no_excuse():
    """The case is not computed again from given spikes."""
    case = next(case for case in of("plif") if case.id.endswith("-one-step"))
    c = case.inputs["c"].copy()
    c[0, 0, 0] = 2 + 2**-40  # with w = 0 a potential of 1 + 2^-41
    case = recompute(replace(case, inputs=case.inputs | {"c": c, "w": np.zeros(1)}))
    assert case.outputs["o"][0, 0, 0] == 1
    got = {k: v.copy() for k, v in case.outputs.items()}
    got["u_pre"][0, 0, 0], got["o"][0, 0, 0] = 1, 0
    found = compare_case(case, got)
    assert found.first.tensor == "o"
    assert found.flips == []


def test_distances_from_the_threshold_are_told_where_u_pre_decides():
    for model, told in (("plif", True), ("real_spike", True), ("glif", False), ("diet", False)):
        case = of(model)[0]
        got = {k: v.copy() for k, v in case.outputs.items()}
        got["o"][0, 0, 0] = 1 - got["o"][0, 0, 0]
        assert (compare_case(case, got).first.ulps is not None) == told


def test_the_pytorch_adapter_knows_none():
    pytest.importorskip("torch")
    from refsnn.oracle.adapters.pytorch import PyTorch

    report = refsnn.conform(PyTorch(), of("plif"))
    assert report.count("unsupported") == len(report.results)
    assert "neuron_model: plif" in report.results[0].message


def test_a_module_knows_none():
    torch = pytest.importorskip("torch")

    class Neuron(torch.nn.Module):
        def forward(self, c):
            return torch.sigmoid(c.cumsum(0))

    report = refsnn.conform(Neuron(), of("plif"))
    assert report.count("unsupported") == len(report.results)
    assert "an object with run(case) says" in report.results[0].message
