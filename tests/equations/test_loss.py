"""Cross-entropy by hand, at extremes, and its gradient."""

import math
import re

import numpy as np
import pytest
from scipy.special import log_softmax

from refsnn.equations.loss import cross_entropy_backward, cross_entropy_forward

LN3 = math.log(3)


def test_two_samples_worked_by_hand():
    logits = np.array([[0, LN3], [2 + LN3, 2]])  # probabilities 1/4 3/4 and 3/4 1/4
    loss, cache = cross_entropy_forward(logits, np.array([0, 0]))
    assert isinstance(loss, float)
    np.testing.assert_allclose(loss, (math.log(4) + math.log(4 / 3)) / 2, rtol=1e-14)
    np.testing.assert_allclose(
        cross_entropy_backward(cache), [[-0.375, 0.375], [-0.125, 0.125]], rtol=1e-14
    )


def test_equal_logits_lose_the_logarithm_of_the_number_of_classes():
    loss, _ = cross_entropy_forward(np.full((3, 10), 7.0), np.array([0, 5, 9]))
    np.testing.assert_allclose(loss, math.log(10), rtol=1e-14)


def test_loss_and_gradient_against_scipy_and_differences(numeric_gradient):
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(5, 4)), rng.integers(4, size=5)
    logits.flags.writeable = labels.flags.writeable = False
    loss, cache = cross_entropy_forward(logits, labels)
    np.testing.assert_allclose(
        loss, -np.mean([log_softmax(row)[k] for row, k in zip(logits, labels, strict=True)])
    )
    dlogits = cross_entropy_backward(cache)
    want = numeric_gradient(lambda a: cross_entropy_forward(a, labels)[0], logits)
    np.testing.assert_allclose(dlogits, want, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-15)
    assert np.array_equal(cross_entropy_backward(cache), dlogits)  # the cache is not used up


@pytest.mark.parametrize(("dtype", "huge"), [(np.float32, 1e38), (np.float64, 1e307)])
def test_huge_logits_neither_overflow_nor_lose_the_loss(dtype, huge):
    logits = np.array([[huge, -huge, 0], [-huge, -huge, -huge]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, cache = cross_entropy_forward(logits, np.array([0, 1]))
        dlogits = cross_entropy_backward(cache)
        wrong, _ = cross_entropy_forward(logits[:1], np.array([2]))
    np.testing.assert_allclose(loss, LN3 / 2, rtol=1e-6)
    np.testing.assert_allclose(dlogits, [[0, 0, 0], [1 / 6, -1 / 3, 1 / 6]], rtol=1e-6)
    np.testing.assert_allclose(wrong, huge, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    _, cache = cross_entropy_forward(np.ones((2, 3), dtype), np.array([0, 2], np.uint8))
    assert cross_entropy_backward(cache).dtype == dtype


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (np.ones((2, 3)), [0, 3], ValueError, "labels: got 3 at index 1, want 0 to 2"),
        (np.ones((2, 3)), [-1, 0], ValueError, "labels: got -1 at index 0, want 0 to 2"),
        (np.ones((2, 3)), [0, 1, 2], ValueError, "labels: got shape (3,), want (2,)"),
        (np.ones((2, 3)), [[0], [1]], ValueError, "labels: got shape (2, 1), want (2,)"),
        (np.ones((2, 3)), [0.0, 1.0], TypeError, "labels: got dtype float64, want integers"),
        (np.ones(3), [0], ValueError, "logits: got shape (3,), want (N, K)"),
        (np.ones((2, 3), int), [0, 1], TypeError, "logits: got dtype int64"),
    ],
)
def test_wrong_logits_or_labels_are_refused(logits, labels, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        cross_entropy_forward(logits, np.array(labels))
