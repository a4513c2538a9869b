import itertools

import numpy as np
import pytest

from refsnn.ops import NUMPY
from refsnn.oracle import variant_neuron
from refsnn.oracle.conventions import CONVENTIONS, make_conventions
from refsnn.oracle.variants import lif_of

RNG = np.random.default_rng(0)
C, DO = RNG.normal(0.6, 0.9, (6, 40)), RNG.normal(size=(6, 40))
DECAYS, RESETS = CONVENTIONS["leak"].values, CONVENTIONS["reset"].values


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
    o_seq, cache = variant_neuron.lif_forward(C, None, lif_of(conventions), conventions)
    want_seq, want = NUMPY.lif_forward(C, None, lif_of(conventions))
    assert np.array_equal(o_seq, want_seq)
    assert np.array_equal(cache.u_pre_seq, want.u_pre_seq)
    grads, delta_seq = variant_neuron.lif_backward(DO, cache)
    wanted = NUMPY.lif_backward(DO, want)
    np.testing.assert_allclose(grads.dc_seq, wanted.dc_seq, rtol=0, atol=1e-14)
    np.testing.assert_allclose(grads.du0, wanted.du0, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(delta_seq, grads.dc_seq)


def factors(decay, tau):
    """Factors of u and of c follow from the names themselves."""
    return eval(decay, {"tau": tau, "u": 1, "c": 0}), eval(decay, {"tau": tau, "u": 0, "c": 1})


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
        }.get(conventions["reset"], (drive, ddrive))
        o = float(u_pre > v_th)
        do = conventions["surrogate_shape"] * (1 - np.tanh(u_pre - v_th) ** 2) * du_pre
        u, du = {
            "zero": (u_pre * (1 - o), du_pre * (1 - o) - u_pre * do),
            "subtract": (u_pre - v_th * o, du_pre - v_th * do),
        }.get(conventions["reset"], (u_pre, du_pre))
        spikes.append(o)
        tangents.append(do)
    if conventions["output"] == "one step late":
        spikes, tangents = [0.0, *spikes[:-1]], [0 * do, *tangents[:-1]]
    return np.array(spikes), np.array(tangents)


@pytest.mark.parametrize(
    ("decay", "reset", "output"),
    list(itertools.product(DECAYS, RESETS, ["same step", "one step late"])),
)
def test_every_decay_reset_and_output_has_its_gradient(decay, reset, output):
    conventions = make_conventions(
        {"leak": decay, "reset": reset, "output": output, "tau": 0.75, "v_th": 0.4}
    )
    u0, o0 = RNG.normal(0.2, 0.3, 40), (RNG.random(40) < 0.5).astype(float)
    o_seq, cache = variant_neuron.lif_forward(C, u0, lif_of(conventions), conventions, o0)
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
        _, cache = variant_neuron.lif_forward(c, None, lif_of(conventions), conventions)
        assert cache.fired_seq[:, 0].tolist() == [1, 0]
        grads, _ = variant_neuron.lif_backward(do, cache)
        assert grads.dc_seq[:, 0].tolist() == [value, 3]


def test_slopes_of_other_libraries_are_derivatives_of_what_they_are_named_after():
    x = np.linspace(-2, 2, 41) + 0.013
    primitives = {
        "sigmoid": lambda x: 1 / (1 + np.exp(-4 * x)),
        "atan": lambda x: np.arctan(np.pi * x) / np.pi + 0.5,
        "fast_sigmoid": lambda x: x / (1 + 25 * np.abs(x)),
        "superspike": lambda x: x / (1 + 100 * np.abs(x)),
        "superspike, alpha 1": lambda x: x / (1 + np.abs(x)),
    }
    assert primitives.keys() == variant_neuron.OTHERS.keys()
    for name, primitive in primitives.items():
        slope = (primitive(x + 1e-6) - primitive(x - 1e-6)) / 2e-6
        np.testing.assert_allclose(variant_neuron.OTHERS[name](x), slope, rtol=1e-5)
