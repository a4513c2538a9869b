"""The test vectors: what they are, drawn from fixed seeds, computed here.

Random cases are drawn until no potential lies so close to the threshold (or to a kink of the
slope) that rounding in float32 could move it across; a case is drawn by its own name, so that
adding one changes no other.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
BATCHES = ("images", "labels")  # inputs and
SERIES = ("side", "lr", "loss")  # outputs with an entry for each iteration of a training
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
    for attempt in count():
        inputs = recipe.draw(np.random.default_rng([zlib.crc32(recipe.id.encode()), attempt]))
        inputs = {name: representable(value) for name, value in inputs.items()}
        outputs, closest = run(recipe, inputs, of)
        if closest >= margin:
            break
    return Case(
        recipe.id, recipe.level, recipe.summary, tuple(recipe.clauses.split()),
        tuple(recipe.flags.split()), of, recipe.settings, recipe.repeat, recipe.exact, inputs,
        outputs, tolerances(recipe.level, outputs),
    )  # fmt: skip


def run(recipe: Recipe, inputs: Arrays, of: Conventions) -> tuple[Arrays, float]:
    """The outputs, and the least distance of a potential from the threshold and the kinks."""
    critical, closest = float(of["v_th"]) + np.array([0.0, *kinks(of)]), [np.inf]

    def watch(u_pre_seq: Array) -> None:
        distances = np.abs(np.subtract.outer(critical, u_pre_seq))
        # what lies there exactly is meant to, where it can't round
        closest.append(distances[distances > 0].min() if recipe.exact else distances.min())

    outputs = compute(recipe.level, inputs, recipe.settings, of, recipe.repeat, watch)
    return outputs, min(closest)


def recompute(
    case: Case,
    changes: Mapping[str, Value] | None = None,
    decided: Mapping[str, Array] | None = None,
) -> Case:
    """The case as it is with other conventions, or where spikes are `decided` whatever the
    threshold says: those of any output `o`, NaN where the threshold decides."""
    of, spikes = conventions.make({**case.conventions, **(changes or {})}), list[Array]()
    if decided:
        layers = [name for name in case.outputs if name.rpartition(".")[2] == "o"]
        spikes = [decided.get(o, np.full_like(case.outputs[o], np.nan)) for o in layers]
    with np.errstate(all="ignore"):  # some explode
        outputs = compute(case.level, case.inputs, case.settings, of, case.repeat, decided=spikes)
    outputs = {name: outputs[name] for name in case.outputs}
    return replace(
        case, outputs=outputs, conventions=of, tolerances=tolerances(case.level, outputs)
    )


def beginning(case: Case) -> Case:
    """A training's first iteration alone, which is computed ten times as fast."""
    inputs = {n: v[:1] if n in BATCHES else v for n, v in case.inputs.items()}
    outputs = {
        name: value[:1] if name in SERIES else value
        for name, value in case.outputs.items()
        if name in SERIES or name.startswith("first.")
    }
    return replace(case, inputs=inputs, outputs=outputs)


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
    largest = {name: float(np.abs(value).max()) for name, value in outputs.items()}
    made = {}
    for shares in (FORWARD, BACKWARD, TRAINED):
        names = [name for name in outputs if pass_of(level, name) is shares]
        floor = 1e-3 * (max((largest[name] for name in names), default=0.0) or 1.0)
        for name in names:
            scale = max(largest[name], floor)
            made[name] = {precision: share * scale for precision, share in shares.items()}
    return made


def pass_of(level: str, name: str) -> dict[str, float]:
    if level == "training" and name not in ("side", "lr"):
        return TRAINED
    last = name.rpartition(".")[2]
    backward = name.startswith("grad.") or last in ("du_pre", "dc", "dx", "h")
    return BACKWARD if backward else FORWARD
