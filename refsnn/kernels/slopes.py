"""The surrogates' slopes (Eq. 4) in compiled loops of float32.

The rational approximation of tanh is off by less than 4 eps, about as much as float32 rounding of
1 - tanh^2.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from refsnn.equations.lif import LIF
from refsnn.equations.surrogate import Rectangular, Tanh, TanhLiteral, Triangular

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
TANH_EDGE = 7.90531110763549805  # where tanh is 1 in float32
ODD, EVEN = (tuple(np.float32(c) for c in terms) for terms in (TANH_ODD, TANH_EVEN))
EDGE = np.float32(TANH_EDGE)


class Slope(NamedTuple):
    """A surrogate's constants."""

    kind: int  # index in SURROGATES
    shape: np.float32  # k, a or gamma
    width: np.float32  # half the triangle's base
    edge_inside: bool  # the rectangle's edge has its height


def slope_of(p: LIF) -> Slope:
    """Return the constants of the neuron's surrogate; TypeError for a class without a loop."""
    s, one = p.surrogate, np.float32(1)
    if type(s) not in SURROGATES:
        names = ", ".join(known.__name__ for known in SURROGATES)
        raise TypeError(f"surrogate: got {type(s).__name__}, want one of {names}")
    kind = SURROGATES.index(type(s))
    if isinstance(s, Rectangular):
        return Slope(kind, np.float32(s.a), one, s.edge == "inside")
    if isinstance(s, Triangular):
        return Slope(kind, np.float32(s.gamma), np.float32(s.width or p.v_th), False)
    assert isinstance(s, Tanh | TanhLiteral)
    return Slope(kind, np.float32(s.k), one, False)


@njit(cache=True, error_model="numpy")
def slopes(slope, v_th, u_pre, h):  # type: ignore[no-untyped-def]
    """Write Eq. 4 for the potentials u_pre into h."""
    one, kind, shape = np.float32(1), slope.kind, slope.shape
    if kind <= 1:
        for m in range(u_pre.size):
            x = min(max(u_pre[m] - v_th, -EDGE), EDGE)
            square = x * x
            odd = ODD[0] * square + ODD[1]
            odd = (odd * square + ODD[2]) * square + ODD[3]
            odd = ((odd * square + ODD[4]) * square + ODD[5]) * square + ODD[6]
            even = EVEN[0] * square + EVEN[1]
            even = (even * square + EVEN[2]) * square + EVEN[3]
            tanh = x * odd / even
            h[m] = shape * (one - tanh * tanh) if kind == 0 else shape * (one - tanh) * (one - tanh)
    elif kind == 2:
        half, height = shape / np.float32(2), one / shape
        for m in range(u_pre.size):
            x = abs(u_pre[m] - v_th)
            h[m] = height if x < half or (slope.edge_inside and x == half) else np.float32(0)
    else:
        for m in range(u_pre.size):
            h[m] = shape * max(np.float32(0), one - abs((u_pre[m] - v_th) / slope.width))
