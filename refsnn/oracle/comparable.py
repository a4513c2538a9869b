"""Selection of the given arrays that can be compared, with the problems of all others."""

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from refsnn.files.npy import NUMERIC
from refsnn.ops import Array
from refsnn.oracle.tolerances import tolerance
from refsnn.oracle.vectors import Case

#: outputs of a neuron that many implementations do not show; they are compared if they are given
OPTIONAL = ("u_pre", "u", "du_pre", "du0", "dtau", "dv_th")


def comparable(
    case: Case, got: Mapping[str, Any], precision: str, omits: Sequence[str]
) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays that can be compared, and a line about each output that cannot.

    The arrays are float64, in the order of the case's outputs. Outputs that match a pattern of
    `omits` may be missing, and so may those of a neuron that are OPTIONAL.
    """
    arrays = {}
    problems = {
        name: f"{name} is not among the outputs" for name in got if name not in case.outputs
    }
    for name, expected in case.outputs.items():
        if name not in got:
            wanted = case.level != "neuron" or name not in OPTIONAL
            if wanted and not any(fnmatchcase(name, pattern) for pattern in omits):
                problems[name] = f"{name} is missing"
            continue
        text, array = checked(got[name], expected, tolerance(case, name, precision))
        if text:
            problems[name] = f"{name}: {text}"
        else:
            arrays[name] = array
    if not arrays and not problems:
        problems[""] = "no output that could be compared"
    return arrays, problems


def precision_of(got: Mapping[str, Any]) -> str:
    """Return the lowest precision of the arrays, "float64", "float32" or "float16".

    Arrays of whole numbers, such as spikes, do not count: they are the same in any dtype. NumPy
    has no bfloat16, so that it must be declared.
    """
    sizes = [
        array.dtype.itemsize
        for array in got.values()
        if isinstance(array, np.ndarray)
        and array.dtype.kind == "f"
        and (array != np.rint(array)).any()
    ]
    return {2: "float16", 4: "float32"}.get(min(sizes, default=8), "float64")


def in_tolerances(got: Array, expected: Array, tolerance: float) -> float:
    """Return the largest difference in units of the tolerance, finite so that JSON can hold it."""
    with np.errstate(over="ignore"):
        error = float(np.abs(got - expected).max(initial=0.0) / tolerance)
    return error if math.isfinite(error) else sys.float_info.max


def checked(value: Any, expected: Array, tolerance: float) -> tuple[str, Array]:
    """Return what is wrong with a value, or "" and the value as a float64 array."""
    none = np.empty(0)
    if isinstance(value, Exception):  # in the place of an array that can't be read
        return str(value), none
    try:
        array = np.asarray(value)
    except ValueError:
        return "got lists of different lengths, want an array", none
    if array.dtype.kind not in NUMERIC:
        return f"got dtype {array.dtype}, want numbers", none
    if array.shape != expected.shape:
        order = axes_of(array, expected)
        hint = f"; its axes are those of the expected array in the order {order}" if order else ""
        return f"got shape {array.shape}, want {expected.shape}{hint}", none
    array = array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        index = [int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)]
        return f"got {array[tuple(index)]} at index {index}, want finite numbers", none
    if in_tolerances(array, expected, tolerance) > 1:  # the shape may hide that axes are swapped
        order = axes_of(array, expected)
        if order is not None and order != sorted(order):
            return f"its axes are those of the expected array in the order {order}", none
    return "", array


def axes_of(array: Array, expected: Array) -> list[int] | None:
    """Return the order of the expected array's axes in which it equals this array.

    None if there is no such order.
    """
    if array.ndim < 2 or array.ndim > 5 or array.size != expected.size or array.size > 10**6:
        return None
    near = 1e-3 * float(np.abs(expected).max(initial=0.0))
    if not np.isfinite(near):
        return None
    if array.size and abs(array.max() - expected.max()) > near:
        return None  # other numbers, in whatever order; mostly this tells without sorting
    if not np.allclose(np.sort(array, None), np.sort(expected, None), rtol=0, atol=near):
        return None
    for order in itertools.permutations(range(expected.ndim)):
        turned = expected.transpose(order)
        if turned.shape == array.shape and np.allclose(array, turned, rtol=0, atol=near):
            return list(order)
    return None
