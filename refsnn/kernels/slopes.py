"""The surrogates' slopes (Eq. 4) in compiled loops of float32.

The rational approximation of tanh is off by less than 4 eps, about as much as float32 rounding of
1 - tanh^2.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.lif import LIF
from refsnn.equations.surrogate import Rectangular, Tanh, TanhLiteral, Triangular
from refsnn.kernels.vector import absolute, multiply_add, splat, where

#: the classes whose slopes are compiled, by `Slope.kind`; a subclass may have another slope
SURROGATES = Tanh, TanhLiteral, Rectangular, Triangular
#: numerator (odd) and denominator (even) of tanh's rational approximation, highest power first
TANH_ODD = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
TANH_EVEN = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
TANH_EDGE = 7.90531110763549805  # from here on, tanh is taken for 1, which is 2 eps off
ODD, EVEN = (tuple(np.float32(c) for c in terms) for terms in (TANH_ODD, TANH_EVEN))
EDGE = np.float32(TANH_EDGE)


class Slope(NamedTuple):
    """A surrogate's constants."""

    kind: int  # index in SURROGATES
    shape: np.float32  # k, a or gamma
    other: np.float32  # half the triangle's base, or the rectangle's height
    edge_inside: bool  # the rectangle's edge has its height


def slope_of(p: LIF) -> Slope:
    """Return the constants of the neuron's surrogate; TypeError for a class without a loop."""
    s, one = p.surrogate, np.float32(1)
    if type(s) not in SURROGATES:
        names = ", ".join(known.__name__ for known in SURROGATES)
        raise TypeError(f"surrogate: got {type(s).__name__}, want one of {names}")
    kind = SURROGATES.index(type(s))
    if isinstance(s, Rectangular):
        return Slope(kind, np.float32(s.a), np.float32(1 / s.a), s.edge == "inside")
    if isinstance(s, Triangular):
        return Slope(kind, np.float32(s.gamma), np.float32(s.width or p.v_th), False)
    assert isinstance(s, Tanh | TanhLiteral)
    return Slope(kind, np.float32(s.k), one, False)


@njit(cache=True, error_model="numpy")
def tanh(x):  # type: ignore[no-untyped-def]
    """Return the hyperbolic tangent of a vector."""
    one, edge = splat(1), splat(EDGE)
    square, odd, even = x * x, splat(ODD[0]), splat(EVEN[0])
    for k in range(1, len(ODD)):
        odd = multiply_add(odd, square, splat(ODD[k]))
    for k in range(1, len(EVEN)):
        even = multiply_add(even, square, splat(EVEN[k]))
    y = x * odd / even
    return where(x > edge, one, where(splat(-EDGE) > x, splat(-1), y))  # keeps NaN


@njit(cache=True, error_model="numpy")
def slope_at(slope, x):  # type: ignore[no-untyped-def]
    """Return Eq. 4 for a vector of x = u_pre - v_th."""
    one, zero, shape = splat(1), splat(0), splat(slope.shape)
    if slope.kind == 0:
        y = tanh(x)
        return shape * (one - y * y)
    if slope.kind == 1:
        y = tanh(x)
        return shape * ((one - y) * (one - y))
    if slope.kind == 2:
        height, half = splat(slope.other), shape / splat(2)
        edge = where(half > absolute(x), height, zero)
        outside = absolute(x) > half
        return where(outside, zero, height) if slope.edge_inside else edge
    peak = one - absolute(x / splat(slope.other))
    return shape * where(zero > peak, zero, peak)
