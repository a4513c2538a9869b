"""What half precisions cannot show: cases, or gradients, that are then not judged.

float16 and bfloat16 hold 11 and 8 binary digits. Where potentials are large, rounding alone moves
them across a surrogate; and where one is rounded across the rectangle's edge, its slope jumps.
"""

from collections.abc import Mapping

import numpy as np

from refsnn.ops import Array
from refsnn.oracle.order import quantity
from refsnn.oracle.slopes import is_own, jumps_of
from refsnn.oracle.tolerances import BACKWARD, HALVES, ROUNDOFF, pass_of, tolerance
from refsnn.oracle.vectors import Case

LARGEST, SMALLEST = 65504.0, 2.0**-14  # of float16's normal numbers
#: rounding of a potential in units of v_th that changes a surrogate's slope beyond recognition
BLUR = 1 / 16


def rounded(array: Array, precision: str) -> Array:
    """Round an array to a half precision, to nearest and ties to even, and return it as float64."""
    if precision == "float16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(np.float64)
    bits: Array = np.asarray(array, np.float32).view(np.uint32).astype(np.int64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def unfit(case: Case, precision: str) -> str:
    """Say why a case cannot be judged in a half precision, "" where it can."""
    if precision not in HALVES:
        return ""
    if case.level == "training":
        return "rounding adds up over its iterations"
    if case.level == "neuron" and case.conventions["neuron_model"] != "lif":
        return f"spikes that rounding moves are not followed for {case.conventions['neuron_model']}"
    surrogate = str(case.conventions["surrogate"])
    if is_own(surrogate) and jumps_of(surrogate):
        return "its surrogate's slope jumps, and rounding moves potentials across"
    for name, array in (*case.inputs.items(), *case.outputs.items()):
        largest = float(np.abs(array).max(initial=0.0))
        if precision == "float16" and largest > LARGEST:
            return f"{name} reaches {largest:.3g}, float16 ends at {LARGEST:g}"
        if precision == "float16" and name in case.inputs and 0 < largest < SMALLEST:
            return f"{name} is {largest:.3g} at most, too small for float16"
        if quantity(name) == "u_pre" and name in case.outputs:
            step = largest * ROUNDOFF[precision]
            if step > BLUR * float(case.conventions["v_th"]):
                return f"{name} reaches {largest:.3g}, where rounding moves it by {step:.2g}"
    return ""


def is_exact(case: Case, potential: str, precision: str) -> bool:
    """Tell whether rounding flips no spike of these potentials."""
    if precision not in HALVES or not case.exact:
        return case.exact
    u_pre = case.outputs[potential]
    return bool((rounded(u_pre, precision) == u_pre).all())


def jumps(case: Case, got: Mapping[str, Array], precision: str) -> dict[str, Array]:
    """Return masks of the gradients that a rounded potential may change by a slope's jump.

    Beyond neurons without connections a jump reaches all gradients that are computed after it.
    """
    if precision not in HALVES or case.conventions["surrogate"] != "rectangular":
        return {}
    backward = [n for n in case.outputs if pass_of(case.level, n) is BACKWARD]
    if case.level == "surrogate":
        u_pre = case.inputs["u_pre"]
        rounding = 2 * ROUNDOFF[precision] * (np.abs(u_pre) + float(case.conventions["v_th"]))
        return {"h": across(case, u_pre, rounded(u_pre, precision), rounding, rounding)}
    masks, reached = {}, False
    alone = case.level == "neuron" and "v" not in case.inputs
    for name in backward:
        whole = np.ones_like(case.outputs[name], dtype=bool)
        potential = name.removesuffix("du_pre") + "u_pre"
        if quantity(name) in ("du_pre", "dc") and alone:
            hit = hits(case, got, "u_pre", precision)  # a step's slope reaches the steps before
            masks[name] = np.logical_or.accumulate(hit[::-1])[::-1]
        elif quantity(name) == "du_pre":
            reached = reached or bool(hits(case, got, potential, precision).any())
            masks[name] = whole & reached
        else:
            places = [n for n in case.outputs if quantity(n) == "u_pre"]
            masks[name] = whole & any(hits(case, got, n, precision).any() for n in places)
    return masks


def hits(case: Case, got: Mapping[str, Array], potential: str, precision: str) -> Array:
    """Return where rounding moves a potential across the rectangle's edge."""
    expected = case.outputs[potential]
    near = tolerance(case, potential, precision)
    given = got.get(potential)
    rounding = 2 * ROUNDOFF[precision] * (np.abs(expected) + float(case.conventions["v_th"]))
    return across(case, expected, given, near, rounding)


def across(
    case: Case, expected: Array, given: Array | None, near: Array | float, rounding: Array
) -> Array:
    """Return where potentials lie `near` an edge, and those given beyond or within `rounding`."""
    x, half = expected - float(case.conventions["v_th"]), float(case.conventions["surrogate_shape"])
    half /= 2
    close: Array = np.abs(np.abs(x) - half) <= near
    if given is None:
        return close
    theirs = np.abs(given - float(case.conventions["v_th"]))
    other_side = (theirs < half) != (np.abs(x) < half)
    return close & (other_side | (np.abs(theirs - half) <= rounding))
