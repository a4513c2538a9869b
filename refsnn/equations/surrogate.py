"""Eq. 4: the surrogate slopes do/du_pre, each with its primitive.

Every surrogate is a function of the distance from threshold, x = u_pre - v_th.
`slope` stands in for the derivative of the firing; `primitive` is its
antiderivative in x, so that a network that fires `primitive` instead of a step
is differentiable and has exactly these slopes (finite differences can check it).
Inputs are never written; the dtype of `x` is kept.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsnn.equations.validate import as_floats, one_of, positive

Array = NDArray[Any]
EDGES = ("outside", "inside")  # D4: of the rectangle


@dataclass(frozen=True)
class Tanh:
    """Eq. 4, third form, as it is surely meant (D5): k (1 - tanh^2 x)."""

    k: float = 0.5

    def __post_init__(self) -> None:
        positive("k", self.k)
        as_floats(self, "k")

    def slope(self, x: Array, v_th: float) -> Array:
        return self.k * (1 - np.tanh(x) ** 2)  # Eq. (4)  # D5

    def primitive(self, x: Array, v_th: float) -> Array:
        return self.k * (1 + np.tanh(x))


@dataclass(frozen=True)
class TanhLiteral:
    """Eq. 4, third form, as it is printed: k (1 - tanh x)^2, which tends to 4k far below v_th."""

    k: float = 0.5

    def __post_init__(self) -> None:
        positive("k", self.k)
        as_floats(self, "k")

    def slope(self, x: Array, v_th: float) -> Array:
        return self.k * (1 - np.tanh(x)) ** 2  # Eq. (4)  # D5

    def primitive(self, x: Array, v_th: float) -> Array:
        log_cosh = np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - np.log(2)  # no overflow
        return (self.k * (2 * x - np.tanh(x) - 2 * log_cosh)).astype(x.dtype, copy=False)


@dataclass(frozen=True)
class Rectangular:
    """Eq. 4, second form: 1/a within a/2 of the threshold; its edge is outside or inside."""

    a: float = 1.0
    edge: str = "outside"  # D4: is |x| = a/2 "outside" or "inside"

    def __post_init__(self) -> None:
        positive("a", self.a)
        as_floats(self, "a")
        one_of("edge", self.edge, EDGES)

    def slope(self, x: Array, v_th: float) -> Array:
        near = np.abs(x) <= self.a / 2 if self.edge == "inside" else np.abs(x) < self.a / 2
        return (1 / self.a) * near.astype(x.dtype)  # Eq. (4)

    def primitive(self, x: Array, v_th: float) -> Array:
        return np.clip(x / self.a + 0.5, 0, 1)


@dataclass(frozen=True)
class Triangular:
    """Eq. 4, first form: gamma max(0, 1 - |u_pre/v_th - 1|), and u_pre/v_th - 1 = x/v_th.

    `width` replaces v_th as the half-width of the base, so that the threshold
    can be moved while the shape stands still (R1).
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
        z = x / (self.width or v_th)
        return self.gamma * np.maximum(0, 1 - np.abs(z))  # Eq. (4)

    def primitive(self, x: Array, v_th: float) -> Array:
        width = self.width or v_th
        z = np.clip(x / width, -1, 1)
        return self.gamma * width * (0.5 + z - 0.5 * z * np.abs(z))


Surrogate = Tanh | TanhLiteral | Rectangular | Triangular

#: name -> class; the default surrogate is D4's choice.
SURROGATES: dict[str, type[Surrogate]] = {
    "tanh": Tanh,  # D4
    "tanh_literal": TanhLiteral,
    "rectangular": Rectangular,
    "triangular": Triangular,
}
#: name -> the field that scales it
SHAPE_FIELD = {"tanh": "k", "tanh_literal": "k", "rectangular": "a", "triangular": "gamma"}


def slopes(surrogate: Surrogate, x: Array, v_th: float) -> Array:
    """Evaluate the surrogate's slope at x = u_pre - v_th, in x's shape and dtype.

    A surrogate of the user's own may compute in another precision, or count in booleans: what it
    gives is rounded to x's. TypeError where it gives no real numbers, ValueError for another shape.
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
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"{type(value).__name__} of {dtype}"


def make_surrogate(name: str, shape: float | None = None, edge: str = "outside") -> Surrogate:
    """Make the surrogate called `name`; `shape` is its k, a or gamma (None: its default)."""
    if name not in SURROGATES:
        raise ValueError(f"surrogate: got {name!r}, want one of {', '.join(SURROGATES)}")
    fields: dict[str, Any] = {} if shape is None else {SHAPE_FIELD[name]: shape}
    if name == "rectangular":
        fields["edge"] = edge
    elif edge != "outside":
        raise ValueError(f"surrogate_edge: {name} has no edge, want rectangular")
    return SURROGATES[name](**fields)
