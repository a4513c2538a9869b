"""Conversion between PyTorch's axis order, which all cases use, and refsnn's own.

No other module converts. Every function returns a contiguous copy of the same dtype; ValueError or
TypeError names what does not fit.
"""

from collections.abc import Mapping

import numpy as np

from refsnn.network import Params, is_neuron, is_norm
from refsnn.ops import Array

#: orders of axes for transpose, to PyTorch's and from it, with the order that is wanted before
SEQUENCE = ((0, 1, 4, 2, 3), "(T, N, H, W, C)"), ((0, 1, 3, 4, 2), "(T, N, C, H, W)")
IMAGE = ((0, 3, 1, 2), "(N, H, W, C)"), ((0, 2, 3, 1), "(N, C, H, W)")
#: orders for parameters by their number of axes: convolution, linear, per channel
TO_TORCH: dict[int, tuple[int, ...]] = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
FROM_TORCH: dict[int, tuple[int, ...]] = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}


def sequence_to_torch(x: Array) -> Array:
    """Convert (T, N, H, W, C) to (T, N, C, H, W)."""
    return ordered("x", x, *SEQUENCE[0])


def sequence_from_torch(x: Array) -> Array:
    """Convert (T, N, C, H, W) to (T, N, H, W, C)."""
    return ordered("x", x, *SEQUENCE[1])


def image_to_torch(x: Array) -> Array:
    """Convert (N, H, W, C) to (N, C, H, W)."""
    return ordered("x", x, *IMAGE[0])


def image_from_torch(x: Array) -> Array:
    """Convert (N, C, H, W) to (N, H, W, C)."""
    return ordered("x", x, *IMAGE[1])


def param_to_torch(x: Array) -> Array:
    """Convert a parameter to PyTorch's order.

    (kh, kw, C_in, C_out) to (C_out, C_in, kh, kw), (in, out) to (out, in); (C,) stays.
    """
    return ordered("x", x, param_axes(x, TO_TORCH), "")


def param_from_torch(x: Array) -> Array:
    """Convert a parameter from PyTorch's order.

    (C_out, C_in, kh, kw) to (kh, kw, C_in, C_out), (out, in) to (in, out); (C,) stays.
    """
    return ordered("x", x, param_axes(x, FROM_TORCH), "")


def params_to_torch(params: Mapping[str, Array]) -> Params:
    """Convert parameters and running statistics by name; (T, C) of norms and neurons stays."""
    return {n: x.copy() if has_steps(n) else param_to_torch(x) for n, x in params.items()}


def params_from_torch(params: Mapping[str, Array]) -> Params:
    """Convert parameters and running statistics by name; (T, C) of norms and neurons stays."""
    return {n: x.copy() if has_steps(n) else param_from_torch(x) for n, x in params.items()}


def has_steps(name: str) -> bool:
    """Tell whether two axes of this parameter are steps and channels, and not in and out."""
    *_, key = name.rpartition(".")
    return is_norm(name) or is_neuron(name) or key in ("gain", "bias")


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Convert a parameter's shape to PyTorch's order."""
    return tuple(shape[axis] for axis in TO_TORCH[len(shape)])


def param_axes(x: Array, table: dict[int, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the order of axes for a parameter with as many axes as x."""
    require_array("x", x)
    if x.ndim not in table:
        raise ValueError(f"x: got shape {x.shape}, want a parameter of 1, 2 or 4 axes")
    return table[x.ndim]


def ordered(name: str, x: Array, axes: tuple[int, ...], wanted: str) -> Array:
    require_array(name, x)
    if x.ndim != len(axes):
        raise ValueError(f"{name}: got shape {x.shape}, want {wanted}")
    return np.array(x.transpose(axes), order="C")


def require_array(name: str, x: object) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name}: got {type(x).__name__}, want a numpy array")
