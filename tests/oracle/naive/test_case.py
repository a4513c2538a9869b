"""The naive loops' side of the vectors: names, axis order, conventions, runs without memory."""

import re

import numpy as np
import pytest

from refsnn.oracle.conventions import CONVENTIONS, PAPER, make_conventions
from refsnn.oracle.naive import case as naive
from refsnn.oracle.naive import neuron, training

ONE_OF_EACH = (
    "surrogate/tanh",
    "neuron/one-step",
    "layer/stride",
    "layer/evaluation",
    "block/stride",
    "network/one-step",
    "network/evaluation",
    "training/one-step",
)


def computed(case):
    return naive.outputs(case.level, case.inputs, case.settings, case.conventions)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_it_gives_every_output_in_pytorchs_order(cases, name):
    case = cases[name]
    before = {k: v.copy() for k, v in case.inputs.items()}
    found = computed(case)
    assert set(found) == set(case.outputs)
    for output, value in case.outputs.items():
        assert found[output].shape == value.shape, output
    for k, v in before.items():
        np.testing.assert_array_equal(case.inputs[k], v)


def test_nothing_is_kept_from_the_run_before(cases):
    case = cases["neuron/fresh"]
    assert case.repeat == 2
    one, two = computed(case), computed(case)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize(
    ("name", "convention", "value"),
    [
        ("neuron/tie", "fire_at_threshold", True),
        ("neuron/tanh", "reset_gradient", "detached"),
        ("neuron/tanh", "tau", 0.25),
        ("neuron/tanh", "v_th", 0.5),
        ("surrogate/rectangle", "surrogate_edge", "inside"),
        ("surrogate/tanh", "surrogate_shape", 1.0),
        ("surrogate/tanh", "surrogate", "triangular"),
        ("layer/plain", "norm_statistics", "per_step"),
        ("layer/authors", "norm_scale", "v_th"),
        ("layer/plain", "norm_statistics", "frozen"),
        ("layer/plain", "norm_scale", 0.5),
        ("layer/plain", "norm_eps", 1e-3),
        ("layer/plain", "norm_momentum", 0.2),
        ("layer/plain", "reset", "subtract"),
        ("block/stride", "initial_potential", 0.5),
        ("network/evolutionary", "leak", "tau*u + (1-tau)*c"),
        ("training/one-step", "norm_momentum", 0.2),
        ("network/evolutionary", "readout", "sum"),
        ("network/evolutionary", "branch_sum", "losses"),
        ("training/evolutionary", "lam_clock", "epoch"),
        ("training/evolutionary", "decay_on", "weights"),
        ("network/evolutionary", "loss_at", "each step"),
        ("training/vanilla", "loss_at", "each step"),
        ("training/vanilla", "optimizer_bias_correction", False),
        ("training/vanilla", "adam_beta1", 0.5),
        ("training/vanilla", "adam_beta2", 0.75),
        ("training/vanilla", "adam_eps", 0.01),
        ("training/shortcut", "nesterov", True),
        ("training/vanilla", "norm_statistics", "frozen"),
    ],
)
@pytest.mark.slow_after(10)
def test_conventions_reach_the_loops(cases, name, convention, value):
    case = cases[name]
    found = naive.outputs(
        case.level, case.inputs, case.settings, case.conventions | {convention: value}
    )
    assert any(
        np.abs(found[k] - v).max() > 10 * case.tolerances[k]["float32"]
        for k, v in case.outputs.items()
    )


#: another value than the paper's for conventions that are numbers
OTHER = {
    "tau": 0.25,
    "input_gain": 2.0,
    "synapse": 0.5,
    "input_delay": 2,
    "v_th": 0.75,
    "refractory": 2,
    "reset_potential": -0.5,
    "reset_amount": 0.25,
    "output": 2,
    "initial_potential": 0.5,
    "surrogate_shape": 1.5,
    "surrogate_scale": 0.5,
}
#: what a convention needs to make a difference
NEEDS = {
    "reset_amount": {"reset": "subtract"},
    "surrogate_edge": {"surrogate": "rectangular"},
    "surrogate_scale": {"surrogate": "rectangular"},
    "surrogate_unit": {"v_th": 0.75},
}
DEVIATIONS = [
    (name, OTHER[name] if value is naive.NUMBER else value)
    for name in neuron.PAPER
    for value in naive.COMPUTED[name]
    if value != PAPER[name] and (name, value) != ("surrogate_scale", "without k")
]


@pytest.mark.parametrize(("name", "value"), DEVIATIONS)
def test_every_deviation_of_a_neuron_changes_an_output(name, value):
    rng = np.random.default_rng(0)
    inputs = {"c": rng.integers(-2, 9, (6, 20)) / 4, "do": rng.normal(size=(6, 20))}
    base = make_conventions(NEEDS.get(name, {}))
    want = naive.outputs("neuron", inputs, {}, base)
    got = naive.outputs("neuron", inputs, {}, base | {name: value})
    assert any(np.abs(got[k] - v).max() > 1e-3 for k, v in want.items())


def test_conventions_of_which_cases_say_nothing_are_the_papers(cases):
    new = ("recurrence", "loss_at", *training.PAPER)
    for name in ("neuron/tanh", "network/one-step", "training/one-step"):
        case = cases[name]
        old = {k: v for k, v in case.conventions.items() if k not in new}
        got = naive.outputs(case.level, case.inputs, case.settings, old)
        for k, v in case.outputs.items():
            np.testing.assert_allclose(got[k], v, rtol=1e-9, atol=1e-12, err_msg=k)


