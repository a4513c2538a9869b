"""Making of the test vectors: inputs drawn from fixed seeds, outputs computed by refsnn.

Random inputs are redrawn until no potential lies so close to the threshold (or to a kink of the
surrogate's slope) that rounding in float32 could move it across. The seed is the case's id, so that
adding a case changes no other.
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
    """Instructions for making a case; `draw` returns its inputs."""

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
    """Return the case with the first inputs that keep all potentials off the threshold.

    ValueError if ATTEMPTS draws do not.
    """
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
    """Return the outputs, and the least distance of a potential from a threshold or kink."""
    critical, closest = float(conventions["v_th"]) + np.array([0.0, *kinks(conventions)]), [np.inf]

    def watch(u_pre_seq: Array) -> None:
        distances = np.abs(np.subtract.outer(critical, u_pre_seq))
        # in an exact case a distance of 0 is intended, and cannot be moved by rounding
        closest.append(distances[distances > 0].min() if recipe.exact else distances.min())

    outputs = compute(recipe.level, inputs, recipe.settings, conventions, recipe.repeat, watch)
    return outputs, min(closest)


def representable(value: Array) -> Array:
    """Round numbers to float32 and return them as float64; integers become int64."""
    if np.issubdtype(value.dtype, np.integer):
        return value.astype(np.int64)
    return value.astype(np.float32).astype(np.float64)


def kinks(conventions: Conventions) -> list[float]:
    """Return the distances from the threshold at which the slope jumps or bends."""
    shape, v_th = float(conventions["surrogate_shape"]), float(conventions["v_th"])
    return {"rectangular": [-shape / 2, shape / 2], "triangular": [-v_th, 0.0, v_th]}.get(
        str(conventions["surrogate"]), []
    )
