"""Checks of a layer's values, without differentiating it."""

from typing import Any

import numpy as np

from refsnn.gradcheck.layer import (
    Array,
    Layer,
    Parts,
    call,
    cotangent,
    direction,
    gradients,
    parts,
    run,
)
from refsnn.gradcheck.report import Check

MOVE = 2.0**-10  # by how much the call in between changes the inputs, relative to their size


def values(layer: Layer, rng: np.random.Generator) -> list[Check]:
    """Return a failed check for every fault, or one passed check each for forward and backward."""
    given = copies(layer.inputs)
    y, cache = call(layer, given)
    faults = [failed("forward", f"writes into {name}") for name in changed(given, layer.inputs)]
    faults += output_faults(parts(y, layer.dtype), layer.dtype)
    if faults:
        return faults
    dy = cotangent(y, layer.dtype, rng)
    before = {f"dy[{i}]": part.copy() for i, part in enumerate(parts(dy, layer.dtype))}
    kept_y = tuple(part.copy() for part in parts(y, layer.dtype))
    grads = gradients(layer, dy, cache)
    after = {f"dy[{i}]": part for i, part in enumerate(parts(dy, layer.dtype))}
    written = [*changed(given, layer.inputs), *changed(after, before)]
    faults = [failed("backward", f"writes into {name}") for name in written]
    faults += gradient_faults(layer, grads)
    if not faults:
        kept_grads = copies(grads)
        call_in_between(layer, rng)
        faults = memory_faults(grads, kept_grads, parts(y, layer.dtype), kept_y)
        dy = in_form(dy, tuple(before.values()))
        faults += repeat_faults(layer, kept_y, kept_grads, dy, cache)
    return faults or [Check(name, "values", "passed") for name in ("forward", "backward")]


def failed(subject: str, note: str) -> Check:
    return Check(subject, "values", "failed", note=note)


def copies(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: x.copy() for name, x in arrays.items()}


def changed(now: dict[str, Array], before: dict[str, Array]) -> list[str]:
    return [name for name, x in now.items() if not same_bits(x, before[name])]


def same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def in_form(model: Any, arrays: Parts) -> Any:
    """Return arrays in the form of a model: a tuple or a single array."""
    return arrays if isinstance(model, tuple) else arrays[0]


def output_faults(y: Parts, dtype: np.dtype[Any]) -> list[Check]:
    faults = []
    for i, part in enumerate(y):
        if part.dtype != dtype:
            faults.append(failed("forward", f"y[{i}] is {part.dtype}, want {dtype} as the inputs"))
        elif not np.isfinite(part).all():
            faults.append(failed("forward", f"y[{i}] is {part[not_finite(part)]}{position(part)}"))
    return faults


def gradient_faults(layer: Layer, grads: dict[str, Array]) -> list[Check]:
    faults = []
    for name, g in grads.items():
        x = layer.inputs[name]
        if g.shape != x.shape:
            faults.append(failed(name, f"gradient's shape is {g.shape}, want {x.shape}"))
        elif g.dtype != x.dtype:
            faults.append(failed(name, f"gradient's dtype is {g.dtype}, want {x.dtype}"))
        elif not np.isfinite(g).all():
            faults.append(failed(name, f"gradient is {g[not_finite(g)]}{position(g)}"))
    return faults


def not_finite(x: Array) -> tuple[int, ...]:
    where = np.unravel_index(int(np.argmin(np.isfinite(x))), x.shape)
    return tuple(int(i) for i in where)


def position(x: Array) -> str:
    return f" at [{', '.join(map(str, not_finite(x)))}]"


def call_in_between(layer: Layer, rng: np.random.Generator) -> None:
    """Call the layer at other inputs: any state that it keeps shows in the calls that follow."""
    moved = {
        name: (layer.inputs[name] + MOVE * direction(layer.inputs[name], rng)).astype(layer.dtype)
        for name in layer.wrt
    }
    y, cache = run(layer, **moved)
    gradients(layer, cotangent(y, layer.dtype, rng), cache)


def memory_faults(
    grads: dict[str, Array], kept_grads: dict[str, Array], y: Parts, kept_y: Parts
) -> list[Check]:
    faults = []
    if not all(map(same_bits, y, kept_y)):
        faults.append(failed("forward", "a later call writes into the y returned before"))
    for name in changed(grads, kept_grads):
        faults.append(
            failed("backward", f"a later call writes into the gradient with respect to {name}")
        )
    return faults


def repeat_faults(
    layer: Layer, kept_y: Parts, kept_grads: dict[str, Array], dy: Any, cache: Any
) -> list[Check]:
    """Repeat the first calls and return the differences.

    The old cache is used again before forward is called.
    """

    def other_gradients(which: str, from_cache: Any) -> list[Check]:
        given = in_form(dy, tuple(part.copy() for part in parts(dy, layer.dtype)))
        return [
            failed(
                "backward",
                f"another gradient with respect to {name} for the same dy and {which} cache",
            )
            for name in changed(gradients(layer, given, from_cache), kept_grads)
        ]

    faults = other_gradients("the same", cache)
    y, new_cache = run(layer)
    again = parts(y, layer.dtype)
    if len(again) != len(kept_y) or not all(map(same_bits, again, kept_y)):
        faults.append(failed("forward", "another y for the same inputs: is state kept?"))
    return faults + other_gradients("a new", new_cache)
