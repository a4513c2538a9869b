"""The naive loops' side of the vectors: names, axis order and runs without memory."""

import numpy as np
import pytest

from refsnn.oracle.naive import case as naive

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
        ("layer/plain", "norm_eps", 1e-3),
        ("network/evolutionary", "readout", "sum"),
        ("network/evolutionary", "branch_sum", "losses"),
        ("training/evolutionary", "lam_clock", "epoch"),
        ("training/evolutionary", "decay_on", "weights"),
    ],
)
def test_conventions_reach_the_loops(cases, name, convention, value):
    case = cases[name]
    found = naive.outputs(
        case.level, case.inputs, case.settings, case.conventions | {convention: value}
    )
    assert any(
        np.abs(found[k] - v).max() > 10 * case.tolerances[k]["float32"]
        for k, v in case.outputs.items()
    )
