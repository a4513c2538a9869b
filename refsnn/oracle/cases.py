"""The test vectors: what they are, drawn from fixed seeds, computed here.

Random cases are drawn until no potential lies so close to the threshold (or to a kink of the
slope) that rounding in float32 could move it across; a case is drawn by its own name, so that
adding one changes no other.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from refsnn.ops import Array
from refsnn.oracle import conventions
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import Conventions, Value
from refsnn.oracle.vectors import Case

Arrays = dict[str, Array]
#: least distance of potentials from the threshold and kinks, where arithmetic rounds
MARGIN = 2e-5
MARGINS = {"training": 1e-4}  # rounding adds up over a training
ULP = 2.0**-23  # of float32, above 1
#: largest difference, as a share of the output's largest element (or of 1e-3 of the largest
#: output's of the same pass), by pass and precision
FORWARD = {"float64": 1e-11, "float32": 2e-5}
BACKWARD = {"float64": 1e-10, "float32": 2e-4}
TRAINED = {"float64": 1e-8, "float32": 2e-3}


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
    of = conventions.make(recipe.given)
    of_numbers = recipe.level in ("surrogate", "neuron") and recipe.exact
    margin = 0.0 if of_numbers else MARGINS.get(recipe.level, MARGIN)
    critical = float(of["v_th"]) + np.array([0.0, *kinks(of)])
    for attempt in count():
        inputs = recipe.draw(np.random.default_rng([zlib.crc32(recipe.id.encode()), attempt]))
        inputs = {name: representable(value) for name, value in inputs.items()}
        closest = [np.inf]

        def watch(u_pre_seq: Array, closest: list[float] = closest) -> None:
            distances = np.abs(np.subtract.outer(critical, u_pre_seq))
            # what lies there exactly is meant to, where it can't round
            closest.append(distances[distances > 0].min() if recipe.exact else distances.min())

        outputs = compute(recipe.level, inputs, recipe.settings, of, recipe.repeat, watch)
        if min(closest) >= margin:
            break
    return Case(
        recipe.id, recipe.level, recipe.summary, tuple(recipe.clauses.split()),
        tuple(recipe.flags.split()), of, recipe.settings, recipe.repeat, recipe.exact, inputs,
        outputs, tolerances(recipe.level, outputs),
    )  # fmt: skip


def representable(value: Array) -> Array:
    """Numbers that float32 holds, as float64."""
    if np.issubdtype(value.dtype, np.integer):
        return value.astype(np.int64)
    return value.astype(np.float32).astype(np.float64)


def kinks(of: Conventions) -> list[float]:
    """Distances from the threshold at which the slope jumps or bends."""
    shape, v_th = float(of["surrogate_shape"]), float(of["v_th"])
    return {
        "rectangular": [-shape / 2, shape / 2], "triangular": [-v_th, 0.0, v_th]
    }.get(str(of["surrogate"]), [])  # fmt: skip


def tolerances(level: str, outputs: Arrays) -> dict[str, dict[str, float]]:
    """Absolute ones, by output and precision."""
    passes = {name: pass_of(level, name) for name in outputs}
    largest = {name: float(np.abs(value).max()) for name, value in outputs.items()}
    floor = {
        id(p): 1e-3 * (max(largest[n] for n in outputs if passes[n] is p) or 1.0)
        for p in passes.values()
    }
    return {
        name: {
            precision: share * max(largest[name], floor[id(passes[name])])
            for precision, share in passes[name].items()
        }
        for name in outputs
    }


def pass_of(level: str, name: str) -> dict[str, float]:
    if level == "training" and name not in ("side", "lr"):
        return TRAINED
    last = name.rpartition(".")[2]
    backward = name.startswith("grad.") or last in ("du_pre", "dc", "dx", "h")
    return BACKWARD if backward else FORWARD
