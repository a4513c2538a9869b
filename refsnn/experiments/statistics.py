"""Means over seeds, and paired differences with their confidence interval."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """Mean and standard deviation (ddof 1) of n values; None where n is too small."""

    n: int
    mean: float | None
    std: float | None


class Difference(NamedTuple):
    """Mean of n paired differences and its confidence interval; None where n is too small."""

    n: int
    mean: float | None
    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    n = len(values)
    mean = float(np.mean(values)) if n else None
    return Spread(n, mean, float(np.std(values, ddof=1)) if n > 1 else None)


def paired_difference(
    first: Mapping[str, float], second: Mapping[str, float], confidence: float = 0.95
) -> Difference:
    """Return the mean of `first` - `second` over the seeds that both have, with its interval.

    The interval is Student's t with n - 1 degrees of freedom.
    """
    seeds = sorted(first.keys() & second.keys())
    n, mean, std = spread([first[seed] - second[seed] for seed in seeds])
    if mean is None or std is None:
        return Difference(n, mean, None, None)
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, n - 1)) * std / n**0.5
    return Difference(n, mean, mean - half, mean + half)
