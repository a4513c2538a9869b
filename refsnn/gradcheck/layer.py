"""The user's layer: calls, checks of its results, random cotangents and directions."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsnn.gradcheck.frozen import taped

Array = NDArray[Any]
Parts = tuple[Array, ...]  # an output as a tuple, even of one array
ROUNDINGS = 32  # units in the last place by which an output may be off


class Layer(NamedTuple):
    """The functions and inputs to check."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: dict[str, Array]
    wrt: tuple[str, ...]  # inputs to differentiate with respect to, all of `dtype`
    dtype: np.dtype[Any]
    frozen: list[Any]  # what forward gave `stop_gradient` at the inputs


class Point(NamedTuple):
    """The output at the inputs, a cotangent, and the gradient that the layer returns for it."""

    y: Parts
    dy: Parts
    g: Array  # gradient with respect to one input, of its shape, float64
    cache: Any


def run(layer: Layer, **moved: Array) -> tuple[Any, Any]:
    """Call forward with some inputs replaced; return (y, cache).

    The layer gets copies, so that it cannot damage the inputs.
    """
    given = {name: x.copy() for name, x in (layer.inputs | moved).items()}
    return call(layer, given, replays=bool(moved))


def call(layer: Layer, given: dict[str, Array], replays: bool = False) -> tuple[Any, Any]:
    """Call forward and check the form of its result.

    With `replays`, stopped gradients have the values of the last call without.
    """
    with taped(layer.frozen, replays):
        result = layer.forward(**given)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"forward: got {form(result)}, want a pair (y, cache)")
    return result


def form(value: Any) -> str:
    """Describe a value's type."""
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def parts(y: Any, dtype: np.dtype[Any]) -> Parts:
    return tuple(as_array(part, dtype) for part in (y if isinstance(y, tuple) else (y,)))


def as_array(value: Any, dtype: np.dtype[Any]) -> Array:
    """Convert to an array; a Python number takes the layer's dtype."""
    return np.asarray(value, dtype if type(value) in (int, float) else None)


def gradients(layer: Layer, dy: Any, cache: Any) -> dict[str, Array]:
    """Return backward's gradients by name, for the inputs in `wrt`."""
    grads = layer.backward(dy, cache)
    if isinstance(grads, np.ndarray | float | np.floating):
        grads = (grads,)
    if not isinstance(grads, Mapping | tuple | list):
        raise TypeError(f"backward: got {type(grads).__name__}, want a tuple or a dict")
    if not isinstance(grads, Mapping):
        if len(grads) != len(layer.inputs):
            raise ValueError(
                f"backward: got {len(grads)} gradients, want {len(layer.inputs)},"
                f" one for each of {', '.join(layer.inputs)}"
            )
        grads = dict(zip(layer.inputs, grads, strict=True))
    for name in layer.wrt:
        if grads.get(name) is None:
            raise ValueError(
                f"backward: got no gradient with respect to {name}, want one for each of wrt"
            )
    return {name: as_array(grads[name], layer.dtype) for name in layer.wrt}


def draw_point(layer: Layer, name: str, rng: np.random.Generator) -> Point:
    """Call the layer at its inputs with a random cotangent."""
    y, cache = run(layer)
    y_parts = tuple(part.copy() for part in parts(y, layer.dtype))
    dy = cotangent(y, layer.dtype, rng)
    dy_parts = tuple(part.copy() for part in parts(dy, layer.dtype))
    g = gradients(layer, dy, cache)[name].astype(np.float64)
    return Point(y_parts, dy_parts, g, cache)


def cotangent(y: Any, dtype: np.dtype[Any], rng: np.random.Generator) -> Any:
    """Draw normal numbers in y's form, shapes and dtypes."""
    drawn = tuple(
        np.asarray(rng.standard_normal(part.shape), part.dtype) for part in parts(y, dtype)
    )
    return drawn if isinstance(y, tuple) else drawn[0]


def direction(x: Array, rng: np.random.Generator) -> Array:
    """Draw a direction in which every element moves, about as far as x is large.

    The distances differ: otherwise two errors of one size and different signs could cancel.
    """
    scale = float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) or 1.0
    return np.asarray(scale * rng.choice((-1.0, 1.0), x.shape) * rng.uniform(0.5, 1.0, x.shape))


def dot(a: Parts, b: Parts) -> float:
    return sum(float(np.vdot(p.astype(float), q.astype(float))) for p, q in zip(a, b, strict=True))


def spread(a: Parts, b: Parts) -> float:
    """Return the size of <a, b> with random signs, which cancellation cannot reduce."""
    return float(np.sqrt(dot(squares(a), squares(b))))


def squares(a: Parts) -> Parts:
    return tuple(np.square(part, dtype=np.float64) for part in a)


def minus(a: Parts, b: Parts) -> Parts:
    """Return a - b in float64, where the difference of two float32 is exact enough to compare."""
    return tuple(np.subtract(p, q, dtype=np.float64) for p, q in zip(a, b, strict=True))
