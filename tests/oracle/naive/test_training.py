"""The optimisers' steps against values by hand."""

import pytest

from refsnn.oracle.naive import training


def test_a_step_of_sgd():
    """With decay the gradient is 0.5 + 0.25 * 2 = 1, and the memory 0.5 * 1 + 1 = 1.5."""
    assert training.sgd_step(2.0, 0.5, 1.0, 0.5, 0.5, 0.25) == (2 - 0.5 * 1.5, 1.5)


def test_a_step_of_nesterovs_sgd():
    """It is 1 + 0.5 * 1.5 long."""
    assert training.sgd_step(2.0, 0.5, 1.0, 0.5, 0.5, 0.25, True) == (2 - 0.5 * 1.75, 1.5)


#: of a gradient 2, the first moments are 1 and 1
ADAM = training.PAPER | {"adam_beta1": 0.5, "adam_beta2": 0.75, "adam_eps": 0.25}


def test_a_step_of_adam():
    """The corrected moments are 2 and 4, and the decay is 0.5 * 0.25 of 3."""
    w, m, s = training.adamw_step(3.0, 2.0, 0.0, 0.0, 1, 0.5, 0.25, ADAM)
    assert w == pytest.approx(2.625 - 0.5 * 2 / (2 + 0.25), rel=1e-15)
    assert (m, s) == (1, 1)


@pytest.mark.parametrize("i", [1, 7])
def test_a_step_of_adam_without_correction(i):
    given = ADAM | {"optimizer_bias_correction": False}
    w, m, s = training.adamw_step(3.0, 2.0, 0.0, 0.0, i, 0.5, 0.25, given)
    assert w == pytest.approx(2.625 - 0.5 * 1 / (1 + 0.25), rel=1e-15)
    assert (m, s) == (1, 1)


def test_settings_that_are_left_out_are_the_papers():
    assert training.adamw_step(3.0, 2.0, 0.5, 0.25, 3, 0.5, 0.25) == training.adamw_step(
        3.0, 2.0, 0.5, 0.25, 3, 0.5, 0.25, training.PAPER
    )
    w, m, s = training.adamw_step(3.0, 2.0, 0.0, 0.0, 1, 0.5, 0.0)
    assert (m, s) == (pytest.approx(0.2), pytest.approx(0.004))
    assert w == pytest.approx(2.5, abs=1e-8)
