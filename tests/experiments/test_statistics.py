"""Spread and paired differences against numbers computed by hand and SciPy's test."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from refsnn.experiments.statistics import paired_difference, spread


def test_a_spread_agrees_with_one_computed_by_hand():
    assert spread([2.0, 4.0, 9.0]) == (3, 5.0, pytest.approx(13**0.5))  # (9 + 1 + 16) / 2
    assert spread([7.0]) == (1, 7.0, None)
    assert spread([]) == (0, None, None)


def test_an_interval_agrees_with_one_computed_by_hand():
    """Differences 1, 2, 3: standard error 1 / sqrt(3), and t's 97.5 % quantile for 2 is 4.3027."""
    found = paired_difference({"0": 3.0, "1": 5.0, "2": 4.0}, {"0": 2.0, "1": 3.0, "2": 1.0})
    assert found[:2] == (3, 2.0)
    assert found.low == pytest.approx(2 - 4.302652730 / 3**0.5, abs=1e-8)
    assert found.high == pytest.approx(2 + 4.302652730 / 3**0.5, abs=1e-8)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_an_interval_agrees_with_scipys(n, confidence):
    a, b = np.random.default_rng(n).normal(size=(2, n))
    of, minus = ({str(seed): x for seed, x in enumerate(values)} for values in (a, b))
    found = paired_difference(of, minus, confidence)
    wanted = ttest_rel(a, b).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-12)
    assert found.mean == pytest.approx((a - b).mean(), rel=1e-12)


def test_only_seeds_that_both_have_are_paired():
    found = paired_difference({"0": 1.0, "1": 3.0, "4": 9.0}, {"1": 1.0, "0": 0.0, "7": 5.0})
    assert found[:2] == (2, 1.5)


def test_one_pair_has_no_interval_and_none_has_nothing():
    assert paired_difference({"3": 2.0}, {"3": 0.5}) == (1, 1.5, None, None)
    assert paired_difference({"3": 2.0}, {"4": 0.5}) == (0, None, None, None)
