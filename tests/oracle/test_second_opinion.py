"""The naive loops agree with refsnn under every convention of the neuron, and mixtures of them."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from refsnn.oracle.agreement import disagreements
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import CONVENTIONS, make_conventions
from refsnn.oracle.methods import NAMES
from refsnn.oracle.naive import case as naive
from refsnn.oracle.recompute import recompute

TOLERANCE = 1e-12  # relative to the output's largest element
NEURON = [
    name
    for name, c in CONVENTIONS.items()
    if c.level in ("surrogate", "neuron") and name not in NAMES
]
#: numbers are drawn from here, in place of the whole range
RANGES = {
    "tau": (0, 1),
    "input_gain": (-2, 3),
    "synapse": (0, 1),
    "input_delay": (0, 7),
    "v_th": (0.2, 2),
    "refractory": (0, 4),
    "reset_potential": (-1, 1.5),
    "reset_amount": (-1, 2),
    "output": (2, 8),
    "initial_potential": (-2, 2),
    "surrogate_shape": (0.2, 3),
    "surrogate_scale": (-1, 2),
}
#: conventions on which a slope depends
SLOPE = [
    name for name in NEURON if name.startswith(("surrogate", "v_th", "fire", "spikes", "reset"))
]
NAMED = [
    (name, value)
    for name in NEURON
    for value in CONVENTIONS[name].values
    if (name, value) not in (("initial_potential", "kept"), ("initial_potential", "spikes kept"))
]


def number(name, rng):
    low, high = RANGES[name]
    whole = CONVENTIONS[name].numbers.whole
    return int(rng.integers(low, high)) if whole else float(rng.uniform(low, high))


def value(name, rng):
    """Draw one of the values of a convention, or a number."""
    values = [v for n, v in NAMED if n == name]
    if CONVENTIONS[name].numbers:
        values.append(number(name, rng))
    return values[rng.integers(len(values))]


def draw(seed):
    """Draw one to four deviations."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(NEURON)[: rng.integers(1, 5)]
    return {str(name): value(name, rng) for name in names}


def neurons(seed=0, steps=6, n=40):
    rng = np.random.default_rng(seed)
    c, do = rng.normal(0.8, 1.2, (steps, n)), rng.normal(size=(steps, n))
    c[:, n // 2 :] = np.round(c[:, n // 2 :] * 4) / 4  # some potentials meet v_th exactly
    return {"c": c, "do": do}


def differences(level, inputs, given):
    """List the outputs that differ by more than TOLERANCE, relative to the largest element."""
    conventions = make_conventions(given)
    if conventions["recurrence"] == "dense":
        n = inputs["c"].shape[1]
        inputs = inputs | {"v": np.random.default_rng(2).normal(0, 0.5, (n, n))}
    want = compute(level, inputs, {}, conventions)
    got = naive.outputs(level, inputs, {}, conventions)
    assert set(got) == set(want)
    found = []
    for name, array in want.items():
        assert np.shape(got[name]) == array.shape, name
        scale = np.abs(array).max()
        if name in ("dtau", "dv_th"):  # the neurons' shares may cancel
            scale = max(scale, np.abs(want["du_pre"]).max())
        if not np.abs(got[name] - array).max() <= TOLERANCE * scale:
            found.append(name)
    return found


@pytest.mark.parametrize("reset", CONVENTIONS["reset"].values)
@pytest.mark.parametrize(("name", "value"), NAMED)
@pytest.mark.slow_after(140)
def test_each_named_value_with_each_reset(name, value, reset):
    given = {"reset": reset, name: value}
    assert differences("neuron", neurons(), given) == []
    assert differences("neuron", neurons(), given | {"spikes": "several", "v_th": 0.5}) == []


@pytest.mark.parametrize("name", RANGES)
def test_numbers_with_each_reset(name):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for reset in CONVENTIONS["reset"].values:
        for given in ({"reset": reset, name: number(name, rng)} for _ in range(4)):
            assert differences("neuron", neurons(), given) == [], given


@pytest.mark.parametrize("seed", range(80))
def test_mixtures(seed):
    given = draw(seed)
    assert differences("neuron", neurons(seed), given) == [], given


@pytest.mark.parametrize("surrogate", CONVENTIONS["surrogate"].values)
def test_slopes_alone(surrogate):
    rng = np.random.default_rng(zlib.crc32(surrogate.encode()))
    inputs = {"u_pre": np.r_[rng.normal(1, 2, 30), np.arange(-3, 3, 0.25)]}
    others = [name for name in SLOPE if name != "surrogate"]
    for _ in range(20):
        given = {"surrogate": surrogate} | {name: value(name, rng) for name in others}
        assert differences("surrogate", inputs, given) == [], given


SOFT = {"leak": "tau*u + (1-tau)*c", "reset": "subtract", "reset_amount": 0.75, "synapse": 0.25}
LATE = {"reset": "zero, next step", "output": "one step late", "initial_potential": 0.25}
WIDE = {"spikes": "several", "reset_potential": -0.5, "input_gain": 1.5, "surrogate": "atan"}
NORM = {"norm_scale": 1.25, "norm_momentum": 0.3, "norm_eps": 0.02}


@pytest.mark.parametrize("given", [SOFT, LATE, WIDE, NORM])
@pytest.mark.parametrize("name", ["layer/plain", "block/stride", "network/evolutionary"])
def test_layers_of_neurons(cases, name, given):
    case = recompute(cases[name], given)
    assert disagreements(case) == []
    assert disagreements(replace(case, conventions=cases[name].conventions))  # it matters
