"""The arrays of one neuron's cases, and numbers that are equal to within rounding."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from refsnn.ops import Array
from refsnn.oracle.comparable import precision_of
from refsnn.oracle.conventions import Value
from refsnn.oracle.vectors import Case

Deviations = dict[str, Value]
Got = Mapping[str, Mapping[str, Any]]  # case id -> output -> array

EXACT, ROUNDED = 1e-8, 3e-4  # largest relative residual of a fit, for float64 and for less
MOST = 1e100  # larger numbers are not measured, as their squares overflow


class Neurons(NamedTuple):
    """The arrays of one case of level neuron, (T, N); None where an array was not given."""

    case: Case
    c: Array
    do: Array
    o: Array | None
    u_pre: Array | None
    u: Array | None
    delta: Array | None  # dL/du_pre
    dc: Array | None
    near: float  # largest relative residual of a fit


def usable(case: Case, got: Mapping[str, Any]) -> dict[str, Array]:
    """Return the arrays of a case that have the right shapes and numbers below MOST, as float64."""
    arrays = {}
    for name, expected in case.outputs.items():
        value = got.get(name)
        value = np.asarray(value) if isinstance(value, np.ma.MaskedArray) else value
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
            continue
        value = value.astype(float)
        if value.shape == expected.shape and (np.abs(value) < MOST).all():
            arrays[name] = value
    return arrays


def near_of(got: Mapping[str, Any]) -> float:
    """Return the largest relative residual of a fit to arrays of this precision."""
    return EXACT if precision_of(got) == "float64" else ROUNDED


def factor_to(h: Array, model: Array) -> float:
    """Return the factor by which a model comes nearest to h, in least squares."""
    square = float((model**2).sum())
    return float((model * h).sum()) / square if square > 0 else 0.0


def neurons(cases: Iterable[Case], got: Got) -> Iterator[Neurons]:
    """Yield the arrays of the cases of level neuron, of plain LIFs."""
    for case in cases:
        if case.level != "neuron" or case.repeat > 1:
            continue
        if case.conventions["neuron_model"] != "lif":
            continue  # its numbers are parameters, which are given
        given = got[case.id]
        arrays = usable(case, given)
        named = {name: arrays.get(name) for name in ("o", "u_pre", "u", "du_pre", "dc")}
        o, u_pre, u, delta, dc = named.values()
        inputs = driven(case, o, dc)
        if inputs is not None:
            yield Neurons(case, *inputs, o, u_pre, u, delta, dc, near_of(given))


def driven(case: Case, o: Array | None, dc: Array | None) -> tuple[Array, Array] | None:
    """Return the currents c and the gradients dL/do (T, N) with the other neurons' share in them.

    None where they are connected, and the spikes or dL/dc that tell this share were not given.
    """
    c, do, v = case.inputs["c"], case.inputs["do"], case.inputs.get("v")
    if v is None:
        return c, do
    if o is None or dc is None:
        return None
    c, do = c.copy(), do.copy()
    c[1:] += o[:-1] @ v.T
    do[:-1] += dc[1:] @ v
    return c, do


def nice(value: float, near: float) -> float:
    """Return the shortest decimal number, or exp(-1/n), within a relative distance."""
    if not math.isfinite(value) or value == 0:
        return value
    for digits in range(1, 8):
        text = float(f"{value:.{digits}g}")
        if abs(text - value) <= near * abs(value):
            return text
        if digits >= 3 and 0 < value < 1:
            n = round(-1 / math.log(value))
            if n > 1 and abs(math.exp(-1 / n) - value) <= near * value:
                return math.exp(-1 / n)
    return value


def nice_within(low: float, high: float) -> float:
    """Return the shortest decimal number from `low` to `high`."""
    middle = (low + high) / 2
    for digits in range(0, 12):
        for candidate in (round(middle, digits), round(low, digits), round(high, digits)):
            if low <= candidate <= high:
                return candidate
    return middle


def constant(values: Sequence[float], near: float) -> float | None:
    """Return what all known values are, as a nice number; None if they differ."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    middle = float(np.median(known))
    if all(abs(value) <= 30 * near for value in known):
        return 0.0
    if any(abs(value - middle) > near * max(abs(middle), 1e-3) * 10 for value in known):
        return None
    return nice(middle, near * 10)


def same(one: float, other: float, near: float) -> bool:
    """Tell whether two numbers are equal to within a relative distance, or unknown."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return True
    return abs(one - other) <= 30 * near * max(abs(one), abs(other), 1e-2)
