"""The rectified potential of InfLoR-SNN (Guo et al., 2022), number by number.

A neuron fires where psi(u_pre) > 1/2. psi increases and psi(1/2) = 1/2, so that these are the
spikes of u_pre > 1/2: psi changes nothing but the slope.
"""

import math


def psi(u):
    """Return 1 - (1 - u)^(1/3) below 0, u^(1/3) above 1, and a tanh from 0 to 1 in between."""
    if u < 0.0:
        return 1.0 - math.cbrt(1.0 - u)
    if u > 1.0:
        return math.cbrt(u)
    return math.tanh(3.0 * (u - 0.5)) / (2.0 * math.tanh(1.5)) + 0.5


def psi_slope(u):
    """Return the derivative of psi; at 0 and 1, where it jumps, that of the tanh."""
    if u < 0.0:
        return 1.0 / (3.0 * math.cbrt(1.0 - u) ** 2)
    if u > 1.0:
        return 1.0 / (3.0 * math.cbrt(u) ** 2)
    return 3.0 * (1.0 - math.tanh(3.0 * (u - 0.5)) ** 2) / (2.0 * math.tanh(1.5))


def slope(u, width=1.0):
    """Return do/du_pre: a rectangle on psi, of area 1 and edges inclusive (M17), times psi'.

    A width of 1, the method's, takes in the potentials from 0 to 1, and no others.
    """
    return psi_slope(u) / width if abs(psi(u) - 0.5) <= width / 2 else 0.0


def primitive(u, width=1.0):
    """Return the antiderivative of `slope` that rises from 0 to 1."""
    return min(max((psi(u) - 0.5) / width + 0.5, 0.0), 1.0)
