"""The surrogates' slopes (Eq. 4, R5) in compiled loops of float32.

The rational approximation of tanh is off by less than 4 eps, about as much as float32 rounding of
1 - tanh^2. Exponentials, which are at most 1 here, are computed from it, to the same absolute
error: their tails, some eps of the peak, are rounded or 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from refsnn.equations import common_surrogates as common
from refsnn.equations.lif import LIF
from refsnn.equations.surrogate import Rectangular, Tanh, TanhLiteral, Triangular
from refsnn.kernels.vector import absolute, multiply_add, splat, where

# kinds of slopes: those of one kind differ in their constants
TANH, LITERAL, RECTANGLE, TRIANGLE, SUPPORTED, SQUARE, DISTANCE, RATIONAL, INVERSE = range(9)
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

    kind: int
    height: np.float32
    scale: np.float32  # a factor on x
    half: np.float32  # half the width of what is not 0, where there is an edge
    edge_inside: bool  # the edge counts as inside


#: the constants of each class whose slopes are compiled; a subclass may have another slope
CONSTANTS: dict[type[Any], Callable[[Any, float], tuple[float, ...]]] = {
    Tanh: lambda s, v_th: (TANH, s.k, 1),
    TanhLiteral: lambda s, v_th: (LITERAL, s.k, 1),
    Rectangular: lambda s, v_th: (RECTANGLE, 1 / s.a, 1, s.a / 2, s.edge == "inside"),
    Triangular: lambda s, v_th: (TRIANGLE, s.gamma, s.width or v_th),
    common.Sigmoid: lambda s, v_th: (TANH, s.alpha / 4, s.alpha / 2),
    common.ATan: lambda s, v_th: (RATIONAL, s.alpha / 2, np.pi / 2 * s.alpha),
    common.FastSigmoid: lambda s, v_th: (INVERSE, 1, s.alpha),
    common.SoftSign: lambda s, v_th: (INVERSE, s.alpha / 2, s.alpha),
    common.SuperSpike: lambda s, v_th: (INVERSE, s.alpha, 1),
    common.PiecewiseQuadratic: lambda s, v_th: (TRIANGLE, s.alpha, 1 / s.alpha),
    common.Exponential: lambda s, v_th: (DISTANCE, s.alpha / 2, s.alpha / 2),
    common.Gaussian: lambda s, v_th: (SQUARE, 1 / (s.sigma * (2 * np.pi) ** 0.5), 0.5 / s.sigma),
    common.Dspike: lambda s, v_th: (
        *(SUPPORTED, s.b / (2 * s.width * np.tanh(s.b / 2)), s.b / s.width),
        *(s.width / 2, s.edge == "inside"),
    ),
}
SURROGATES = tuple(CONSTANTS)


def slope_of(p: LIF, v_th: float | None = None) -> Slope:
    """Return the constants of the neuron's surrogate; TypeError for a class without a loop.

    `v_th` is the threshold of the neurons, if it isn't p's.
    """
    kind = type(p.surrogate)
    if kind not in CONSTANTS:
        names = ", ".join(known.__name__ for known in SURROGATES)
        raise TypeError(f"surrogate: got {kind.__name__}, want one of {names}")
    number, height, scale, *edge = CONSTANTS[kind](p.surrogate, p.v_th if v_th is None else v_th)
    half, inside = edge or (0, False)
    return Slope(int(number), np.float32(height), np.float32(scale), np.float32(half), bool(inside))


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
    """Return the slope for a vector of x = u_pre - v_th (Eq. 4, R5)."""
    one, zero, height, scale = splat(1), splat(0), splat(slope.height), splat(slope.scale)
    kind = slope.kind
    if kind == TRIANGLE:
        peak = one - absolute(x / scale)
        return height * where(zero > peak, zero, peak)
    if kind == RECTANGLE:
        return within(slope, x, height)
    if kind == RATIONAL:
        z = scale * x
        return height / (one + z * z)
    if kind == INVERSE:
        z = one + absolute(scale * x)
        return height / (z * z)
    z = scale * x
    if kind == SQUARE:
        z = zero - z * z
    if kind == DISTANCE:
        z = zero - absolute(z)
    y = tanh(z)
    if kind == LITERAL:
        return height * ((one - y) * (one - y))
    if kind in (SQUARE, DISTANCE):  # exp(2 z) = (1 + tanh z)/(1 - tanh z)
        return height * ((one + y) / (one - y))
    h = height * (one - y * y)
    return within(slope, x, h) if kind == SUPPORTED else h


@njit(cache=True, error_model="numpy")
def within(slope, x, h):  # type: ignore[no-untyped-def]
    """Return h where x is inside of the slope's edges, and 0 outside."""
    zero, half, distance = splat(0), splat(slope.half), absolute(x)
    edge = where(half > distance, h, zero)
    return where(distance > half, zero, h) if slope.edge_inside else edge