def test_neurons_are_coupled_where_declared():
    rng = np.random.default_rng(0)
    inputs = {"c": rng.normal(1, 1, (4, 3)), "do": rng.normal(size=(4, 3)), "v": np.zeros((3, 3))}
    alone = naive.outputs("neuron", inputs, {}, PAPER)
    apart = naive.outputs("neuron", inputs, {}, PAPER | {"recurrence": "dense"})
    assert set(apart) == {*alone, "dv"}
    for name, value in alone.items():
        np.testing.assert_array_equal(apart[name], value)
    inputs["v"] = rng.normal(size=(3, 3))
    coupled = naive.outputs("neuron", inputs, {}, PAPER | {"recurrence": "dense"})
    assert coupled["dv"].shape == (3, 3)
    for name, value in apart.items():
        assert coupled[name].shape == value.shape
        assert np.abs(coupled[name] - value).max() > 1e-3, name


@pytest.mark.parametrize("name", ["surrogate/tanh", "layer/plain", "training/one-step"])
def test_only_neurons_alone_are_coupled(cases, name):
    case = cases[name]
    with pytest.raises(ValueError, match=r"^recurrence: dense cannot be declared"):
        naive.outputs(
            case.level, case.inputs, case.settings, case.conventions | {"recurrence": "dense"}
        )


def test_frozen_statistics_are_those_of_evaluation(cases):
    case = cases["layer/plain"]
    evaluated = naive.outputs(
        case.level, case.inputs, case.settings | {"training": False}, case.conventions
    )
    frozen = naive.outputs(
        case.level, case.inputs, case.settings, case.conventions | {"norm_statistics": "frozen"}
    )
    for name, value in evaluated.items():
        np.testing.assert_array_equal(frozen[name], value)
    for name in ("bn.running_mean", "bn.running_var"):
        np.testing.assert_array_equal(frozen[f"new.{name}"], case.inputs[name])


def test_with_one_step_the_loss_at_each_step_is_that_of_the_readout(cases):
    case = cases["network/one-step"]
    for change in ({}, {"branch_sum": "losses"}, {"readout": "sum"}):
        conventions = case.conventions | change
        want = naive.outputs(case.level, case.inputs, case.settings, conventions)
        got = naive.outputs(
            case.level, case.inputs, case.settings, conventions | {"loss_at": "each step"}
        )
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-13, err_msg=name)


def test_gradients_of_the_loss_at_each_step_are_derivatives(cases):
    """Of the classifiers, behind which nothing is discontinuous."""
    case, rng = cases["network/evolutionary"], np.random.default_rng(0)
    conventions = case.conventions | {"loss_at": "each step"}
    along = {k: rng.normal(size=v.shape) for k, v in case.inputs.items() if ".fc." in k}

    def run(distance):
        moved = {name: case.inputs[name] + distance * d for name, d in along.items()}
        return naive.outputs(case.level, case.inputs | moved, case.settings, conventions)

    grads = run(0.0)
    want = sum((grads[f"grad.{name}"] * d).sum() for name, d in along.items())
    got = (run(1e-4)["loss"] - run(-1e-4)["loss"]) / 2e-4
    assert len(along) == 6
    assert got == pytest.approx(want, rel=1e-6)


def test_the_readout_plays_no_part_in_the_loss_at_each_step(cases):
    case = cases["network/evolutionary"]
    base = case.conventions | {"loss_at": "each step"}
    mean, total = (
        naive.outputs(case.level, case.inputs, case.settings, base | {"readout": readout})
        for readout in ("mean", "sum")
    )
    for name, value in mean.items():
        factor = case.settings["steps"] if name.endswith(".logits") else 1
        np.testing.assert_allclose(total[name], factor * value, rtol=1e-13, err_msg=name)


def test_nesterovs_first_step_is_longer_by_the_momentum(cases):
    case = cases["training/shortcut"]
    plain, nesterov = (
        naive.outputs(case.level, case.inputs, case.settings, case.conventions | {"nesterov": on})
        for on in (False, True)
    )
    names = [name for name in plain if name.startswith("first.")]
    assert names
    for name in names:
        start = case.inputs[name.removeprefix("first.")]
        want = (1 + case.settings["momentum"]) * (plain[name] - start)
        np.testing.assert_allclose(nesterov[name] - start, want, rtol=1e-9, atol=1e-14)


def test_what_is_computed_is_listed_for_every_convention():
    assert list(naive.COMPUTED) == list(CONVENTIONS)
    for name, values in naive.COMPUTED.items():
        assert naive.is_computed(name, PAPER[name])
        assert (naive.NUMBER in values) == (CONVENTIONS[name].numbers is not None)
        assert (naive.FUNCTION in values) == CONVENTIONS[name].own
        named = {v for v in CONVENTIONS[name].values if isinstance(v, str | bool)}
        assert named >= set(values) - {naive.NUMBER, naive.FUNCTION}


LEFT_OUT = [
    (name, value)
    for name, convention in CONVENTIONS.items()
    for value in convention.values
    if not naive.is_computed(name, value)
]


@pytest.mark.parametrize(("name", "value"), LEFT_OUT)
@pytest.mark.parametrize("case", ["neuron/one-step", "network/one-step"])
def test_what_is_not_computed_is_refused(cases, case, name, value):
    case = cases[case]
    told = (
        f"^{name}: {re.escape(str(value))} cannot be declared: the plain loops do not compute it$"
    )
    with pytest.raises(ValueError, match=told):
        naive.outputs(case.level, case.inputs, case.settings, case.conventions | {name: value})


def test_every_convention_of_the_neuron_is_computed():
    left_out = [("initial_potential", "kept"), ("initial_potential", "spikes kept")]
    assert [pair for pair in LEFT_OUT if pair[0] in neuron.PAPER] == left_out
    assert not naive.is_computed("reset", "another")
    assert not naive.is_computed("reset", 0.5)
    assert not naive.is_computed("synapse", True)
    assert not naive.is_computed("another", 0.5)
