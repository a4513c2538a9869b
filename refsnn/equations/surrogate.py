"""The surrogate slopes h = do/du_pre of Eq. 4, each with its primitive.

    triangular: h = gamma max(0, 1 - |u_pre/v_th - 1|)
    rectangular: h = 1/a if |u_pre - v_th| < a/2 else 0
    tanh: h = k (1 - tanh(u_pre - v_th)^2)

All are functions of the distance from the threshold, x = u_pre - v_th. `slope` stands in for
the derivative of the firing; `primitive` is its antiderivative in x, so that a network that
fires `primitive` instead of a step is differentiable and has exactly these slopes (finite
differences can check it). Arrays may have any shape; inputs are never written, and the dtype
of `x` is kept. The slopes of other methods are in `common_surrogates`.
"""

from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from refsnn.equations import common_surrogates as common
from refsnn.equations.validate import as_floats, nearest, one_of, positive

Array = NDArray[Any]
EDGES = ("outside", "inside")  # D4: whether the rectangle includes its edge


@runtime_checkable
class Surrogate(Protocol):
    """A surrogate: one of those below, or any object with these methods."""

    def slope(self, x: Array, v_th: float, /) -> Array:
        """Return h at x = u_pre - v_th, in x's shape."""

    def primitive(self, x: Array, v_th: float, /) -> Array:
        """Return the antiderivative of h in x."""


@dataclass(frozen=True)
class Tanh:
    """The tanh surrogate of height k, Eq. 4's third form read as k (1 - tanh^2) (D5)."""

    k: float = 0.5

    def __post_init__(self) -> None:
        positive("k", self.k)
        as_floats(self, "k")

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = k (1 - tanh(x)^2)."""
        return self.k * (1 - np.tanh(x) ** 2)  # Eq. (4)  # D5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = k (1 + tanh(x))."""
        return self.k * (1 + np.tanh(x))


@dataclass(frozen=True)
class TanhLiteral:
    """Eq. 4's third form as it is printed: a slope that tends to 4k far below v_th (D5)."""

    k: float = 0.5

    def __post_init__(self) -> None:
        positive("k", self.k)
        as_floats(self, "k")

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = k (1 - tanh(x))^2."""
        return self.k * (1 - np.tanh(x)) ** 2  # Eq. (4)  # D5

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = k (2 x - tanh(x) - 2 ln(cosh(x)))."""
        log_cosh = np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - np.log(2)  # no overflow
        return (self.k * (2 * x - np.tanh(x) - 2 * log_cosh)).astype(x.dtype, copy=False)


@dataclass(frozen=True)
class Rectangular:
    """The rectangular surrogate, Eq. 4's second form: 1/a within a/2 of the threshold."""

    a: float = 1.0
    edge: str = "outside"  # D4: whether |x| = a/2 is "outside" or "inside"

    def __post_init__(self) -> None:
        positive("a", self.a)
        as_floats(self, "a")
        one_of("edge", self.edge, EDGES)

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = 1/a if |x| < a/2 else 0."""
        near = np.abs(x) <= self.a / 2 if self.edge == "inside" else np.abs(x) < self.a / 2
        return (1 / self.a) * near.astype(x.dtype)  # Eq. (4)

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = min(max(x/a + 1/2, 0), 1)."""
        return np.clip(x / self.a + 0.5, 0, 1)


@dataclass(frozen=True)
class Triangular:
    """The triangular surrogate of height gamma, Eq. 4's first form.

    The half-width of its base is v_th, or `width` if that is given, so that the threshold can be
    changed while the shape stays the same (R1).
    """

    gamma: float = 1.0
    width: float | None = None

    def __post_init__(self) -> None:
        positive("gamma", self.gamma)
        as_floats(self, "gamma")
        if self.width is not None:
            positive("width", self.width)
            as_floats(self, "width")

    def slope(self, x: Array, v_th: float) -> Array:
        """Return h = gamma max(0, 1 - |x|/v_th)."""
        z = x / (self.width or v_th)
        return self.gamma * np.maximum(0, 1 - np.abs(z))  # Eq. (4)

    def primitive(self, x: Array, v_th: float) -> Array:
        """Return o = gamma v_th (1/2 + z - z |z|/2) at z = min(max(x/v_th, -1), 1)."""
        width = self.width or v_th
        z = np.clip(x / width, -1, 1)
        return self.gamma * width * (0.5 + z - 0.5 * z * np.abs(z))


#: name -> class, whose first field sets the height or width; networks are trained with the first
#: one (D4), unless they are told otherwise
SURROGATES: dict[str, type[Surrogate]] = {
    "tanh": Tanh,  # D4
    "tanh_literal": TanhLiteral,
    "rectangular": Rectangular,
    "triangular": Triangular,
    "sigmoid": common.Sigmoid,  # from here on R5
    "atan": common.ATan,
    "fast_sigmoid": common.FastSigmoid,
    "softsign": common.SoftSign,
    "super_spike": common.SuperSpike,
    "piecewise_quadratic": common.PiecewiseQuadratic,
    "exponential": common.Exponential,
    "gaussian": common.Gaussian,
    "dspike": common.Dspike,
    "rectifier": common.Rectifier,
}


def slopes(surrogate: Surrogate, x: Array, v_th: float) -> Array:
    """Evaluate the surrogate's slope at x = u_pre - v_th, in x's shape and dtype.

    The user's own surrogate may return another precision, or booleans; they are converted to x's
    dtype. TypeError if it does not return real numbers, ValueError for another shape.
    """
    h = surrogate.slope(x, v_th)
    name = type(surrogate).__name__
    if not isinstance(h, np.ndarray) or h.dtype.kind not in "biuf":
        raise TypeError(f"surrogate: got {kind(h)} from {name}.slope, want an array of numbers")
    if h.shape != x.shape:
        raise ValueError(
            f"surrogate: got shape {h.shape} from {name}.slope, want {x.shape} like its x"
        )
    return h.astype(x.dtype, copy=False)


def kind(value: Any) -> str:
    """Return a value's type, and its dtype if it has one."""
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"{type(value).__name__} of {dtype}"


def make_surrogate(name: str, shape: float | None = None, edge: str = "outside") -> Surrogate:
    """Make the surrogate called `name`; `shape` is its k, a, gamma, … (None: its default)."""
    if name not in SURROGATES:
        raise ValueError(f"surrogate: got {name!r}{nearest(name, SURROGATES)}")
    kind: Any = SURROGATES[name]
    given: dict[str, Any] = {} if shape is None else {fields(kind)[0].name: shape}
    if name == "rectangular":
        given["edge"] = edge
    elif name == "dspike" and edge != "outside":
        raise ValueError("surrogate_edge: dspike has its own, Dspike(edge=...)")
    elif edge != "outside":
        raise ValueError(f"surrogate_edge: {name} has no edge, want rectangular")
    made: Surrogate = kind(**given)
    return made
