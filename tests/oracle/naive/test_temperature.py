"""The choice of Dspike's temperature: by hand, and for the first weights of a spiking network."""

import math

import numpy as np
import pytest

from refsnn.oracle.naive import potentials
from refsnn.oracle.naive.objective import cross_entropy, cross_entropy_gradient
from refsnn.oracle.naive.temperature import choose

W = np.array([[1.0, -2.0], [0.5, 3.0]])


def first(w):
    return 4.0 * w[0, 0]


@pytest.mark.parametrize(
    ("gradient", "b"),
    [
        (lambda b: [1.0, b], 2.75),  # less is better
        (lambda b: [b, 1.0], 3.25),  # more is better
        (lambda b: [1.0, b - 3.0], 3.0),  # b itself is best
        (lambda b: [b, 0.0], 3.0),  # all are as good
        (lambda b: [1.0, abs(b - 3.0) - 0.25], 3.25),  # both others are as good
        (lambda b: [-1.0, b], 3.25),  # the least bad
        (lambda b: [0.0, 0.0], 3.0),  # no gradient
        (lambda b: [0.0, 0.0] if b == 3.0 else [-1.0, 0.0], 3.0),
    ],
)
def test_choice_by_hand(gradient, b):
    """The differences are (4, 0)."""
    got = choose(first, lambda w, b: [gradient(b), [7.0, 7.0]], W, 3.0, [0, 1], 0.5, 0.25)
    assert got["candidates"] == [3, 3.25, 2.75]
    assert got["differences"] == [4, 0]
    for candidate, cosine in zip(got["candidates"], got["cosines"], strict=True):
        x, y = gradient(candidate)
        assert cosine == pytest.approx(x / math.hypot(x, y) if x else 0.0, rel=1e-14)
    assert got["b"] == b


@pytest.mark.parametrize(
    ("b", "candidates"), [(0.25, [0.25, 0.5, 0.125]), (0.0, [0.125, 0.25, 0.125])]
)
def test_candidates_are_not_below_the_least(b, candidates):
    gradients = {0.125: 1.0, 0.25: 2.0, 0.5: 3.0}
    got = choose(
        first, lambda w, b: [[1.0, gradients[b]], [0, 0]], W, b, [0, 1], 0.5, 0.25, least=0.125
    )
    assert got["candidates"] == candidates
    assert got["b"] == 0.125


def test_indices_are_places_in_all_weights():
    """In any order; the loss is w0 w1 + 10 w2^2 + w3^3."""

    def loss(w):
        return w[0, 0] * w[0, 1] + 10 * w[1, 0] ** 2 + w[1, 1] ** 3

    asked = []

    def gradient(w, b):
        asked.append((w.tolist(), b))
        w[:] = 0.0  # a copy
        return np.array([[-2.0, 1.0], [10.0, 27.0]])

    got = choose(loss, gradient, W, 3.0, [3, 1], 0.5, 1.0)
    assert got["differences"] == [27.25, 1]
    assert asked == [(W.tolist(), b) for b in (3, 4, 2)]
    want = (27.25 * 27 + 1) / math.hypot(27.25, 1) / math.hypot(27, 1)
    assert got["cosines"] == pytest.approx([want] * 3, rel=1e-14)
    assert W.tolist() == [[1, -2], [0.5, 3]]


RNG = np.random.default_rng(4)
X, LABELS = RNG.normal(0.3, 1, (3, 6, 4)), [0, 1, 2, 0, 1, 2]
WEIGHTS, READOUT = RNG.normal(0.2, 0.6, (4, 5)), RNG.normal(size=(5, 3))
NEURON = {"tau": 0.25, "v_th": 0.5, "surrogate": "dspike"}


def run(w, b, fire=None):
    """Return the loss of 6 images over 3 steps, and its gradient with respect to w."""
    given = NEURON | {"surrogate_shape": b}
    o = potentials.lif(X @ w, np.zeros((3, 6, 5)), given, np.zeros_like, fire)["o"]
    logits = o.mean(axis=0) @ READOUT
    do = np.array([cross_entropy_gradient(logits, LABELS) @ READOUT.T / 3] * 3)
    dc = potentials.lif(X @ w, do, given, np.zeros_like, fire)["c"]
    return cross_entropy(logits, LABELS), np.einsum("tni,tnh->ih", X, dc)


def test_choice_for_a_spiking_network():
    """Step by step, the cosine never falls, and short distances lead to a large b."""
    found = {}
    for eps in (0.02, 0.5):
        b, cosines = 3.0, []
        while len(cosines) < 20:
            got = choose(
                lambda w: run(w, 1.0)[0], lambda w, b: run(w, b)[1], WEIGHTS, b, range(20), eps, 1.0
            )
            cosines.append(got["cosines"][0])
            if got["b"] == b:
                break
            b = got["b"]
        assert cosines == sorted(cosines)
        assert len(cosines) > 2
        found[eps] = b
    assert found[0.5] < 3 < found[0.02]


def test_a_network_that_fires_the_primitive_has_its_own_b():
    """Of b = 2, whose gradient is then the true one."""

    def fire(u_pre, v_th):
        x = min(max(u_pre - v_th, -0.5), 0.5)
        return (math.tanh(2 * x) + math.tanh(1)) / (2 * math.tanh(1))

    def loss(w):
        return run(w, 1.0, fire)[0]

    def gradient(w, b):
        return run(w, b, fire)[1]

    indices = [0, 3, 7, 11, 12, 18]
    got = choose(loss, gradient, WEIGHTS, 2.0, indices, 1e-5, 0.5)
    true = gradient(WEIGHTS, 2.0).ravel()[indices]
    np.testing.assert_allclose(got["differences"], true, rtol=1e-6, atol=1e-8)
    assert got["b"] == 2
    assert got["cosines"][0] == pytest.approx(1, abs=1e-10)
    assert max(got["cosines"][1:]) < 1 - 1e-5
