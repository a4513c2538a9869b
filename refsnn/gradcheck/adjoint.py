"""Checks of the adjoint identity <dy, J v> = <J^T dy, v>: no step size, and spikes are allowed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refsnn.gradcheck.layer import (
    ROUNDINGS,
    Array,
    Layer,
    Parts,
    Point,
    direction,
    dot,
    draw_point,
    minus,
    parts,
    run,
    spread,
)
from refsnn.gradcheck.report import Check
from refsnn.gradcheck.search import worst_element

#: the layer at a point and a tangent of one input -> J times it
Push = Callable[[Point, Array], Parts]


def adjoint(
    layer: Layer, name: str, push: Push, directions: int, rtol: float, rng: np.random.Generator
) -> Check:
    """Check random directions; return the first that failed, else the worst."""
    eps = float(np.finfo(layer.dtype).eps)
    checks = []
    for i in range(directions):
        point = draw_point(layer, name, rng)
        v = direction(layer.inputs[name], rng).astype(layer.dtype)
        pushed = push(point, v)
        error = abs(dot(point.dy, pushed) - dot((point.g,), (v,)))
        floor = ROUNDINGS * eps * (spread(point.dy, pushed) + spread(point.dy, point.y))
        tolerance = rtol * spread((point.g,), (v,)) + floor
        if not error <= tolerance:  # NaN fails
            failed = Check(name, "adjoint", "failed", error, tolerance, i)
            return at_element(failed, push, point, v)
        checks.append(Check(name, "adjoint", "passed", error, tolerance, i))
    return max(checks, key=lambda check: check.error / (check.tolerance or 1.0))


def at_element(check: Check, push: Push, point: Point, v: Array) -> Check:
    """Add the element most at fault to a failed check."""

    def off(part: Array) -> tuple[float, float]:
        along = dot(point.dy, push(point, part.astype(v.dtype)))
        return abs(along - dot((point.g,), (part,))), along

    index, along = worst_element(v, off)
    return replace(check, index=index, expected=along / float(v[index]), got=float(point.g[index]))


def user_push(layer: Layer, name: str, jvp: Callable[..., Any]) -> Push:
    """Return J v by the user's forward mode; other inputs have tangents of 0."""

    def push(point: Point, v: Array) -> Parts:
        tangents = {other: np.zeros_like(layer.inputs[other]) for other in layer.wrt}
        pushed = parts(jvp(tangents | {name: v}, point.cache), layer.dtype)
        came, want = [p.shape for p in pushed], [p.shape for p in point.y]
        if came != want:
            raise ValueError(f"jvp: got shapes {came}, want {want} like y")
        return pushed

    return push


def affine_push(layer: Layer, name: str) -> Push:
    """Return y(v) - y(0), which is J v where y is affine in the input."""
    zero = parts(run(layer, **{name: np.zeros_like(layer.inputs[name])})[0], layer.dtype)
    zero = tuple(part.copy() for part in zero)

    def push(point: Point, v: Array) -> Parts:
        return minus(parts(run(layer, **{name: v})[0], layer.dtype), zero)

    return push


def affine(layer: Layer, name: str, rtol: float, rng: np.random.Generator) -> Check | None:
    """Return a failed check if y(x + v) - y(x) differs from y(v) - y(0), else None."""
    point = draw_point(layer, name, rng)
    x = layer.inputs[name]
    moved = x + direction(x, rng).astype(layer.dtype)
    pushed = affine_push(layer, name)(point, moved - x)
    y = parts(run(layer, **{name: moved})[0], layer.dtype)
    ones = tuple(np.ones_like(part) for part in y)
    error = max(float(np.max(np.abs(part), initial=0)) for part in minus(minus(y, point.y), pushed))
    tolerance = rtol * (spread(ones, y) + spread(ones, point.y) + spread(ones, pushed))
    if error <= tolerance:
        return None
    note = f"y is not affine in {name}: off by {error:.1e}, tolerance {tolerance:.1e}"
    return Check(name, "adjoint", "failed", error, tolerance, note=note)
