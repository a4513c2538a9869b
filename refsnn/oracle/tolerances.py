"""Tolerances of the outputs: absolute, by output and precision."""

import numpy as np

from refsnn.ops import Array

#: largest difference relative to the output's largest element (or to 1e-3 times the largest
#: element of all outputs of the same pass), by pass and precision
FORWARD = {"float64": 1e-11, "float32": 2e-5}
BACKWARD = {"float64": 1e-10, "float32": 2e-4}
TRAINED = {"float64": 1e-8, "float32": 2e-3}


def tolerances(level: str, outputs: dict[str, Array]) -> dict[str, dict[str, float]]:
    """Return the absolute tolerances by output and precision."""
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
    """Return the relative tolerances of the pass that computes an output."""
    if level == "training" and name not in ("side", "lr"):
        return TRAINED
    last = name.rpartition(".")[2]
    backward = name.startswith("grad.") or last in ("du_pre", "dc", "dx", "h")
    return BACKWARD if backward else FORWARD
