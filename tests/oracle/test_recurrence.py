"""Neurons whose spikes add to each other's currents one step later."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn.oracle import cases, recipes, variant_neuron
from refsnn.oracle.compare import compare_case
from refsnn.oracle.compute import compute
from refsnn.oracle.contents import require_inputs
from refsnn.oracle.conventions import LEVELS, make_conventions
from refsnn.oracle.diagnose import diagnose
from refsnn.oracle.evidence import judge
from refsnn.oracle.recompute import recompute

DENSE = {"recurrence": "dense"}


@pytest.fixture(scope="module")
def recurrent():
    return [cases.build(recipe) for recipe in recipes.recipes(["neuron"], DENSE)]


def test_two_neurons_on_paper():
    """tau = 1/2, v_th = 1, a slope of 1/4 from -1 to 3."""
    conventions = make_conventions(
        {**DENSE, "surrogate": "rectangular", "surrogate_shape": 4.0, "reset_gradient": "detached"}
    )
    x = {
        "c": np.array([[1.5, 0.5], [0.25, 0.25]]),
        "v": np.array([[0.5, 8.0], [2.0, -4.0]]),
        "do": np.array([[1.0, 2.0], [4.0, 8.0]]),
    }
    found = compute("neuron", x, {}, conventions)
    # the first fires alone, and so sends v[:, 0] = (0.5, 2)
    np.testing.assert_array_equal(found["o"], [[1, 0], [0, 1]])
    np.testing.assert_array_equal(found["u_pre"], [[1.5, 0.5], [0.75, 2.5]])
    # last step: do h; first step: (do + v^T dc) h, and the second neuron's potential is kept
    dc = [[(1 + 0.5 * 1 + 2 * 2) / 4, (2 + 8 * 1 - 4 * 2) / 4 + 0.5 * 2], [1, 2]]
    np.testing.assert_array_equal(found["dc"], dc)
    np.testing.assert_array_equal(found["du_pre"], dc)
    np.testing.assert_array_equal(found["dv"], [[1, 0], [2, 0]])  # dc[1] of o[0] = (1, 0)


SMOOTH = [
    {},
    {"output": "one step late"},
    {"output": 2, "input_delay": 1},
    {"synapse": 0.5, "input_gain": 1.5, "input_delay": 1},
    {"leak": "tau*u + (1-tau)*c", "reset": "subtract", "synapse": 0.25},
    {"reset": "zero, next step", "reset_potential": 0.25, "tau": 0.75},
    {"reset": "subtract, next step", "output": "one step late", "synapse": 0.75},
]


@pytest.mark.parametrize("given", SMOOTH, ids=str)
def test_all_gradients_are_those_of_a_smooth_neuron(monkeypatch, given):
    """With a spike of k (1 + tanh(u_pre - v_th)), whose slope is the surrogate's."""
    conventions = make_conventions(DENSE | given)
    monkeypatch.setattr(
        variant_neuron, "fires", lambda u_pre, conventions: 0.5 * (1 + np.tanh(u_pre - 1))
    )
    rng = np.random.default_rng(3)
    x = {
        "c": rng.normal(0.5, 1, (5, 4)),
        "do": rng.normal(size=(5, 4)),
        "v": rng.normal(0, 0.7, (4, 4)),
    }
    found = compute("neuron", x, {}, conventions)

    def loss(**changed):
        return float((compute("neuron", x | changed, {}, conventions)["o"] * x["do"]).sum())

    # "o" is as passed on
    for name in ("c", "v"):
        for at in np.ndindex(x[name].shape):
            step = np.zeros_like(x[name])
            step[at] = 1e-5
            slope = (loss(**{name: x[name] + step}) - loss(**{name: x[name] - step})) / 2e-5
            assert found[f"d{name}"][at] == pytest.approx(slope, rel=1e-6, abs=1e-8)
    by_tau = [
        (compute("neuron", x, {}, conventions | {"tau": tau})["o"] * x["do"]).sum()
        for tau in (conventions["tau"] - 1e-5, conventions["tau"] + 1e-5)
    ]
    assert found["dtau"] == pytest.approx((by_tau[1] - by_tau[0]) / 2e-5, rel=1e-6)


def test_weights_of_zero_change_nothing():
    rng = np.random.default_rng(1)
    x = {"c": rng.normal(0.5, 1, (6, 9)), "do": rng.normal(size=(6, 9))}
    alone = compute("neuron", x, {}, make_conventions({"tau": 0.75}))
    found = compute(
        "neuron", x | {"v": np.zeros((9, 9))}, {}, make_conventions({**DENSE, "tau": 0.75})
    )
    np.testing.assert_array_equal(found.pop("dv"), found["dc"][1:].T @ found["o"][:-1])
    assert found.keys() == alone.keys()
    for name, value in alone.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-14)


