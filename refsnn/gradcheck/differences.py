"""Checks by finite differences along random directions, with several steps each.

For a smooth function, the differences at h, h/2, h/4 agree once extrapolated, and the one-sided
ones approach each other in proportion to h. Kinks, jumps and rounding violate one or the other, a
wrong gradient neither, so the two can be distinguished.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from refsnn.gradcheck.layer import (
    ROUNDINGS,
    Array,
    Layer,
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

RUNGS = 4  # attempts, each with a new direction and 1/8 of the last step
KINKS = 16  # at most so many elements are held still to test the others
CONFIRMED = 3  # further directions that must fail before a gradient counts as wrong
STILL = "y does not change: let a spiking layer fire its primitive, or give jvp and smooth=False"
SURE = 10  # an error of so many times the doubt means a wrong gradient
ZERO = 256  # a gradient of 0 may be as large as so many units in the last place of y
COARSE = 30  # a floor of so many times `fine` hides a gradient that is not 0


class Attempt(NamedTuple):
    """A direction that was tried: the derivative's error, and how far it can be trusted."""

    point: Point
    v: Array  # the input's shape, float64
    step: float
    error: float
    doubt: float
    size: float  # of <g, v> without cancellation
    fine: float  # part of the tolerance that is relative to `size`
    floor: float  # part of the tolerance for the rounding of y
    still: bool  # g is nearly 0, and y stays the same when the input moves by its own size

    @property
    def tolerance(self) -> float:
        return self.fine + self.floor


def differences(
    layer: Layer, name: str, directions: int, rtol: float, rng: np.random.Generator
) -> Check:
    """Check random directions; return the first failed, else an undecided, else the worst one."""
    worst: tuple[int, Attempt] | None = None
    undecided: tuple[int, Attempt] | None = None
    every = np.ones(layer.inputs[name].shape)
    for i in range(directions):
        attempt = confirmed(layer, name, rtol, rng, every)
        if verdict(attempt) == "failed":
            return failure(layer, name, i, attempt)
        if verdict(attempt) == "undecided":
            undecided = undecided or (i, attempt)
        elif worst is None or ratio(attempt) > ratio(worst[1]):
            worst = i, attempt
    if undecided:
        return beside_kinks(layer, name, rtol, rng, *undecided)
    assert worst is not None
    i, attempt = worst
    note = ""
    if is_zero(attempt):
        note = "0 to within the rounding of y"
    return Check(name, "differences", "passed", abs(attempt.error), attempt.tolerance, i, note=note)


def confirmed(
    layer: Layer, name: str, rtol: float, rng: np.random.Generator, moves: Array
) -> Attempt:
    """Return an attempt; if it failed, only once others without doubt fail too.

    Kinks of several elements may cancel in one direction.
    """
    attempt = settle(layer, name, rtol, rng, moves)
    if verdict(attempt) != "failed":
        return attempt
    again = [settle(layer, name, rtol, rng, moves) for _ in range(CONFIRMED)]
    return next((other for other in again if not settled_or_sure(other)), attempt)


def beside_kinks(
    layer: Layer, name: str, rtol: float, rng: np.random.Generator, i: int, attempt: Attempt
) -> Check:
    """Return the undecided check, or a failed one found with inputs at kinks held still."""
    first = check = doubt(layer, name, i, attempt)
    moves = np.ones(layer.inputs[name].shape)
    for _ in range(KINKS):
        if check.index is None or not moves[check.index]:
            break
        moves[check.index] = 0
        attempt = confirmed(layer, name, rtol, rng, moves)
        if verdict(attempt) == "failed":
            return failure(layer, name, i, attempt)
        if verdict(attempt) == "passed" or not moves.any():
            break
        check = doubt(layer, name, i, attempt)
    return first


def settle(layer: Layer, name: str, rtol: float, rng: np.random.Generator, moves: Array) -> Attempt:
    """Return the first attempt without doubt, else the one with the least doubt.

    `moves` is 0 for elements that are held still, 1 for the others.
    """
    eps = float(np.finfo(layer.dtype).eps)
    first = eps**0.2  # where rounding / step and step^4 meet
    attempts: list[Attempt] = []
    for rung in range(RUNGS):
        step = first / 8**rung
        point, v = draw_point(layer, name, rng), moves * direction(layer.inputs[name], rng)
        floor = ROUNDINGS * eps * spread(point.dy, point.y) / (first / 4)
        size = spread((point.g,), (v,))
        error, unsure = residual(layer, name, point, v, step)
        still = size <= rounding_of(point) and stays(layer, name, point, v)
        attempts.append(Attempt(point, v, step, error, unsure, size, rtol * size, floor, still))
        if settled(attempts[-1]):
            return attempts[-1]
    return min(attempts, key=lambda attempt: attempt.doubt)


def ratio(attempt: Attempt) -> float:
    return abs(attempt.error) / (attempt.tolerance or 1.0)


