import itertools
import math

import numpy as np
import pytest

from refsnn.ops import NUMPY
from refsnn.oracle import variant_neuron
from refsnn.oracle.conventions import CONVENTIONS, make_conventions
from refsnn.oracle.slopes import EQ4, FAMILIES
from refsnn.oracle.variants import lif_of

RNG = np.random.default_rng(0)
C, DO = RNG.normal(0.6, 0.9, (6, 40)), RNG.normal(size=(6, 40))
LEAKS, RESETS = CONVENTIONS["leak"].values, CONVENTIONS["reset"].values


@pytest.mark.parametrize("reset_gradient", ["full", "detached"])
@pytest.mark.parametrize("fire_at_threshold", [False, True])
@pytest.mark.parametrize("surrogate", ["tanh", "tanh_literal", "rectangular", "triangular"])
def test_with_the_papers_choices_it_is_the_papers_neuron(
    surrogate, fire_at_threshold, reset_gradient
):
    given = {
        "surrogate": surrogate,
        "fire_at_threshold": fire_at_threshold,
        "reset_gradient": reset_gradient,
        "tau": 0.75,
    }
    conventions = make_conventions(given)
    o_seq, cache = variant_neuron.lif_forward(C, None, conventions)
    want_seq, want = NUMPY.lif_forward(C, None, lif_of(conventions))
    assert np.array_equal(o_seq, want_seq)
    assert np.array_equal(cache.u_pre_seq, want.u_pre_seq)
    grads, delta_seq = variant_neuron.lif_backward(DO, cache)
    wanted = NUMPY.lif_backward(DO, want)
    np.testing.assert_allclose(grads.dc_seq, wanted.dc_seq, rtol=0, atol=1e-14)
    np.testing.assert_allclose(grads.du0, wanted.du0, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(delta_seq, grads.dc_seq)


def factors(leak, tau):
    """Factors of u and of c follow from the names themselves."""
    return eval(leak, {"tau": tau, "u": 1, "c": 0}), eval(leak, {"tau": tau, "u": 0, "c": 1})


def steps(c, conventions, u, o):
    """Tangents of one neuron by every c[s], pushed through the steps with the slope as the
    derivative of firing: (T,) spikes and (T, s) do[t]/dc[s]."""
    tau, v_th = conventions["tau"], conventions["v_th"]
    a, b = factors(conventions["leak"], tau)
    du, do = np.zeros(len(c)), np.zeros(len(c))
    spikes, tangents = [], []
    for t, c_t in enumerate(c):
        drive, ddrive = a * u + b * c_t, a * du + b * np.eye(len(c))[t]
        u_pre, du_pre = {
            "zero, next step": (drive * (1 - o), ddrive * (1 - o) - drive * do),
            "subtract, next step": (drive - v_th * o, ddrive - v_th * do),
            "subtract o - v_th, next step": (drive - (o - v_th), ddrive - do),
        }.get(conventions["reset"], (drive, ddrive))
        o = float(u_pre > v_th)
        do = conventions["surrogate_shape"] * (1 - np.tanh(u_pre - v_th) ** 2) * du_pre
        u, du = {
            "zero": (u_pre * (1 - o), du_pre * (1 - o) - u_pre * do),
            "subtract": (u_pre - v_th * o, du_pre - v_th * do),
            "subtract o - v_th": (u_pre - (o - v_th), du_pre - do),
        }.get(conventions["reset"], (u_pre, du_pre))
        spikes.append(o)
        tangents.append(do)
    if conventions["output"] == "one step late":
        spikes, tangents = [0.0, *spikes[:-1]], [0 * do, *tangents[:-1]]
    return np.array(spikes), np.array(tangents)


@pytest.mark.parametrize(
    ("leak", "reset", "output"),
    list(itertools.product(LEAKS, RESETS, ["same step", "one step late"])),
)
def test_every_leak_reset_and_output_has_its_gradient(leak, reset, output):
    conventions = make_conventions(
        {"leak": leak, "reset": reset, "output": output, "tau": 0.75, "v_th": 0.4}
    )
    u0, o0 = RNG.normal(0.2, 0.3, 40), (RNG.random(40) < 0.5).astype(float)
    o_seq, cache = variant_neuron.lif_forward(C, u0, conventions, o0)
    dc_seq = variant_neuron.lif_backward(DO, cache)[0].dc_seq
    assert 0.05 < o_seq.mean() < 0.95
    for n in range(40):
        spikes, tangents = steps(C[:, n], conventions, u0[n], o0[n])
        assert np.array_equal(o_seq[:, n], spikes)
        np.testing.assert_allclose(dc_seq[:, n], DO[:, n] @ tangents, rtol=0, atol=1e-13)


def test_reset_gradients_differ_by_their_terms():
    """One that fires at its first step, on paper: h = 1, u_pre = (1.25, 0.5), do = (2, 3)."""
    wanted = {
        "full": 2 + 3 * 0.5 * (0 - 1.25),
        "detached": 2.0,
        "ignored": 2 + 3 * 0.5,
        "spike path only": 2 + 3 * 0.5 * -1.25,
    }
    for name, value in wanted.items():
        conventions = make_conventions(
            {"reset_gradient": name, "surrogate": "rectangular", "surrogate_shape": 1.0}
        )
        conventions |= {"v_th": 0.9}
        c, do = np.array([[1.25], [0.5]]), np.array([[2.0], [3.0]])
        _, cache = variant_neuron.lif_forward(c, None, conventions)
        assert cache.fired_seq[:, 0].tolist() == [1, 0]
        grads, _ = variant_neuron.lif_backward(do, cache)
        assert grads.dc_seq[:, 0].tolist() == [value, 3]


@pytest.mark.parametrize("shape", [0.5, 1.0, 4.0, 25.0])
def test_slopes_of_libraries_are_derivatives_of_what_they_are_named_after(shape):
    x = np.linspace(-2, 2, 41) + 0.013
    erf = np.vectorize(math.erf)

    def rectified(x):
        inner = np.tanh(3 * x) / (2 * np.tanh(1.5))
        outer = np.sign(x) * (np.cbrt(np.abs(x) + 0.5) - 0.5)
        return np.where(np.abs(x) <= 0.5, inner, outer)

    primitives = {
        "sigmoid": lambda x: 1 / (1 + np.exp(-shape * x)),
        "atan": lambda x: np.arctan(np.pi / 2 * shape * x) / np.pi,
        "fast_sigmoid": lambda x: x / (1 + shape * np.abs(x)),
        "softsign": lambda x: shape * x / (1 + shape * np.abs(x)) / 2,
        "super_spike": lambda x: shape * x / (1 + np.abs(x)),
        "dspike": lambda x: np.tanh(shape * np.clip(x, -0.5, 0.5)) / (2 * np.tanh(shape / 2)),
        "piecewise_quadratic": lambda x: np.where(
            np.abs(x) < 1 / shape, shape * x - np.sign(x) * (shape * x) ** 2 / 2, np.sign(x) / 2
        ),
        "exponential": lambda x: np.sign(x) * (1 - np.exp(-shape * np.abs(x))) / 2,
        "gaussian": lambda x: erf(x / shape / np.sqrt(2)) / 2,
        "rectifier": lambda x: np.clip(rectified(x) / shape, -0.5, 0.5),
        "step": lambda x: np.maximum(x + shape, 0) / 0.8,
        "straight_through": lambda x: x,
    }
    assert primitives.keys() == FAMILIES.keys() - set(EQ4)
    for name, primitive in primitives.items():
        slope = (primitive(x + 1e-6) - primitive(x - 1e-6)) / 2e-6
        found = FAMILIES[name].slope(x, shape, 0.8)
        np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", EQ4)
def test_slopes_of_eq4_are_the_papers(name):
    """At one and a half v_th, on paper."""
    x, shape, v_th = np.array([0.25]), 2.0, 0.5
    wanted = {
        "tanh": 2 * (1 - np.tanh(0.25) ** 2),
        "tanh_literal": 2 * (1 - np.tanh(0.25)) ** 2,
        "rectangular": 0.5,
        "triangular": 2 * 0.5,
    }
    np.testing.assert_allclose(FAMILIES[name].slope(x, shape, v_th), [wanted[name]], rtol=1e-14)


def test_by_several_steps_each_number_acts_as_it_says():
    """One neuron on paper: u_pre, o and u of three steps without a leak but what is said."""
    base = {"tau": 0.5, "surrogate": "straight_through"}
    c = np.array([[2.5], [0.25], [0.25]])
    wanted = {  # u_pre, spikes as passed on
        (): ([2.5, 0.25, 0.375], [1, 0, 0]),
        ("input_gain", 0.5): ([1.25, 0.125, 0.1875], [1, 0, 0]),
        ("synapse", 0.5): ([2.5, 1.5, 1.0], [1, 1, 0]),
        ("input_delay", 1): ([0, 2.5, 0.25], [0, 1, 0]),
        ("spikes", "several"): ([2.5, 0.25, 0.375], [2, 0, 0]),
        ("reset_potential", -0.5): ([2.5, 0.0, 0.25], [1, 0, 0]),
        ("reset", "subtract"): ([2.5, 1.0, 0.75], [1, 0, 0]),
        ("reset", "subtract o - v_th"): ([2.5, 1.5, 1.0], [1, 1, 0]),
        ("reset", "subtract o - v_th, next step"): ([3.5, 2.0, 1.25], [1, 1, 1]),
        ("output", 2): ([2.5, 0.25, 0.375], [0, 0, 1]),
        ("initial_potential", -4.0): ([0.5, 0.5, 0.5], [0, 0, 0]),
    }
    for (*given,), (u_pre, o) in wanted.items():
        conventions = make_conventions(base | (dict([given]) if given else {}))
        o_seq, cache = variant_neuron.lif_forward(c, None, conventions)
        assert cache.u_pre_seq[:, 0].tolist() == u_pre, given
        assert o_seq[:, 0].tolist() == o, given
    soft = make_conventions(base | {"reset": "subtract", "reset_amount": 2.0})
    _, cache = variant_neuron.lif_forward(c, None, soft)
    assert cache.u_pre_seq[:, 0].tolist() == [2.5, 0.5, 0.5]
    rests = make_conventions(base | {"reset": "none", "refractory": 1})
    o_seq, cache = variant_neuron.lif_forward(c + 1, None, rests)
    assert o_seq[:, 0].tolist() == [1, 0, 1]
    h_seq = variant_neuron.slopes(cache)
    assert h_seq[:, 0].tolist() == [1, 0, 1]  # a spike that can't be has no slope
