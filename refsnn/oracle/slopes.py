"""The families of surrogate slopes that implementations use, each with one free parameter.

A slope is a function of x = u_pre - v_th. All but the last two families are refsnn's surrogates.
Slopes that a user gives are added in this process, under names that begin with OWN; `own_slope`
reads them.
"""

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from refsnn.ops import Array, make_surrogate

Slope = Callable[[Array, float, float], Array]  # of x, the parameter and v_th


class Family(NamedTuple):
    """A family of slopes."""

    words: str
    parameter: str
    slope: Slope


def own(name: str) -> Slope:
    """Return one of refsnn's own slopes."""
    return lambda x, shape, v_th: make_surrogate(name, shape).slope(x, v_th)


def straight_through(x: Array, shape: float, v_th: float) -> Array:
    """Return 1 everywhere."""
    return np.ones_like(x)


def step(x: Array, window: float, v_th: float) -> Array:
    """Return 1/v_th where x >= -window, however far above the threshold."""
    return np.where(x >= -window, 1 / v_th, 0.0)


FAMILIES: dict[str, Family] = {
    "tanh": Family("surrogate k (1 - tanh²)", "k", own("tanh")),
    "tanh_literal": Family("surrogate k (1 - tanh)², as printed", "k", own("tanh_literal")),
    "rectangular": Family("surrogate is rectangular", "a", own("rectangular")),
    "triangular": Family("surrogate is triangular", "gamma", own("triangular")),
    "sigmoid": Family("surrogate is the sigmoid's derivative", "alpha", own("sigmoid")),
    "atan": Family("surrogate is arctan's derivative", "alpha", own("atan")),
    "fast_sigmoid": Family(
        "surrogate 1/(1 + alpha|x|)² (fast sigmoid)", "alpha", own("fast_sigmoid")
    ),
    "softsign": Family("surrogate alpha/2/(1 + alpha|x|)² (softsign)", "alpha", own("softsign")),
    "super_spike": Family(
        "surrogate alpha/(1 + |x|)² (SpikingJelly's SuperSpike)", "alpha", own("super_spike")
    ),
    "piecewise_quadratic": Family(
        "surrogate alpha max(0, 1 - alpha|x|) (piecewise quadratic)",
        "alpha",
        own("piecewise_quadratic"),
    ),
    "exponential": Family("surrogate alpha/2 exp(-alpha|x|)", "alpha", own("exponential")),
    "gaussian": Family("surrogate is a Gaussian's density", "sigma", own("gaussian")),
    "dspike": Family("surrogate is Dspike's, of width 1", "b", own("dspike")),
    "rectifier": Family("surrogate is InfLoR's rectifier", "width", own("rectifier")),
    "step": Family("surrogate is 1/v_th from window below the threshold upwards", "window", step),
    "straight_through": Family("surrogate is 1 everywhere", "unused", straight_through),
}
EQ4 = ("tanh", "tanh_literal", "rectangular", "triangular")

OWN = "own: "


class Given(NamedTuple):
    """A slope that a user gave, and what it was made of: a function, or a table."""

    slope: Callable[[Array], Array]
    source: Any


GIVEN: dict[str, Given] = {}  # by a name that begins with OWN


def add(name: str, slope: Callable[[Array], Array], source: Any) -> str:
    """Add a user's slope, and return its name among the conventions.

    What was added before keeps its name; another slope gets a number behind the name.
    """
    for number in itertools.count(1):
        full = f"{OWN}{name} ({number})" if number > 1 else OWN + name
        if same(GIVEN.setdefault(full, Given(slope, source)).source, source):
            return full
    raise AssertionError


def same(one: Any, other: Any) -> bool:
    """Tell whether two functions or tables are the same."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and np.array_equal(one, other)
    return bool(one == other)


def is_own(name: object) -> bool:
    """Tell whether a convention's value names a user's slope, be it known or not."""
    return isinstance(name, str) and name.startswith(OWN)


def family_of(name: str) -> Family:
    """Return a family by its name, or that of a user's slope, which has no parameter."""
    if not is_own(name):
        return FAMILIES[name]
    given = name.removeprefix(OWN)
    return Family(f"surrogate {given} (one's own)", "", lambda x, shape, v_th: GIVEN[name].slope(x))


@cache
def jumps_of(name: str) -> tuple[float, ...]:
    """Return the distances from the threshold, up to 8, at which a user's slope jumps.

    Intervals of a fine grid are halved around the larger difference; what is left of a jump then
    is as large as before.
    """
    slope, x = GIVEN[name].slope, np.linspace(-8, 8, 12_801) + 1e-9
    low, high = x[:-1], x[1:]
    least = np.abs(slope(x)).max() * 1e-3
    wide = np.abs(slope(high) - slope(low)) > least
    low, high = low[wide], high[wide]
    for _ in range(40):
        middle = (low + high) / 2
        left = np.abs(slope(middle) - slope(low)) > np.abs(slope(high) - slope(middle))
        low, high = np.where(left, low, middle), np.where(left, middle, high)
    found = (low + high)[np.abs(slope(high) - slope(low)) > least] / 2
    return tuple(found.tolist())
