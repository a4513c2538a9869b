"""Batch normalisation's plain loops against values by hand."""

import numpy as np
import pytest

from refsnn.oracle.naive import batchnorm

X = np.array([3.0, 7.0]).reshape(2, 1, 1)  # two steps
NORM = {"statistics": "frozen", "scale": 1.0, "eps": 0.0, "momentum": 0.5}


@pytest.mark.parametrize("training", [True, False])
def test_frozen_statistics_by_hand(training):
    """y = 2 (x - 1) / 2 + 0.5, whatever x is."""
    y, mean, var = batchnorm.forward(X, [2.0], [0.5], [1.0], [4.0], NORM, training)
    assert y.ravel().tolist() == [2.5, 6.5]
    assert (mean.tolist(), var.tolist()) == ([1], [4])
    dy = np.array([1.0, 10.0]).reshape(2, 1, 1)
    dx, dgamma, dbeta = batchnorm.backward(dy, X, [2.0], [1.0], [4.0], NORM, training)
    assert dx.ravel().tolist() == [1, 10]
    assert (dgamma.tolist(), dbeta.tolist()) == ([1 + 10 * 3], [11])


def test_pooled_statistics_by_hand():
    """The mean is 5, the variance 4 or, unbiased, 8."""
    norm = NORM | {"statistics": "pooled"}
    y, mean, var = batchnorm.forward(X, [2.0], [0.5], [1.0], [4.0], norm, True)
    assert y.ravel().tolist() == [-1.5, 2.5]
    assert (mean.tolist(), var.tolist()) == ([3], [6])


def test_unknown_statistics_are_refused():
    with pytest.raises(ValueError, match="another"):
        batchnorm.forward(X, [2.0], [0.5], [1.0], [4.0], NORM | {"statistics": "another"}, True)
