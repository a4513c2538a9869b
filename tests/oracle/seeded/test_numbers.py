"""Diagnoses of neurons whose conventions and numbers are drawn, computed by the naive loops."""

import zlib

import numpy as np
import pytest

from refsnn.oracle import cases, recipes
from refsnn.oracle.compare import compare_case
from refsnn.oracle.conventions import PAPER, make_conventions, words
from refsnn.oracle.diagnose import diagnose
from refsnn.oracle.naive import case as naive

SHOWN = {"all": ("h", "u_pre", "o", "u", "dc"), "spikes": ("o", "dc"), "u": ("o", "u", "dc")}
FAMILIES = (
    *("sigmoid", "atan", "fast_sigmoid", "piecewise_quadratic", "exponential", "gaussian"),
    *("rectangular", "tanh_literal"),
)


def number(low, high):
    return lambda rng: round(float(rng.uniform(low, high)), 2)


def one_of(*values):
    return lambda rng: values[rng.integers(len(values))]


DRAWN = {
    "tau": number(0.1, 0.97),
    "leak": one_of("tau*u + (1-tau)*c", "(1-tau)*u + c", "(1-tau)*u + tau*c", "tau*(u + c)"),
    "input_gain": number(0.3, 3),
    "synapse": number(0.1, 0.9),
    "input_delay": one_of(1),
    "v_th": number(0.2, 2),
    "fire_at_threshold": one_of(True),
    "spikes": one_of("several"),
    "refractory": one_of(1, 2),
    "reset": one_of("subtract", "none", "zero, next step", "subtract, next step"),
    "reset_potential": number(-0.5, 0.4),
    "reset_amount": number(0.3, 2),
    "output": one_of("one step late"),
    "initial_potential": number(-0.5, 0.5),
    "surrogate": one_of(*FAMILIES),
    "surrogate_scale": number(0.2, 3),
    "surrogate_at": one_of("u_pre"),
    "reset_gradient": one_of("detached", "ignored", "spike path only", "sign flipped"),
}


def draw(seed):
    """Draw one deviation, or two if the seed is odd."""
    rng = np.random.default_rng([zlib.crc32(b"numbers"), seed])
    names = rng.permutation(list(DRAWN))[: 1 + seed % 2]
    made = {str(name): DRAWN[name](rng) for name in names}
    if "surrogate" in made:
        made["surrogate_shape"] = number(0.5, 4)(rng)
    if "reset_amount" in made:
        made.setdefault("reset", "subtract")
    soft = str(made.get("reset", "zero")).startswith("subtract")
    needless = {"reset_amount": not soft, "reset_potential": soft or made.get("reset") == "none"}
    return {name: value for name, value in made.items() if not needless.get(name)}


@pytest.fixture(scope="module")
def vectors():
    every = recipes.recipes(("surrogate", "neuron"))
    return [cases.build(recipe) for recipe in every if recipe.id != "neuron/large"]


def outputs(case, deviations, names):
    conventions = make_conventions(case.conventions | deviations)
    found = naive.outputs(case.level, case.inputs, case.settings, conventions)
    return {name: np.asarray(found[name]) for name in names if name in found}


def equivalent(vectors, found, told, names):
    """Tell whether two sets of deviations compute the same from inputs that no case has."""
    rng = np.random.default_rng(1)
    (plain,) = [case for case in vectors if case.id == "neuron/tanh"]
    for asked in ({}, {"tau": 0.75, "v_th": 0.5}):
        conventions = PAPER | asked
        inputs = {"c": rng.normal(0.5, 1.2, (8, 60)), "do": rng.normal(size=(8, 60))}
        one, other = (
            naive.outputs("neuron", inputs, {}, make_conventions(conventions | deviations))
            for deviations in (found, told)
        )
        for name in set(names) & set(plain.outputs):
            np.testing.assert_allclose(
                one[name], other[name], rtol=0, atol=1e-3 * np.abs(other[name]).max()
            )
    return True


def judged(vectors, seeds, shown):
    """Return the seeds whose deviations are found; assert that none is accepted or mistaken."""
    found, names = [], SHOWN[shown]
    for seed in seeds:
        told = draw(seed)
        got = {case.id: outputs(case, told, names) for case in vectors}
        got = {name: arrays for name, arrays in got.items() if arrays}
        given = [case for case in vectors if case.id in got]
        assert not all(compare_case(case, got[case.id], omits=("*",)).agrees for case in given), (
            told
        )
        result = diagnose(given, got, seconds=30)
        for match in result.matches[:1]:
            assert equivalent(vectors, match.deviations, told, names), (
                told,
                words(match.deviations),
            )
            found.append(seed)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shown", "seeds"), [("all", range(9)), ("u", range(60, 66)), ("spikes", range(120, 126))]
)
def test_some_neurons(vectors, shown, seeds):
    assert len(judged(vectors, seeds, shown)) >= len(seeds) - 1


@pytest.mark.attack
def test_sixty_neurons_with_all_potentials(vectors):
    assert len(judged(vectors, range(60), "all")) >= 57


@pytest.mark.attack
def test_neurons_that_show_the_potential_after_the_reset(vectors):
    assert len(judged(vectors, range(60, 80), "u")) >= 19


@pytest.mark.attack
def test_neurons_that_show_their_spikes_alone(vectors):
    assert len(judged(vectors, range(120, 140), "spikes")) >= 19
