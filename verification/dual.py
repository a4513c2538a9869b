"""Dual numbers on float64 arrays: every operation computes a value and a directional derivative.

Only elementary rules are implemented (product, quotient, chain rule of a few functions), from which
the derivatives of layers follow. The one rule that isn't calculus is `fire`: a step function with a
surrogate slope.
"""

import math

import numpy as np


class Dual:
    """A value and its tangent, two float64 arrays of the same shape; the tangent defaults to 0."""

    # so that `array * dual` calls __rmul__ instead of making an array of objects
    __array_ufunc__ = None

    def __init__(self, value, tangent=None):
        self.value = np.asarray(value, dtype=np.float64)
        if tangent is None:
            tangent = np.zeros(self.value.shape)
        self.tangent = np.asarray(tangent, dtype=np.float64)
        if self.tangent.shape != self.value.shape:
            raise ValueError(f"value {self.value.shape} and tangent {self.tangent.shape} differ")

    @property
    def shape(self):
        return self.value.shape

    @property
    def ndim(self):
        return self.value.ndim

    def __repr__(self):
        return f"Dual({self.value!r}, {self.tangent!r})"

    def __len__(self):
        return len(self.value)

    def __getitem__(self, key):
        return Dual(self.value[key], self.tangent[key])

    def __neg__(self):
        return Dual(-self.value, -self.tangent)

    def __add__(self, other):
        other = as_dual(other)
        return Dual(self.value + other.value, self.tangent + other.tangent)

    __radd__ = __add__

    def __sub__(self, other):
        other = as_dual(other)
        return Dual(self.value - other.value, self.tangent - other.tangent)

    def __rsub__(self, other):
        return as_dual(other) - self

    def __mul__(self, other):
        other = as_dual(other)
        tangent = self.tangent * other.value + self.value * other.tangent
        return Dual(self.value * other.value, tangent)

    __rmul__ = __mul__

    def __truediv__(self, other):
        other = as_dual(other)
        quotient = self.value / other.value
        return Dual(quotient, (self.tangent - quotient * other.tangent) / other.value)

    def __rtruediv__(self, other):
        return as_dual(other) / self

    def __pow__(self, power):
        """Raise to the power of a plain number."""
        return Dual(self.value**power, power * self.value ** (power - 1) * self.tangent)

    def __matmul__(self, other):
        other = as_dual(other)
        tangent = self.tangent @ other.value + self.value @ other.tangent
        return Dual(self.value @ other.value, tangent)

    def __rmatmul__(self, other):
        return as_dual(other) @ self

    def reshape(self, *shape):
        return Dual(self.value.reshape(*shape), self.tangent.reshape(*shape))

    def sum(self, axis=None, keepdims=False):
        return Dual(_sum(self.value, axis, keepdims), _sum(self.tangent, axis, keepdims))

    def mean(self, axis=None, keepdims=False):
        total = self.sum(axis, keepdims)
        return total / (self.value.size / total.value.size)

    def max_constant(self, axis=None, keepdims=False):
        """Return the maximum as a plain array, for shifts that cancel."""
        return self.value.max(axis=axis, keepdims=keepdims)


def as_dual(x):
    """Return x itself if it is a Dual, otherwise a constant."""
    return x if isinstance(x, Dual) else Dual(x)


def _sum(a, axis, keepdims):
    """Sum over axes pairwise, which NumPy does only along a contiguous last axis."""
    axes = range(a.ndim) if axis is None else np.atleast_1d(axis) % a.ndim
    summed = sorted({int(i) for i in axes})
    kept = [i for i in range(a.ndim) if i not in summed]
    count = int(np.prod([a.shape[i] for i in summed], dtype=int))
    flat = np.ascontiguousarray(a.transpose(kept + summed))
    total = flat.reshape([a.shape[i] for i in kept] + [count]).sum(axis=-1)
    if keepdims:
        return total.reshape([1 if i in summed else n for i, n in enumerate(a.shape)])
    return total


def sqrt(x):
    root = np.sqrt(x.value)
    return Dual(root, x.tangent / (2.0 * root))


def exp(x):
    power = np.exp(x.value)
    return Dual(power, power * x.tangent)


def log(x):
    return Dual(np.log(x.value), x.tangent / x.value)


def tanh(x):
    slope = _one_minus_tanh(x.value) * _one_minus_tanh(-x.value)
    return Dual(np.tanh(x.value), slope * x.tangent)


def arctan(x):
    return Dual(np.arctan(x.value), x.tangent / (1.0 + x.value * x.value))


def erf(x):
    density = 2.0 / math.sqrt(math.pi) * np.exp(-x.value * x.value)
    return Dual(np.vectorize(math.erf, otypes=[float])(x.value), density * x.tangent)


def absolute(x):
    """Return |x|; at 0 with the derivative from above."""
    return x * side(x)


def side(x):
    """Return 1 where x is 0 or more, otherwise -1, as a plain array."""
    return np.where(x.value >= 0.0, 1.0, -1.0)


def clip(x, low, high):
    """Limit x; on the limits the derivative is 1 (M17)."""
    inside = (x.value >= low) & (x.value <= high)
    return Dual(np.clip(x.value, low, high), inside * x.tangent)


def pad(x, widths):
    """Pad with zeros; widths as in numpy.pad."""
    return Dual(np.pad(x.value, widths), np.pad(x.tangent, widths))