def settled(attempt: Attempt) -> bool:
    return attempt.doubt <= attempt.tolerance / 4


def settled_or_sure(attempt: Attempt) -> bool:
    return settled(attempt) or abs(attempt.error) > SURE * attempt.doubt + attempt.tolerance


def too_coarse(attempt: Attempt) -> bool:
    return COARSE * attempt.fine < attempt.floor and not is_zero(attempt)


def is_zero(attempt: Attempt) -> bool:
    """Tell whether the gradient is only rounding, as that of a bias before batch norm."""
    return attempt.still


def rounding_of(point: Point) -> float:
    """Return the size that rounding of y can give to a gradient of 0."""
    return ZERO * float(np.finfo(point.y[0].dtype).eps) * spread(point.dy, point.y)


def stays(layer: Layer, name: str, point: Point, v: Array) -> bool:
    """Tell whether y stays the same, up to rounding, when the input moves by its own size."""
    x = layer.inputs[name]
    far = max(1.0, float(np.abs(x).max(initial=0.0)))
    try:
        y = parts(run(layer, **{name: (x + far * v).astype(layer.dtype)})[0], layer.dtype)
    except ValueError:  # too far for this input
        return False
    return spread(point.dy, minus(y, point.y)) <= rounding_of(point)


def verdict(attempt: Attempt) -> str:
    if settled(attempt) and abs(attempt.error) <= attempt.tolerance:
        return "undecided" if too_coarse(attempt) else "passed"
    return "failed" if settled_or_sure(attempt) else "undecided"


def residual(layer: Layer, name: str, point: Point, v: Array, step: float) -> tuple[float, float]:
    """Return the derivative at s = 0 of r(s) = <dy, y(x + s v)> - <g, s v>, and its doubt.

    It is 0 if g is right. The input is rounded when it moves, so s v is the distance that it really
    moved.
    """
    x = layer.inputs[name]
    central, one_sided = [], []
    for h in (step, step / 2, step / 4):
        r = []
        for s in (h, -h):
            moved = (x + s * v).astype(layer.dtype)
            y = parts(run(layer, **{name: moved})[0], layer.dtype)
            r.append(dot(point.dy, minus(y, point.y)) - dot((point.g,), minus((moved,), (x,))))
        central.append((r[0] - r[1]) / (2 * h))
        one_sided.append((r[0] + r[1]) / h)  # their difference: h r'' + O(h^3) where smooth
    coarse, fine = ((4 * central[i + 1] - central[i]) / 3 for i in (0, 1))  # Richardson: O(h^4)
    unsure = abs(fine - coarse) + abs(one_sided[2] - one_sided[0] / 4)
    return (fine, unsure) if np.isfinite(unsure) else (0.0, np.inf)


def failure(layer: Layer, name: str, i: int, attempt: Attempt) -> Check:
    """Return a failed check, with the element most at fault."""
    point, v, step = attempt.point, attempt.v, attempt.step

    def off(part: Array) -> tuple[float, float]:
        error, unsure = residual(layer, name, point, part, step)
        return abs(error) - SURE * unsure, error

    index, error = worst_element(v, off)
    got = float(point.g[index])
    note = STILL if stands(layer, name, attempt) else ""
    expected, tolerance = got + error / float(v[index]), attempt.tolerance
    return Check(
        name, "differences", "failed", abs(attempt.error), tolerance, i, index, expected, got, note
    )


def stands(layer: Layer, name: str, attempt: Attempt) -> bool:
    """Tell whether y is the same to the last bit one step away."""
    moved = (layer.inputs[name] + attempt.step * attempt.v).astype(layer.dtype)
    y = parts(run(layer, **{name: moved})[0], layer.dtype)
    return not any(map(np.any, minus(y, attempt.point.y)))


def doubt(layer: Layer, name: str, i: int, attempt: Attempt) -> Check:
    """Return an undecided check, with a note on the reason."""
    point, v, step = attempt.point, attempt.v, attempt.step
    check = Check(name, "differences", "undecided", abs(attempt.error), attempt.tolerance, i)
    if not attempt.size and stands(layer, name, attempt):  # else it may be lost in rounding
        return replace(check, note=STILL)
    noise = float(np.finfo(layer.dtype).eps) * spread(point.dy, point.y) / (step / 4)
    if too_coarse(attempt) or attempt.doubt < ROUNDINGS * noise:
        return replace(check, note="the rounding of y hides the derivative: choose a larger rtol")

    def unsure(part: Array) -> tuple[float, float]:
        return residual(layer, name, point, part, step)[::-1]

    index, error = worst_element(v, unsure)
    got, width = float(point.g[index]), abs(step * float(v[index]))
    note = f"kink or sharp bend within the step of {width:.0e}: choose another input there"
    if not np.isfinite(attempt.doubt):
        note = f"y is not finite within the step of {width:.0e}"
    expected = got + error / float(v[index])
    return replace(check, index=index, expected=expected, got=got, note=note)