def test_only_recurrent_cases_are_left_where_it_is_declared(recurrent):
    ids = [recipe.id for recipe in recipes.recipes(LEVELS, DENSE)]
    assert [name for name in ids if not name.startswith("surrogate/")] == [
        "neuron/recurrent",
        "neuron/recurrent-three-steps",
    ]
    assert not any("recurrent" in recipe.id for recipe in recipes.recipes())
    assert [len(case.inputs["c"]) for case in recurrent] == [6, 3]
    for case in recurrent:
        assert case.inputs["v"].shape == case.outputs["dv"].shape == (12, 12)
        assert case.conventions["recurrence"] == "dense"
        assert np.abs(case.outputs["dv"]).max() > 0.1


def test_the_weights_are_an_input_that_is_checked(recurrent):
    case = recurrent[0]
    require_inputs("neuron", case.inputs, {}, case.conventions)
    without = {name: value for name, value in case.inputs.items() if name != "v"}
    for inputs, got in ((without, "none"), (case.inputs | {"v": np.ones((12, 3))}, r"\(12, 3\)")):
        with pytest.raises(ValueError, match=rf"^inputs: v: got {got}, want .* shape \(12, 12\)"):
            require_inputs("neuron", inputs, {}, case.conventions)
    with pytest.raises(ValueError, match=r"^inputs: v: is not an input of level neuron"):
        require_inputs("neuron", case.inputs, {})


def test_what_has_no_weights_is_not_computed(cases):
    for name in ("neuron/tanh", "layer/plain", "training/vanilla"):
        case = cases[name]
        level = case.level
        with pytest.raises(ValueError, match=f"^recurrence: got 'dense', but .* level {level} wi"):
            recompute(case, DENSE)
    slopes = recompute(cases["surrogate/tanh"], DENSE).outputs["h"]
    np.testing.assert_array_equal(slopes, cases["surrogate/tanh"].outputs["h"])


@pytest.mark.parametrize(
    "deviations",
    [
        {"recurrence": "none"},
        {"reset_gradient": "detached"},
        {"leak": "tau*(u + c)"},
        {"output": "one step late"},
        {"reset": "subtract"},
        {"tau": 0.8125},
    ],
    ids=str,
)
def test_deviations_of_recurrent_neurons_are_found(recurrent, deviations):
    """Also a number that no list has: the other neurons' currents are known."""
    made = {"tau": 0.75} if "leak" in deviations else {}  # whose half is its own complement
    given = [recompute(case, made) for case in recurrent]
    got = {case.id: recompute(case, deviations).outputs for case in given}
    assert diagnose(given, got).matches[0].deviations == deviations


def test_agreement_is_told_and_so_is_what_it_leaves_open(recurrent):
    found = diagnose(recurrent, {case.id: case.outputs for case in recurrent})
    assert found.matches[0].deviations == {}
    assert {"recurrence": "none"} not in found.undecided


def test_a_wrong_weight_gradient_is_no_convention(recurrent):
    """No neuron's connection to itself has a gradient."""
    others = 1 - np.eye(12)
    got = {case.id: case.outputs | {"dv": case.outputs["dv"] * others} for case in recurrent}
    found = diagnose(recurrent, got)
    assert not found.matches
    assert found.nearest[0].first.startswith("neuron/recurrent: dv at index [")
    swapped = {case.id: case.outputs | {"dv": case.outputs["dv"].T} for case in recurrent}
    assert "order [1, 0]" in diagnose(recurrent, swapped).problems[0]


def test_what_ignores_them_fails_the_clause_of_the_current(recurrent):
    for case in recurrent:
        got = recompute(case, {"recurrence": "none"}).outputs
        assert not got["dv"].any()
        found = judge(compare_case(case, got, "float64"))
        assert found["EQ1"] == "failed"
        assert found["EQ3"] != "failed"
        assert judge(compare_case(case, case.outputs | {"dv": got["dv"]}))["EQ3"] == "failed"


def test_decided_spikes_reach_the_other_neurons(recurrent):
    case = recurrent[1]
    o = np.full_like(case.outputs["o"], np.nan)
    o[0, 2] = 1 - case.outputs["o"][0, 2]
    changed = recompute(case, decided={"o": o}).outputs["u_pre"][1] - case.outputs["u_pre"][1]
    others = np.arange(12) != 2
    np.testing.assert_allclose(
        changed[others], ((2 * o[0, 2] - 1) * case.inputs["v"][:, 2])[others], atol=1e-14
    )


def test_a_gain_of_the_currents_is_taken_back_in_weights_too(recurrent):
    declared = DENSE | {"input_gain": 0.5}
    (case, _) = (cases.build(recipe) for recipe in recipes.recipes(["neuron"], declared))
    np.testing.assert_allclose(case.inputs["v"], 2 * recurrent[0].inputs["v"], rtol=1e-6)
    same = replace(case, inputs=recurrent[0].inputs)
    np.testing.assert_allclose(
        case.outputs["u_pre"],
        recompute(same, {"input_gain": 1.0}).outputs["u_pre"],
        rtol=0,
        atol=1e-6,
    )
