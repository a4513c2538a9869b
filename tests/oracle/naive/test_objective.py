"""The loss over time against values by hand."""

import math

import numpy as np
import pytest

from refsnn.oracle.naive.objective import over_time

LN3 = math.log(3)
#: two steps of the main branch, whose softmax is (1/4, 3/4) and (3/4, 1/4), and of a side branch
MAIN = np.array([[[0.0, LN3]], [[LN3, 0.0]]])
SIDE = np.zeros((2, 1, 2))
LABELS = [1]


def run(steps):
    logits = [SIDE[:steps], MAIN[:steps]]
    return {"step_logits": logits, "branches": [branch.mean(axis=0) for branch in logits]}


def test_the_loss_at_each_step_of_one_step():
    loss, (side, main) = over_time(run(1), LABELS, 0.5, "logits", "each step")
    assert loss == pytest.approx(math.log(4 / 3))
    np.testing.assert_allclose(main, [[[0.25, -0.25]]])
    np.testing.assert_allclose(side, [[[0.125, -0.125]]])


@pytest.mark.parametrize(
    ("branch_sum", "more", "side"),
    [
        ("logits", 0, [[[1 / 16, -1 / 16]], [[3 / 16, -3 / 16]]]),
        ("losses", 0.5 * math.log(2), [[[1 / 8, -1 / 8]], [[1 / 8, -1 / 8]]]),
    ],
)
def test_the_loss_at_each_step_of_two_steps(branch_sum, more, side):
    loss, gradients = over_time(run(2), LABELS, 0.5, branch_sum, "each step")
    assert loss == pytest.approx((math.log(4 / 3) + math.log(4)) / 2 + more)
    np.testing.assert_allclose(gradients[1], [[[1 / 8, -1 / 8]], [[3 / 8, -3 / 8]]])
    np.testing.assert_allclose(gradients[0], side)


def test_the_loss_of_the_mean_of_two_steps():
    loss, (side, main) = over_time(run(2), LABELS, 0.5, "logits", "mean")
    assert loss == pytest.approx(math.log(2))
    np.testing.assert_allclose(main, [[0.5, -0.5]])
    np.testing.assert_allclose(side, [[0.25, -0.25]])


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="another"):
        over_time(run(2), LABELS, 0.5, "logits", "another")
