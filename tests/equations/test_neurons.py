"""Neurons with parameters: numbers worked by hand, where they start, and what they refuse."""

import re

import numpy as np
import pytest

from refsnn.equations.batchnorm import Running
from refsnn.equations.lif import LIF, lif_backward, lif_forward
from refsnn.equations.neurons import GLIF, MPBN, NEURONS, PLIF, Diet, RealSpike
from refsnn.equations.neurons.sigmoid import logit, sigmoid
from refsnn.equations.surrogate import Rectangular, Tanh, Triangular

SUBTRACT = LIF(0.5, 0.5, reset="subtract")


def column(*values):
    """A sequence (T, 1, 1) of one neuron."""
    return np.array(values, float).reshape(-1, 1, 1)


def arrays(**values):
    return {name: np.array(value, float) for name, value in values.items()}


def run(neuron, c_seq, params, p, running=None, training=True):
    y_seq, running, cache = neuron.forward(c_seq, params, running, p, training)
    return y_seq.ravel(), cache


def test_plif_worked_by_hand():
    """s = 1/4: 3/4 of the potential stays, a quarter of the current comes in."""
    w = arrays(w=[logit(0.25)])
    y, cache = run(PLIF(), column(2, 4, 0), w, LIF(0.5, 1.0))
    np.testing.assert_allclose(cache.u_pre_seq.ravel(), [0.5, 1.375, 0], rtol=1e-15)
    assert y.tolist() == [0, 1, 0]
    _, cache = run(PLIF(input_decay=False), column(0.5, 0.5, 0.5), w, LIF(0.5, 1.0))
    np.testing.assert_allclose(cache.u_pre_seq.ravel(), [0.5, 0.875, 1.15625], rtol=1e-15)


def test_plif_gradient_worked_by_hand():
    """One step from 0, below the threshold: u_pre = s c, so dL/dw = g h c s (1 - s)."""
    p = LIF(0.5, 1.0, Rectangular(4.0))
    _, cache = run(PLIF(), column(2.0), arrays(w=[0.0]), p)
    dc, grads = PLIF().backward(column(3.0), cache)
    assert dc.item() == 3 * 0.25 * 0.5
    assert grads["w"].tolist() == [3 * 0.25 * 2 * 0.25]


def test_glif_worked_by_hand():
    """All sigmoids are 1/2: A = 3/4, B = 3/4, a quarter of l and r each, half of it cleared."""
    names = ("alpha", "beta", "gamma", "tau", "v_th", "l", "r")
    params = {name: np.zeros(1) for name in names}
    params["g"] = np.zeros((3, 1))
    y, cache = run(GLIF(), column(2, 1, 0), params, LIF(0.5, 0.5))
    first = 0.75 * 2 - 0.25
    second = 0.75 * first * 0.5 - 0.25 - 0.25 + 0.75
    third = 0.75 * second * 0.5 - 0.25 - 0.25
    assert cache.u_pre_seq.ravel().tolist() == [first, second, third]
    assert y.tolist() == [1, 1, 0]


def test_diet_worked_by_hand():
    """Leak 1/2, threshold 2: the reset leaks, or comes after the leak."""
    params = arrays(leak=[0.5], v_th=[2.0])
    for leaks, second in ((True, (3 - 2) / 2 + 1), (False, 3 / 2 - 2 + 1)):
        y, cache = run(Diet(reset_leaks=leaks), column(3, 1), params, SUBTRACT)
        assert (2 * cache.u_pre_seq).ravel().tolist() == [3, second]
        assert y.tolist() == [1, 0]


def test_diet_gradient_worked_by_hand():
    """One step: do/du_pre = h(u_pre/v - 1)/v and do/dv = -h u_pre/v^2."""
    p = LIF(0.5, 1.0, Triangular(0.3), reset="subtract", reset_gradient="detached")
    _, cache = run(Diet(), column(1.5), arrays(leak=[1.0], v_th=[2.0]), p)
    dc, grads = Diet().backward(column(1.0), cache)
    h = 0.3 * 0.75
    assert dc.item() == pytest.approx(h / 2)
    assert grads["v_th"].item() == pytest.approx(-h * 1.5 / 4)
    assert grads["leak"].tolist() == [0]


def test_diet_limits_the_leak_alone():
    given = {"leak": np.array([1.5], np.float32), "v_th": np.array([1.5], np.float32)}
    limited = Diet().limited(given)
    assert limited["leak"].tolist() == [1]
    assert limited["leak"].dtype == np.float32
    assert limited["v_th"].tolist() == [1.5]
    assert Diet().limited({"v_th": given["v_th"]}).keys() == {"v_th"}


def test_real_spikes_are_sized_and_the_reset_is_not():
    p, c = LIF(0.5, 1.0), column(1.5, 1.5, 0.2)
    y, cache = run(RealSpike(), c, arrays(a=[0.25]), p)
    o, _ = lif_forward(c, None, p)
    assert y.tolist() == (0.25 * o).ravel().tolist()
    _, grads = RealSpike().backward(column(1, 2, 4), cache)
    assert grads["a"].tolist() == [1 + 2]


