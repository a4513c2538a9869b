"""The losses with a teacher: numbers worked by hand, limits, differences, what they refuse."""

import re
from dataclasses import replace

import numpy as np
import pytest

from refsnn.equations.distillation import Distillation, feature_loss
from refsnn.equations.loss import CROSS_ENTROPY
from refsnn.network import (
    ALIGN,
    Network,
    architecture,
    backward,
    forward,
    init_buffers,
    init_params,
    without_branches,
)
from refsnn.ops import LIF, NUMPY, get_ops


def test_two_classes_worked_by_hand():
    """Temperature 2 makes of logits 2 ln 3 and 0 the probabilities 3/4 and 1/4."""
    teacher, logits = np.array([[2 * np.log(3), 0.0]]), np.zeros((1, 2))
    loss = Distillation(teacher, temperature=2.0, alpha=0.25)
    value, cache = loss.forward(logits, np.array([1]))
    divergence = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert value == pytest.approx(0.25 * 4 * divergence + 0.75 * np.log(2))
    want = 0.25 * 2 * (0.5 - np.array([0.75, 0.25])) + 0.75 * (0.5 - np.array([0, 1]))
    np.testing.assert_allclose(loss.backward(cache), want[None], rtol=1e-14)


def drawn(images=6, classes=5):
    rng = np.random.default_rng(0)
    return *rng.normal(size=(2, images, classes)), rng.integers(0, classes, images)


def test_without_weight_it_is_the_cross_entropy():
    logits, teacher, labels = drawn()
    value, cache = Distillation(teacher, alpha=0.0).forward(logits, labels)
    want, plain = CROSS_ENTROPY.forward(logits, labels)
    assert value == want
    assert np.array_equal(Distillation(teacher, alpha=0.0).backward(cache), plain_of(plain))


def plain_of(cache):
    return CROSS_ENTROPY.backward(cache)


def test_the_teachers_own_logits_have_no_gradient():
    _, teacher, labels = drawn()
    loss = Distillation(teacher, alpha=1.0)
    value, cache = loss.forward(teacher, labels)
    assert value == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(loss.backward(cache), 0, atol=1e-16)


def test_at_high_temperature_centred_logits_are_compared():
    logits, teacher, labels = drawn()
    loss = Distillation(teacher, temperature=1e5, alpha=0.3)
    got = loss.backward(loss.forward(logits, labels)[1])
    centred = [z - z.mean(axis=1, keepdims=True) for z in (logits, teacher)]
    of_labels = 0.7 * plain_of(CROSS_ENTROPY.forward(logits, labels)[1])
    want = 0.3 * (centred[0] - centred[1]) / logits.size + of_labels
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_large_logits_do_not_overflow():
    loss = Distillation(np.array([[3e4, 0.0, -3e4]]), 1.0)
    value, cache = loss.forward(np.array([[-3e4, 0.0, 3e4]]), np.array([0]))
    assert np.isfinite(value)
    assert np.isfinite(loss.backward(cache)).all()


def test_features_worked_by_hand():
    rates, teacher = np.array([0.5, 0.25]).reshape(1, 1, 1, 2), np.ones((1, 1, 1, 1))
    align = np.array([2.0, 4.0]).reshape(1, 1, 2, 1)
    value, d, dalign = feature_loss(rates, teacher, align, 0.5)
    assert value == 0.5 * (2 * 0.5 + 4 * 0.25 - 1) ** 2
    assert d.ravel().tolist() == [2 * 0.5 * 1 * 2, 2 * 0.5 * 1 * 4]
    assert dalign.ravel().tolist() == [0.5, 0.25]
    value, d, dalign = feature_loss(rates, rates - 1, None, 3.0)
    assert (value, d.ravel().tolist(), dalign) == (6.0, [6.0, 6.0], None)


@pytest.mark.parametrize("block", ["basic", "ms"])
@pytest.mark.parametrize("aligned", [4, 6])  # as many channels as the network has, or more
def test_gradients_of_a_network_equal_differences(aligned, block):
    rng, labels = np.random.default_rng(3), np.array([0, 2])
    net = Network(architecture("1-1:3-4"), 2, 3, lif=LIF(smooth=True), aligned=aligned, block=block)
    params, buffers = init_params(net, rng), init_buffers(net)
    assert (ALIGN in params) == (aligned != 4)
    x_seq = rng.normal(size=(3, 2, 6, 6, 2))
    answers, features = rng.normal(size=(2, 3)), rng.normal(size=(2, 3, 3, aligned))

    def at(values, keep="all"):
        run = forward(net, values, buffers, x_seq, NUMPY, keep=keep)
        loss = Distillation(answers, 2.0, 0.6)
        value, cache = NUMPY.objective_forward(run.branches, labels, 0.25, "logits", loss)
        of_features, *d = feature_loss(run.rates, features, values.get(ALIGN), 0.3)
        return value + of_features, backward(run, NUMPY.objective_backward(cache), *d)

    grads = at(params)[1]
    assert list(grads) == list(net.shapes())
    for name, x in params.items():
        v, h = rng.normal(size=x.shape), 1e-5
        above, below = (at(params | {name: x + s * v})[0] for s in (h, -h))
        got = float((grads[name] * v).sum())
        assert got == pytest.approx((above - below) / (2 * h), rel=1e-5, abs=1e-8), name


def test_low_memory_has_the_same_bits_with_features():
    rng, labels, ops = np.random.default_rng(3), np.array([0, 2]), get_ops("numba")
    net = Network(architecture("1-1:3-4"), 2, 3, aligned=6)
    params, buffers = init_params(net, rng, np.float32), init_buffers(net, np.float32)
    x_seq = rng.normal(size=(3, 2, 6, 6, 2)).astype(np.float32)
    features = rng.normal(size=(2, 3, 3, 6)).astype(np.float32)
    found = []
    for keep in ("all", "spikes"):
        run = forward(net, params, buffers, x_seq, ops, keep=keep)
        _, cache = ops.objective_forward(run.branches, labels, 0.25)
        d = feature_loss(run.rates, features, params[ALIGN], 0.3)[1:]
        found.append(backward(run, ops.objective_backward(cache), *d))
    for name, g in found[0].items():
        assert g.dtype == np.float32
        assert np.array_equal(g, found[1][name]), name


def test_the_convolution_of_features_serves_training_alone():
    net = Network(architecture("1:4"), 2, 3, aligned=6)
    params = init_params(net, np.random.default_rng(0))
    bare = replace(net, aligned=0)
    for name, x in init_params(bare, np.random.default_rng(0)).items():
        assert np.array_equal(params[name], x), name
    kept, left = without_branches(net, params)
    assert kept.aligned == 0
    assert ALIGN not in left


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distillation(np.zeros((1, 2)), 0.0), "temperature: got 0.0"),
        (lambda: Distillation(np.zeros((1, 2)), 1.0, 1.5), "alpha: got 1.5, want a weight in"),
        (lambda: Distillation(np.zeros((1, 2)), 1.0, float("nan")), "alpha: got nan"),
        (
            lambda: Distillation(np.zeros((2, 2))).forward(np.zeros((2, 3)), np.zeros(2, int)),
            "logits: got float64 (2, 3), want float64 (2, 2) like the teacher's",
        ),
        (
            lambda: feature_loss(np.zeros((1, 2, 2, 3)), np.zeros((1, 4, 4, 3)), None, 1.0),
            "teacher: got float64 (1, 4, 4, 3), want float64 (1, 2, 2, 3) like these features",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
