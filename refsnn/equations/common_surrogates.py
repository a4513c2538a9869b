"""Surrogate slopes in common use beside those of Eq. 4, each with its primitive (R5).

    sigmoid: h = alpha exp(-alpha |x|)/(1 + exp(-alpha |x|))^2
    atan: h = (alpha/2)/(1 + (pi alpha x/2)^2)
    fast sigmoid: h = 1/(1 + alpha |x|)^2
    softsign: h = (alpha/2)/(1 + alpha |x|)^2
    SuperSpike: h = alpha/(1 + |x|)^2
    piecewise quadratic: h = alpha max(0, 1 - alpha |x|)
    exponential: h = (alpha/2) exp(-alpha |x|)
    Gaussian: h = exp(-(x/sigma)^2/2)/(sigma sqrt(2 pi))
    Dspike: h = b (1 - tanh(b x/width)^2)/(2 width tanh(b/2)) if |x| <= width/2 else 0
    rectifier: h = dpsi(|x|)/width if psi(|x|) <= width/2 else 0

As those of `surrogate`, they are functions of x = u_pre - v_th, in x's shape and dtype. Names and
parameters are those of SpikingJelly and snnTorch, where these have them. The slopes have area 1,
but for `FastSigmoid` (2/alpha) and `SuperSpike` (2 alpha).
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsnn.equations.validate import as_floats, one_of, positive

Array = NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """A surrogate with one number that sets its height or width."""

    def __post_init__(self) -> None:
        name = fields(self)[0].name
        positive(name, getattr(self, name))
        as_floats(self, name)


@dataclass(frozen=True)
class Sigmoid(Shape):
    """The derivative of the sigmoid function, alpha/4 high."""

    alpha: float = 4.0

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = alpha exp(-alpha |x|)/(1 + exp(-alpha |x|))^2."""
        e = np.exp(-self.alpha * np.abs(x))
        return self.alpha * e / (1 + e) ** 2  # R5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = (1 + tanh(alpha x/2))/2."""
        return (1 + np.tanh(self.alpha / 2 * x)) / 2


@dataclass(frozen=True)
class ATan(Shape):
    """The derivative of the arctangent, alpha/2 high."""

    alpha: float = 2.0

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = (alpha/2)/(1 + (pi alpha x/2)^2)."""
        return self.alpha / 2 / (1 + (np.pi / 2 * self.alpha * x) ** 2)  # R5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = arctan(pi alpha x/2)/pi + 1/2."""
        return np.arctan(np.pi / 2 * self.alpha * x) / np.pi + 0.5


@dataclass(frozen=True)
class FastSigmoid(Shape):
    """The derivative of the fast sigmoid x/(1 + alpha |x|), 1 high (Zenke and Ganguli, 2018)."""

    alpha: float = 25.0

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = 1/(1 + alpha |x|)^2."""
        return 1 / (1 + self.alpha * np.abs(x)) ** 2  # R5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = x/(1 + alpha |x|)."""
        return x / (1 + self.alpha * np.abs(x))


@dataclass(frozen=True)
class SoftSign(Shape):
    """The fast sigmoid's derivative with area 1, alpha/2 high."""

    alpha: float = 2.0

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = (alpha/2)/(1 + alpha |x|)^2."""
        return self.alpha / 2 / (1 + self.alpha * np.abs(x)) ** 2  # R5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = (alpha x/(1 + alpha |x|) + 1)/2."""
        return (self.alpha * x / (1 + self.alpha * np.abs(x)) + 1) / 2


@dataclass(frozen=True)
class SuperSpike(Shape):
    """The fast sigmoid's derivative of width 1, alpha high."""

    alpha: float = 1.0

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = alpha/(1 + |x|)^2."""
        return self.alpha / (1 + np.abs(x)) ** 2  # R5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = alpha x/(1 + |x|)."""
        return self.alpha * x / (1 + np.abs(x))


@dataclass(frozen=True)
class PiecewiseQuadratic(Shape):
    """A triangle of area 1, alpha high: the derivative of a piecewise quadratic function."""

    alpha: float = 1.0

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = alpha max(0, 1 - alpha |x|)."""
        return self.alpha * np.maximum(0, 1 - self.alpha * np.abs(x))  # R5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = 1/2 + z - z |z|/2 at z = min(max(alpha x, -1), 1)."""
        z = np.clip(self.alpha * x, -1, 1)
        return 0.5 + z - 0.5 * z * np.abs(z)


