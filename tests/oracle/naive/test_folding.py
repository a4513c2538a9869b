"""Folded parameters against the layers that they replace, and the norms' limits."""

import math

import numpy as np
import pytest

from refsnn.oracle.naive import folding, layers, neurons, norms
from refsnn.oracle.naive.inputs import psp_convolution

GEOMETRY = {"stride": (1, 2), "padding": 1}
STEPS = 3


@pytest.fixture
def drawn():
    """Draw a convolution of 2 to 3 channels, and what batch norms hold."""
    rng = np.random.default_rng(8)
    return {
        "x": rng.normal(0.2, 1, (STEPS, 2, 3, 4, 2)),
        "w": rng.normal(size=(2, 3, 2, 3)),
        "gamma": rng.normal(size=(STEPS, 3)),
        "beta": rng.normal(size=3),
        "mean": rng.normal(size=(STEPS, 3)),
        "var": rng.uniform(0.3, 2, (STEPS, 3)),
        "p": rng.normal(size=STEPS),
    }


def convolved(x_seq, w, b=0.0):
    """Convolve every step by its own weights or by those of all steps."""
    weights = w if np.ndim(w) == 5 else [w] * len(x_seq)
    biases = b if np.ndim(b) == 2 else [b] * len(x_seq)
    steps = zip(x_seq, weights, biases, strict=True)
    return np.array([layers.conv_forward(x, w_t, **GEOMETRY) + b_t for x, w_t, b_t in steps])


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_batch_norm_by_hand():
    """The factor is 0.5 * 6 / sqrt(4) = 1.5."""
    w, b = folding.batch_norm([[2.0], [-4.0]], [6.0], [1.0], [3.0], [4.0], 0.5, 0.0)
    assert w.tolist() == [[3], [-6]]
    assert b.tolist() == [1 - 1.5 * 3]


@pytest.mark.parametrize("scale", [1.0, 0.35])
def test_batch_norm_is_the_one_of_inference(drawn, scale):
    d = drawn
    statistics = (d["gamma"][0], d["beta"], d["mean"][0], d["var"][0])
    c = convolved(d["x"], d["w"])
    want = norms.tdbn(c, np.zeros(c.shape), *statistics, scale, False)["y"]
    close(convolved(d["x"], *folding.batch_norm(d["w"], *statistics, scale)), want)


def test_tebn_is_the_one_of_inference(drawn):
    d = drawn
    rest = (d["gamma"][0], d["beta"], d["p"], d["mean"][0], d["var"][0])
    c = convolved(d["x"], d["w"])
    want = norms.tebn(c, np.zeros(c.shape), *rest, False)["y"]
    close(convolved(d["x"], *folding.tebn(d["w"], *rest)), want)


def test_bntt_is_the_one_of_inference(drawn):
    d = drawn
    rest = (d["gamma"], d["mean"], d["var"])
    c = convolved(d["x"], d["w"])
    want = norms.bntt(c, np.zeros(c.shape), *rest, False)["y"]
    close(convolved(d["x"], *folding.bntt(d["w"], *rest)), want)


def test_steps_that_are_alike_fold_into_one_batch_norm(drawn):
    gamma, mean, var = (drawn[name][0] for name in ("gamma", "mean", "var"))
    beta, w, ones = drawn["beta"], drawn["w"], np.ones((STEPS, 1))
    for got, want in (
        (
            folding.tebn(w, gamma, beta, ones[:, 0], mean, var),
            folding.batch_norm(w, gamma, beta, mean, var),
        ),
        (
            folding.bntt(w, ones * gamma, ones * mean, ones * var),
            folding.batch_norm(w, gamma, 0 * beta, mean, var, eps=1e-4),
        ),
    ):
        for steps, one in zip(got, want, strict=True):
            close(steps, np.array([one] * STEPS))


