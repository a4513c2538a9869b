"""The test vectors: what they are, drawn from fixed seeds, computed here.

Random cases are drawn until no potential lies so close to the threshold (or to a kink of the
slope) that rounding in float32 could move it across; a case is drawn by its own name, so that
adding one changes no other.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refsnn.ops import Array
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import Conventions, Value, make_conventions
from refsnn.oracle.tolerances import tolerances
from refsnn.oracle.vectors import Case

Arrays = dict[str, Array]
#: least distance of potentials from the threshold and kinks, where arithmetic rounds
MARGIN = 2e-5
MARGINS = {"training": 1e-4}  # rounding adds up over a training
ATTEMPTS = 10_000
ULP = 2.0**-23  # of float32, above 1


@dataclass(frozen=True)
class Recipe:
    """How to make a case: `draw` gives its inputs."""

    id: str
    summary: str
    draw: Callable[[np.random.Generator], Arrays]
    clauses: str
    flags: str = ""
    given: dict[str, Value] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    repeat: int = 1
    exact: bool = False

    @property
    def level(self) -> str:
        return self.id.split("/")[0]


def build(recipe: Recipe) -> Case:
    """The first draw without a potential near the threshold."""
    conventions = make_conventions(recipe.given)
    has_exact_potentials = recipe.level in ("surrogate", "neuron") and recipe.exact
    margin = 0.0 if has_exact_potentials else MARGINS.get(recipe.level, MARGIN)
    for attempt in range(ATTEMPTS):
        inputs = recipe.draw(np.random.default_rng([zlib.crc32(recipe.id.encode()), attempt]))
        inputs = {name: representable(value) for name, value in inputs.items()}
        outputs, closest = run(recipe, inputs, conventions)
        if closest >= margin:
            break
    else:
        raise ValueError(f"{recipe.id}: no draw of {ATTEMPTS} keeps off the threshold by {margin}")
    return Case(
        recipe.id,
        recipe.level,
        recipe.summary,
        tuple(recipe.clauses.split()),
        tuple(recipe.flags.split()),
        conventions,
        recipe.settings,
        recipe.repeat,
        recipe.exact,
        inputs,
        outputs,
        tolerances(recipe.level, outputs),
    )


def run(recipe: Recipe, inputs: Arrays, conventions: Conventions) -> tuple[Arrays, float]:
    """The outputs, and the least distance of a potential from the threshold and the kinks."""
    critical, closest = float(conventions["v_th"]) + np.array([0.0, *kinks(conventions)]), [np.inf]

    def watch(u_pre_seq: Array) -> None:
        distances = np.abs(np.subtract.outer(critical, u_pre_seq))
        # what lies there exactly is meant to, where it can't round
        closest.append(distances[distances > 0].min() if recipe.exact else distances.min())

    outputs = compute(recipe.level, inputs, recipe.settings, conventions, recipe.repeat, watch)
    return outputs, min(closest)


def representable(value: Array) -> Array:
    """Numbers that float32 holds, as float64."""
    if np.issubdtype(value.dtype, np.integer):
        return value.astype(np.int64)
    return value.astype(np.float32).astype(np.float64)


def kinks(conventions: Conventions) -> list[float]:
    """Distances from the threshold at which the slope jumps or bends."""
    shape, v_th = float(conventions["surrogate_shape"]), float(conventions["v_th"])
    return {"rectangular": [-shape / 2, shape / 2], "triangular": [-v_th, 0.0, v_th]}.get(
        str(conventions["surrogate"]), []
    )