@dataclass(frozen=True)
class Exponential(Shape):
    """A slope that falls exponentially on both sides, alpha/2 high."""

    alpha: float = 1.0

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = (alpha/2) exp(-alpha |x|)."""
        return self.alpha / 2 * np.exp(-self.alpha * np.abs(x))  # R5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = 1/2 + sign(x) (1 - exp(-alpha |x|))/2."""
        return 0.5 - 0.5 * np.sign(x) * np.expm1(-self.alpha * np.abs(x))


@dataclass(frozen=True)
class Gaussian(Shape):
    """The density of a normal distribution of standard deviation sigma (Wu et al., 2018)."""

    sigma: float = 0.5

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = exp(-(x/sigma)^2/2)/(sigma sqrt(2 pi))."""
        return np.exp(-0.5 * (x / self.sigma) ** 2) / (self.sigma * float(np.sqrt(2 * np.pi)))  # R5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = (1 + erf(x/(sigma sqrt(2))))/2."""
        from scipy.special import erf

        return (1 + erf(x / (self.sigma * float(np.sqrt(2))))) / 2


@dataclass(frozen=True)
class Dspike(Shape):
    """A scaled piece of tanh's derivative, zero beyond `width`/2, of area 1 (Li et al., 2021).

    For small b it is rectangular, for large b a narrow peak.
    """

    b: float = 3.0
    width: float = 1.0
    edge: str = "inside"  # M17: whether |x| = width/2 is "inside" or "outside"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("width", self.width)
        as_floats(self, "width")
        one_of("edge", self.edge, ("outside", "inside"))

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = b (1 - tanh(b x/width)^2)/(2 width tanh(b/2)) if |x| <= width/2 else 0."""
        distance = np.abs(x)
        half = self.width / 2
        near = distance <= half if self.edge == "inside" else distance < half  # M17
        peak = self.b / (2 * self.width * float(np.tanh(self.b / 2)))
        return near * (peak * (1 - np.tanh(self.b / self.width * x) ** 2))  # R5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = tanh(b z)/(2 tanh(b/2)) + 1/2 at z = min(max(x/width, -1/2), 1/2)."""
        z = np.clip(x / self.width, -0.5, 0.5)
        return np.tanh(self.b * z) / (2 * float(np.tanh(self.b / 2))) + 0.5


@dataclass(frozen=True)
class Rectifier(Shape):
    """A rectangle on potentials that are rectified first (InfLoR-SNN; Guo et al., 2022).

        psi(z) = tanh(3 z)/(2 tanh(3/2)) if z <= 1/2 else (z + 1/2)^(1/3) - 1/2

    psi, with the derivative dpsi, is of the distance z = |x|. It rises from 0, so it never changes
    a spike, and is there for its slope alone. With `width` 1 this is Dspike with b = 3; a wider
    rectangle has tails.
    """

    width: float = 1.0

    @property
    def half(self) -> float:
        """Return the z at which psi is width/2."""
        if self.width == 1:
            return 0.5  # M17: exactly, since neurons at rest lie there with v_th = 1/2
        if self.width < 1:
            return float(np.arctanh(self.width * np.tanh(1.5)) / 3)
        return ((self.width + 1) / 2) ** 3 - 0.5

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = dpsi(|x|)/width if psi(|x|) <= width/2 else 0."""
        z = np.abs(x)
        inner = 3 * (1 - np.tanh(3 * z) ** 2) / (2 * float(np.tanh(1.5)))
        outer = np.maximum(z + 0.5, 1) ** (-2 / 3) / 3
        return (z <= self.half) * np.where(z <= 0.5, inner, outer) / self.width  # R5  # M17

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = sign(x) min(psi(|x|)/width, 1/2) + 1/2."""
        z = np.abs(x)
        outer = np.cbrt(np.maximum(z + 0.5, 1)) - 0.5
        psi = np.where(z <= 0.5, np.tanh(3 * z) / (2 * float(np.tanh(1.5))), outer)
        return np.sign(x) * np.minimum(psi / self.width, 0.5) + 0.5