@pytest.mark.parametrize("training", [True, False])
def test_norms_of_steps_that_are_alike_are_one_batch_norm(drawn, training):
    """TEBN with p = 1; BNTT of one step, and of equal ones."""
    gamma, mean, var = (drawn[name][0] for name in ("gamma", "mean", "var"))
    beta, ones = drawn["beta"], np.ones((STEPS, 1))
    c = convolved(drawn["x"], drawn["w"])
    dy = np.random.default_rng(0).normal(size=c.shape)
    got = norms.tebn(c, dy, gamma, beta, ones[:, 0], mean, var, training)
    want = norms.tdbn(c, dy, gamma, beta, mean, var, 1.0, training)
    for name, value in want.items():
        close(got[name], value)

    got = norms.bntt(c[:1], dy[:1], [gamma], [mean], [var], training)
    want = norms.tdbn(c[:1], dy[:1], gamma, 0 * beta, mean, var, 1.0, training, eps=1e-4)
    close(got["y"], want["y"])
    close(got["x"], want["x"])
    for name in ("gamma", "mean", "var"):
        close(got[name], [want[name]])

    same, same_dy = np.array([c[0]] * STEPS), np.array([dy[0]] * STEPS)
    got = norms.bntt(same, same_dy, ones * gamma, ones * mean, ones * var, training)
    want = norms.tdbn(same, same_dy, gamma, 0 * beta, mean, var, 1.0, training, eps=1e-4)
    close(got["y"], want["y"])
    close(got["x"], want["x"])
    close(got["gamma"].sum(axis=0), want["gamma"])


def test_mpbn_by_hand():
    """(0.5 - 0.25) * 2 / gamma + 3."""
    rest = ([0.25, 0.25, 0.25, 0.75, 0.5], [3.0] * 5, [4.0] * 5, 0.5, 0.0)
    thresholds, directions = folding.mpbn([0.5, -0.25, 0.0, 0.0, 0.0], *rest)
    assert thresholds.tolist() == [4, 1, math.inf, -math.inf, math.inf]
    assert directions.tolist() == [1, -1, 1, 1, 1]
    at_least = folding.mpbn([0.5, -0.25, 0.0, 0.0, 0.0], *rest, True)
    assert at_least[0].tolist() == [4, 1, math.inf, -math.inf, -math.inf]


@pytest.mark.parametrize("at_threshold", [True, False])
def test_mpbn_at_its_threshold_by_hand(at_threshold):
    """v = -u_pre + 1 is 0.5 there; just below it fires, and just above it doesn't."""
    n = {"v_th": 0.5, "tau": 1.0, "fire_at_threshold": at_threshold}
    folded = folding.mpbn([-1.0], [1.0], [0.0], [1.0], 0.5, 0.0, at_threshold)
    c = np.array([0.5, 0.25, 0.75]).reshape(1, 1, 1, 3, 1)
    u_pre, o = folding.mpbn_spikes(c, *folded, n)
    np.testing.assert_array_equal(u_pre, c)
    assert o.ravel().tolist() == [float(at_threshold), 1, 0]
    want = neurons.mpbn(c, c, [-1.0], [1.0], [0.0], [1.0], n, False, 0.0)["o"]
    np.testing.assert_array_equal(o, want)


@pytest.mark.parametrize("v_th", [0.5, 1.0])
def test_mpbn_fires_as_before(v_th):
    """Gammas of every sign, and 0 with an offset on either side of the threshold."""
    rng = np.random.default_rng(9)
    c = rng.normal(0.3, 1, (6, 4, 2, 2, 6))
    gamma, beta = [1.2, -0.8, -0.1, 0.0, 0.0, 0.3], [0.2, 0.4, -0.3, v_th - 0.1, v_th + 0.1, 0.5]
    statistics = (rng.normal(0.2, 0.3, 6), rng.uniform(0.5, 1.5, 6))
    n = {"tau": 0.25, "v_th": v_th}
    want = neurons.mpbn(c, c, gamma, beta, *statistics, n, False)
    u_pre, o = folding.mpbn_spikes(c, *folding.mpbn(gamma, beta, *statistics, v_th), n)
    np.testing.assert_array_equal(o, want["o"])
    np.testing.assert_array_equal(u_pre, want["u_pre"])
    assert not o[..., 3].any()
    assert o[..., 4].all()
    rates = o[..., :2].mean(axis=(0, 1, 2, 3))
    assert (rates > 0.1).all()
    assert (rates < 0.9).all()


