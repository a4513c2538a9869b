"""Batch norms of other methods: numbers worked by hand, and where they start."""

import numpy as np
import pytest

from refsnn.equations.batchnorm import BatchNorm, Running, batchnorm_backward, batchnorm_forward
from refsnn.equations.norms import BNTT, NORMS, TEBN

#: -1 and 1 at the first step, 1 and 3 at the second, of one channel
X = np.array([-1.0, 1, 1, 3]).reshape(2, 2, 1, 1, 1)
EXACT = BatchNorm(eps=1e-300)


def test_tebn_worked_by_hand():
    params = {"weight": np.array([2.0]), "bias": np.array([0.5]), "p": np.array([1.0, -3.0])}
    y, _, cache = batchnorm_forward(
        X, *TEBN().affine(params), Running(np.zeros(1), np.ones(1)), EXACT, True
    )
    x_hat = (X - 1) / np.sqrt(2)  # pooled: mean 1, variance 2
    want = np.array([1.0, -3.0]).reshape(2, 1, 1, 1, 1) * (2 * x_hat + 0.5)
    np.testing.assert_allclose(y, want, rtol=1e-14)
    dy = np.arange(4.0).reshape(X.shape)
    d = batchnorm_backward(dy, cache)
    grads = TEBN().gradients(d.dgamma, d.dbeta, params)
    by_step = (dy * (2 * x_hat + 0.5)).reshape(2, 2).sum(axis=1)
    np.testing.assert_allclose(grads["p"], by_step, rtol=1e-13)


def test_bntt_worked_by_hand():
    """Each step has its own mean, variance 1, gamma and running statistics."""
    params = {"weight": np.array([[2.0], [4.0]])}
    running = Running(np.zeros((2, 1)), np.ones((2, 1)))
    p = BNTT().constants(BatchNorm())
    assert (p.eps, p.statistics) == (1e-4, "per_step")
    y, moved, _ = batchnorm_forward(X, *BNTT().affine(params), running, EXACT_STEPS, True)
    assert y.ravel().tolist() == [-2, 2, -4, 4]
    np.testing.assert_allclose(moved.mean.ravel(), [0, 0.2], rtol=1e-15)
    np.testing.assert_allclose(moved.var.ravel(), [0.9 + 0.2] * 2, rtol=1e-15)
    y, same, _ = batchnorm_forward(X, *BNTT().affine(params), moved, EXACT_STEPS, False)
    want = (X - moved.mean.reshape(2, 1, 1, 1, 1)) / np.sqrt(1.1) * [[[[[2]]]], [[[[4]]]]]
    np.testing.assert_allclose(y, want, rtol=1e-14)
    assert same is moved


EXACT_STEPS = BatchNorm("per_step", eps=1e-300)


@pytest.mark.parametrize("name", [name for name, kind in NORMS.items() if not kind.of_inputs])
def test_start_is_the_batch_norm_of_the_paper(name):
    norm = NORMS[name]()
    params = norm.initial(3, 4)
    assert {key: x.shape for key, x in params.items()} == norm.shapes(3, 4)
    gamma, beta = norm.affine(params)
    assert np.array_equal(gamma, np.ones((4, 3)))
    assert np.array_equal(beta, np.zeros((4, 3)))


@pytest.mark.parametrize("argument", ["gamma", "beta", "mean"])
def test_parameters_of_another_number_of_steps_are_refused(argument):
    given = {"gamma": np.ones(1), "beta": np.zeros(1), "mean": np.zeros(1)}
    given[argument] = np.ones((3, 1))
    running = Running(given["mean"], np.ones(1))
    with pytest.raises(ValueError, match=argument):
        batchnorm_forward(X, given["gamma"], given["beta"], running, EXACT, True)