def stack(items, axis=0):
    items = [as_dual(item) for item in items]
    return Dual(
        np.stack([item.value for item in items], axis),
        np.stack([item.tangent for item in items], axis),
    )


def concatenate(items, axis=0):
    items = [as_dual(item) for item in items]
    return Dual(
        np.concatenate([item.value for item in items], axis),
        np.concatenate([item.tangent for item in items], axis),
    )


def _one_minus_tanh(x):
    """Compute 1 - tanh x without cancellation at large x."""
    e = np.exp(-2.0 * np.abs(x))
    return np.where(x > 0.0, 2.0 * e, 2.0) / (1.0 + e)


#: primitives of surrogates in common use, of x and the shape; their tangents are the slopes
COMMON = {
    "sigmoid": lambda x, alpha: 0.5 + 0.5 * tanh(alpha / 2.0 * x),
    "atan": lambda x, alpha: 0.5 + arctan(math.pi / 2.0 * alpha * x) / math.pi,
    "fast_sigmoid": lambda x, alpha: x / (1.0 + alpha * absolute(x)),
    "softsign": lambda x, alpha: 0.5 + 0.5 * (alpha * x) / (1.0 + alpha * absolute(x)),
    "super_spike": lambda x, alpha: alpha * x / (1.0 + absolute(x)),
    "piecewise_quadratic": lambda x, alpha: _quadratic(clip(alpha * x, -1.0, 1.0)),
    "exponential": lambda x, alpha: 0.5 + 0.5 * side(x) * (1.0 - exp(-alpha * absolute(x))),
    "gaussian": lambda x, sigma: 0.5 + 0.5 * erf(x / (sigma * math.sqrt(2.0))),
    "dspike": lambda x, b: 0.5 + tanh(b * clip(x, -0.5, 0.5)) / (2.0 * math.tanh(b / 2.0)),
    "rectifier": lambda x, a: 0.5 + _rectified(clip(x, -_end(a), _end(a))) / a,
}


def _end(width):
    """Return the distance from the threshold at which the rectifier is half of this width."""
    if width == 1.0:
        return 0.5
    return math.atanh(width * math.tanh(1.5)) / 3.0 if width < 1.0 else ((width + 1) / 2) ** 3 - 0.5


def _rectified(x):
    """Return tanh(3 x)/(2 tanh(3/2)) within 1/2 of 0, and the cube root of |x| + 1/2 beyond."""
    outside = np.abs(as_dual(x).value) > 0.5
    beyond = side(x) * (exp(log(absolute(x) + 0.5) / 3.0) - 0.5)
    return tanh(3.0 * x) / (2.0 * math.tanh(1.5)) * (1.0 - outside) + beyond * (1.0 * outside)


def _quadratic(z):
    return 0.5 + z - 0.5 * z * absolute(z)


def slope(x, v_th, neuron):
    """Compute the surrogate slope (Eq. 4, D4, D5) at x = u_pre - v_th, on plain arrays."""
    kind, shape = neuron["surrogate"], neuron["surrogate_shape"]
    if kind == "tanh":
        return shape * _one_minus_tanh(x) * _one_minus_tanh(-x)
    if kind == "tanh_literal":
        return shape * _one_minus_tanh(x) ** 2
    if kind == "rectangular":
        distance = np.abs(x)
        inside = (
            distance <= shape / 2.0
            if neuron["surrogate_edge"] == "inside"
            else distance < shape / 2.0
        )
        return inside / shape
    if kind == "triangular":
        return shape * np.maximum(0.0, 1.0 - np.abs(x) / v_th)
    if kind in COMMON:
        return COMMON[kind](Dual(x, np.ones_like(x)), shape).tangent
    raise ValueError(f"unknown surrogate {kind!r}")


def primitive(x, v_th, neuron):
    """Compute an antiderivative of `slope` with respect to x at fixed v_th, on plain arrays."""
    kind, shape = neuron["surrogate"], neuron["surrogate_shape"]
    if kind == "tanh":
        return shape * _one_minus_tanh(-x)
    if kind == "tanh_literal":
        # 2x - tanh x - 2 ln cosh x, with ln cosh x = |x| + ln(1 + e^(-2|x|)) - ln 2
        size = np.abs(x)
        tail = np.log1p(np.exp(-2.0 * size)) - np.log(2.0)
        return shape * (2.0 * (x - size) - np.tanh(x) - 2.0 * tail)
    if kind == "rectangular":
        return np.clip(x / shape + 0.5, 0.0, 1.0)
    if kind == "triangular":
        z = np.clip(x / v_th, -1.0, 1.0)
        return shape * v_th * (0.5 + z - z * np.abs(z) / 2.0)
    if kind in COMMON:
        return COMMON[kind](Dual(x, np.zeros_like(x)), shape).value
    raise ValueError(f"unknown surrogate {kind!r}")


def fire(u_pre, v_th, neuron):
    """Compute spikes (Eq. 2, D2) with the surrogate slope as their derivative (Eq. 4).

    With neuron["smooth"] the value is the slope's primitive, for finite differences.
    """
    u_pre, v_th = as_dual(u_pre), as_dual(v_th)
    x = u_pre - v_th
    if neuron.get("smooth"):
        value = primitive(x.value, v_th.value, neuron)
    elif neuron["fire_at_threshold"]:
        value = u_pre.value >= v_th.value
    else:
        value = u_pre.value > v_th.value
    return Dual(value, slope(x.value, v_th.value, neuron) * x.tangent)