def test_mpbn_normalises_for_the_threshold_alone():
    """Two neurons at 1 and 3 become -1 and 1: the upper one fires, and the lower one stays."""
    c = np.array([[[1.0], [3.0]], [[0.0], [0.0]]])
    params, start = arrays(weight=[2.0], bias=[0.5]), Running(np.zeros(1), np.ones(1))
    p = LIF(0.5, 1.0)
    y, running, cache = MPBN().forward(c, params, start, p, True)
    assert y[0].ravel().tolist() == [0, 1]
    np.testing.assert_allclose(cache.v_seq[0].ravel(), [-1.5, 2.5], rtol=1e-4)
    assert cache.u_pre_seq[1].ravel().tolist() == [0.5, 0]
    # the two steps' means are 2 and 1/4, their unbiased variances 2 and 1/8
    assert running.mean.item() == pytest.approx(0.9 * 0.2 + 0.025)
    assert running.var.item() == pytest.approx(0.9 * (0.9 + 0.2) + 0.0125)


def test_mpbn_folds_into_the_threshold():
    """In inference it fires above a threshold, below it where gamma is negative."""
    rng, p = np.random.default_rng(0), LIF(0.5, 0.5)
    gamma, beta = np.array([1.2, -0.8]), np.array([0.1, 0.3])
    running = Running(rng.normal(size=2), rng.uniform(0.5, 1.5, 2))
    c = rng.normal(0.4, 1, (4, 50, 2))
    y, cache = run(MPBN(), c, {"weight": gamma, "bias": beta}, p, running, training=False)
    threshold = (0.5 - beta) * np.sqrt(running.var + 1e-5) / gamma + running.mean
    want = np.where(gamma > 0, cache.u_pre_seq > threshold, cache.u_pre_seq < threshold)
    assert np.array_equal(y, want.ravel())
    assert 0.1 < y.mean() < 0.9


@pytest.mark.parametrize("name", NEURONS)
def test_start_is_a_lif_where_the_method_says_so(name):
    """PLIF starts with the leak tau, Diet-SNN with tau and v_th, Real Spike with spikes of 1."""
    neuron, rng = NEURONS[name](), np.random.default_rng(1)
    p = LIF(0.4, 0.7, reset="subtract" if name == "diet" else "zero")
    params = neuron.initial(p, 3, 4)
    assert {key: x.shape for key, x in params.items()} == neuron.shapes(3, 4)
    c = rng.normal(0.5, 1, (4, 5, 3))
    currents = {"plif": 0.6 * c}.get(name, c)
    o, plain = lif_forward(currents, None, p)
    if name in ("glif", "mpbn"):
        return
    y_seq, _, cache = neuron.forward(c, params, None, p, True)
    assert np.array_equal(y_seq, o)
    factor = 0.6 if name == "plif" else 1.0
    do = rng.normal(size=c.shape)
    dc, _ = neuron.backward(do, cache)
    if name != "diet":  # its surrogate is in units of the threshold
        np.testing.assert_allclose(dc, factor * lif_backward(do, plain).dc_seq, rtol=1e-12)


def test_glif_starts_with_the_authors_gates():
    params = GLIF().initial(LIF(0.25, 0.5), 2, 4)
    values = {name: sigmoid(x) for name, x in params.items()}
    want = {"alpha": 0.55, "beta": 0.65, "gamma": 0.55, "tau": 0.25, "v_th": 0.5}
    want |= {"l": 0.5 / 8, "r": 0.5, "g": 0.5}
    for name, value in want.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-14)


def test_sigmoid_does_not_overflow():
    x = np.array([-1e6, -700, 0, 700, 1e6])
    with np.errstate(all="raise"):
        assert sigmoid(x).tolist() == [0, 0, 0.5, 1, 1]
    assert sigmoid(x.astype(np.float32)).dtype == np.float32
    assert sigmoid(np.array(logit(0.3))) == pytest.approx(0.3, rel=1e-15)


@pytest.mark.parametrize(
    ("name", "p", "message"),
    [
        ("plif", LIF(tau=1.0), "tau: got 1.0, want less than 1 for plif, which learns 1 - tau"),
        ("glif", LIF(v_th=1.0), "v_th: got 1.0, want less than 1 for glif"),
        ("glif", LIF(tau=1.0, v_th=0.5), "tau: got 1.0, want less than 1 for glif"),
        ("glif", LIF(0.5, 0.5, reset="subtract"), "reset: got subtract, but glif learns its reset"),
        ("diet", LIF(), "reset: got zero, want subtract, of v_th, for diet"),
        (
            "diet",
            LIF(reset="subtract", reset_amount=0.5),
            "reset: got subtract with an amount, want subtract, of v_th, for diet",
        ),
    ],
)
def test_a_start_that_a_method_does_not_have_is_refused(name, p, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        NEURONS[name]().check(p)


@pytest.mark.parametrize("kind", [PLIF, Diet])
def test_an_option_that_is_no_flag_is_refused(kind):
    with pytest.raises(TypeError, match="want True or False"):
        kind("yes")


@pytest.mark.parametrize("name", NEURONS)
def test_a_gradient_of_another_shape_is_refused(name):
    neuron, p = NEURONS[name](), LIF(0.5, 0.5, Tanh(), reset="zero")
    p = SUBTRACT if name == "diet" else p
    start = Running(np.zeros(2), np.ones(2))
    c = np.ones((3, 4, 2))
    *_, cache = neuron.forward(c, neuron.initial(p, 2, 3), start, p, True)
    with pytest.raises(ValueError, match="dy_seq"):
        neuron.backward(np.ones((2, 4, 2)), cache)
