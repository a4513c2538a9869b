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
from refsnn.oracle.slopes import is_own, jumps_of
from refsnn.oracle.tolerances import tolerances
from refsnn.oracle.vectors import Case

Arrays = dict[str, Array]
#: least distance of potentials from the threshold and kinks, where arithmetic rounds
MARGIN = 2e-5
MARGINS = {"training": 1e-4}  # rounding adds up over a training
ATTEMPTS = 10_000
MOST_SPIKES = 30  # per step, whose thresholds potentials keep off
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
    critical, closest = critical_potentials(conventions), [np.inf]
    starts_late = "next step" in str(conventions["reset"]) or bool(conventions["input_delay"])

    def watch(u_pre_seq: Array) -> None:
        distances = np.abs(np.subtract.outer(critical, u_pre_seq))
        # in an exact case a distance of 0 is intended, and cannot be moved by rounding; nor can
        # that of a potential of exactly 0, which a late reset or a delayed input leaves
        known = recipe.exact or starts_late
        closest.append(distances[distances > 0].min(initial=np.inf) if known else distances.min())

    outputs = compute(recipe.level, inputs, recipe.settings, conventions, recipe.repeat, watch)
    return outputs, min(closest)


def representable(value: Array) -> Array:
    """Round numbers to float32 and return them as float64; integers become int64."""
    if np.issubdtype(value.dtype, np.integer):
        return value.astype(np.int64)
    return value.astype(np.float32).astype(np.float64)


def critical_potentials(conventions: Conventions) -> Array:
    """Return the potentials at which spikes or slopes jump."""
    v_th = float(conventions["v_th"])
    spikes = range(1, MOST_SPIKES + 1) if conventions["spikes"] == "several" else [1]
    origin = 0.0 if conventions["surrogate_at"] == "u_pre" else v_th
    return np.array([*(k * v_th for k in spikes), *(origin + x for x in kinks(conventions))])


def kinks(conventions: Conventions) -> list[float]:
    """Return the distances from the threshold at which the slope jumps or bends.

    Of a user's slope only the jumps are known.
    """
    shape, v_th = float(conventions["surrogate_shape"]), float(conventions["v_th"])
    name = str(conventions["surrogate"])
    if is_own(name):
        unit = v_th if conventions["surrogate_unit"] == "v_th" else 1.0
        return [unit * x for x in jumps_of(name)]
    return {
        "rectangular": [-shape / 2, shape / 2],
        "triangular": [-v_th, 0.0, v_th],
        "piecewise_quadratic": [-1 / shape, 0.0, 1 / shape],
        "step": [-shape],
    }.get(name, [])
