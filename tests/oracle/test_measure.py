"""What is measured from arrays alone, before any explanation is tried."""

import numpy as np
import pytest

from refsnn.oracle import cases, recipes
from refsnn.oracle.conventions import words
from refsnn.oracle.measure import measure
from refsnn.oracle.measure.slopes import few_of, fitted
from refsnn.oracle.recompute import recompute
from refsnn.oracle.slopes import FAMILIES


@pytest.fixture(scope="module")
def vectors():
    every = recipes.recipes(("surrogate", "neuron"))
    return [cases.build(recipe) for recipe in every if recipe.id != "neuron/large"]


def measured(vectors, deviations, names=("u_pre", "o", "u", "du_pre", "dc")):
    """Measure the outputs of these names of an implementation with these conventions."""
    got = {}
    for case in vectors:
        outputs = recompute(case, deviations).outputs
        if given := {name: outputs[name] for name in names if name in outputs}:
            got[case.id] = given
    return measure([case for case in vectors if case.id in got], got)


@pytest.mark.parametrize(
    "deviations",
    [
        {"tau": 0.83},
        {"input_gain": 1.7},
        {"synapse": 0.37},
        {"input_delay": 2},
        {"output": 2},
        {"refractory": 2},
        {"initial_potential": 0.37},
        {"reset_potential": -0.29},
        {"reset": "zero, next step", "reset_potential": 0.25},
        {"reset": "subtract", "reset_amount": 0.77},
        {"reset": "subtract, next step", "reset_amount": 0.77},
        {"surrogate": "atan", "surrogate_shape": 3.3, "output": "one step late"},
        {"surrogate_at": "u_pre"},
    ],
    ids=words,
)
def test_numbers_of_potentials_that_are_shown(vectors, deviations):
    """They come first, and nothing else is measured beside them."""
    found = measured(vectors, deviations)
    assert found.states[0] == deviations
    assert found.contradictions == []


@pytest.mark.parametrize(
    "deviations",
    [
        {"tau": 0.83},
        {"v_th": 1.21},
        {"input_gain": 1.7},
        {"initial_potential": 0.37},
        {"output": "one step late", "surrogate": "atan", "surrogate_shape": 3.3},
        {"surrogate": "atan", "surrogate_shape": 2.0, "surrogate_scale": -0.3},
        {"surrogate": "atan", "surrogate_shape": 2.0, "surrogate_scale": -0.3, "tau": 0.83},
        {"surrogate": "rectangular", "surrogate_shape": 2.0, "tau": 0.4},
    ],
    ids=words,
)
@pytest.mark.slow_after(3)
def test_numbers_of_potentials_that_are_hidden(vectors, deviations):
    assert deviations in measured(vectors, deviations, ("o", "dc")).states


@pytest.mark.parametrize(
    "deviations",
    [{"output": 2}, {"refractory": 2}, {"reset": "subtract", "spikes": "several"}],
    ids=words,
)
def test_only_what_is_impossible_contradicts(vectors, deviations):
    """Neither spikes that are late, missing or several; but a spike that is wrong."""
    half = [case for case in vectors if case.id == "neuron/tanh"]
    assert measured(half, deviations).contradictions == []
    got = {"neuron/tanh": recompute(half[0], deviations).outputs}
    got["neuron/tanh"]["o"] = 1 - got["neuron/tanh"]["o"]
    assert measure(half, got).contradictions


def test_a_slope_that_few_samples_see_is_fitted():
    """A hundred potentials of 50,000 lie where it is not 0, and these are fitted too."""
    x = np.linspace(-25, 25, 50_001)
    h = 0.7 * FAMILIES["piecewise_quadratic"].slope(x, 20.0, 1.0)
    shape, factor, residual = fitted("piecewise_quadratic", x, h, 1.0, few_of(x, h))
    assert (shape, factor) == pytest.approx((20, 0.7), rel=1e-9)
    assert residual < 1e-9
    assert fitted("atan", x, h, 1.0, few_of(x, h))[2] > 0.05