def test_mpbn_that_undoes_itself_is_a_lif():
    """gamma is the standard deviation, and beta the mean."""
    rng = np.random.default_rng(10)
    c = rng.normal(0.3, 1, (5, 3, 2, 2, 4))
    mean, var = rng.normal(size=4), rng.uniform(0.5, 2, 4)
    n = {"tau": 0.25, "v_th": 0.5}
    thresholds, directions = folding.mpbn(np.sqrt(var + 1e-5), mean, mean, var, 0.5)
    close(thresholds, [0.5] * 4)
    assert directions.tolist() == [1] * 4
    _, o = folding.mpbn_spikes(c, thresholds, directions, n)
    want = neurons.real_spike(c, c, np.ones(4), 0.25, n)
    np.testing.assert_array_equal(o, want["spikes"])


@pytest.fixture
def spikes():
    """Fire neurons of two channels with amplitudes of both signs."""
    c = np.random.default_rng(11).normal(0.6, 1, (STEPS, 2, 3, 4, 2))
    return lambda a, do: neurons.real_spike(c, do, a, 0.25, {"v_th": 0.5})


def test_real_spikes_fold_into_the_next_weights(drawn, spikes):
    a, w = [1.4, -0.6], drawn["w"]
    got = spikes(a, drawn["x"])
    assert 0.2 < got["spikes"].mean() < 0.8
    close(convolved(got["spikes"], folding.real_spike(w, a)), convolved(got["o"], w))
    one = spikes([1.0, 1.0], drawn["x"])
    np.testing.assert_array_equal(one["o"], one["spikes"])
    np.testing.assert_array_equal(folding.real_spike(w, [1.0, 1.0]), w)


def test_real_spikes_fold_into_a_classifier_after_the_average(spikes):
    a, w = [1.4, -0.6], np.random.default_rng(12).normal(size=(2, 5))
    got = spikes(a, np.zeros((STEPS, 2, 3, 4, 2)))
    for o, binary in zip(got["o"], got["spikes"], strict=True):
        want = layers.linear_forward(layers.gap_forward(o), w, np.zeros(5))
        folded = folding.real_spike(w, a)
        close(layers.linear_forward(layers.gap_forward(binary), folded, np.zeros(5)), want)


def test_real_spikes_and_weights_share_a_gradient(drawn, spikes):
    """a da = the sum of W dW over each channel, as only a W counts."""
    a, w = [1.4, -0.6], drawn["w"]
    o = spikes(a, drawn["x"])["o"]
    dc = np.random.default_rng(13).normal(size=convolved(o, w).shape)
    pairs = [layers.conv_backward(dc[t], o[t], w, **GEOMETRY) for t in range(STEPS)]
    da = spikes(a, np.array([do for do, _ in pairs]))["a"]
    dw = sum(dw for _, dw in pairs)
    close(a * da, (w * dw).sum(axis=(0, 1, 3)))


@pytest.mark.parametrize("root", [True, False])
def test_psp_bn_folds_into_the_next_weights(drawn, root):
    gamma, square, w = [1.4, -0.6], [0.3, 1.7], drawn["w"]
    dc = np.zeros(convolved(drawn["x"], w).shape)
    want = psp_convolution(drawn["x"], dc, w, gamma, square, **GEOMETRY, training=False, root=root)
    close(convolved(drawn["x"], folding.psp_bn(w, gamma, square, root)), want["c"])


def test_psp_bn_by_hand():
    w = [[2.0, 4.0], [1.0, 3.0]]
    assert folding.psp_bn(w, [3.0, -1.0], [4.0, 16.0], True, 0.0).tolist() == [
        [3, 6],
        [-0.25, -0.75],
    ]
    assert folding.psp_bn(w, [2.0, -2.0], [4.0, 16.0], False, 0.0)[1].tolist() == [-0.125, -0.375]


def test_channels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 channels for weights"):
        folding.real_spike(np.zeros((2, 4)), [1.0] * 3)
    with pytest.raises(ValueError, match="zip"):
        folding.batch_norm(np.zeros((2, 4)), [1.0] * 4, [0.0] * 4, [0.0] * 3, [1.0] * 4)
