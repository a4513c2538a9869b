"""Tolerances of the outputs: absolute, by output and precision."""

import numpy as np

from refsnn.ops import Array
from refsnn.oracle.vectors import Case

#: largest difference relative to the output's largest element (or to 1e-3 times the largest
#: element of all outputs of the same pass), by pass and precision
FORWARD = {"float64": 1e-11, "float32": 2e-5}
BACKWARD = {"float64": 1e-10, "float32": 2e-4}
#: the gradients that are outputs of their own, beside those of parameters
GRADIENTS = ("h", "du_pre", "dc", "dx", "dv", "du0", "dtau", "dv_th")
TRAINED = {"float64": 1e-8, "float32": 2e-3}
#: unit roundoff: the largest relative error of rounding to nearest
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SUMS = ("dtau", "dv_th")  # over all neurons and steps, so larger than what is added up
HALVES = ("float16", "bfloat16")
#: the same shares in half precisions, in unit roundoffs: float32's are 335 and 3,355, in which a
#: half precision could not tell any mistake. Right implementations reach 5, and 30 in the backward
#: pass of networks.
HALF, HALF_BACKWARD = 16, 64


def tolerances(level: str, outputs: dict[str, Array]) -> dict[str, dict[str, float]]:
    """Return the absolute tolerances by output and precision."""
    largest = {name: float(np.abs(value).max()) for name, value in outputs.items()}
    made = {}
    for shares in (FORWARD, BACKWARD, TRAINED):
        names = [name for name in outputs if pass_of(level, name) is shares]
        parts = [largest[name] for name in names if name not in SUMS]
        floor = 1e-3 * (max(parts, default=0.0) or 1.0)
        for name in names:
            scale = max(largest[name], floor)
            if name in SUMS and "du_pre" in largest:  # what is added up may cancel
                scale = max(scale, largest["du_pre"] * max(1.0, largest.get("u_pre", 1.0)))
            made[name] = {precision: share * scale for precision, share in shares.items()}
    return made


def pass_of(level: str, name: str) -> dict[str, float]:
    """Return the relative tolerances of the pass that computes an output."""
    if level == "training" and name not in ("side", "lr"):
        return TRAINED
    last = name.rpartition(".")[2]
    backward = name.startswith("grad.") or last in GRADIENTS
    return BACKWARD if backward else FORWARD


def tolerance(case: Case, name: str, precision: str) -> float:
    """Return an output's tolerance in any precision; those of half precisions are not stored."""
    stored = case.tolerances[name]
    if precision not in HALVES:
        return stored[precision]
    shares = pass_of(case.level, name)
    backward = shares is not FORWARD
    alone = case.level in ("surrogate", "neuron")
    share = (HALF_BACKWARD if backward and not alone else HALF) * ROUNDOFF[precision]
    scale = stored["float32"] / shares["float32"]
    if case.level == "neuron" and backward:
        # far from the threshold 1 - tanh(x)^2 cancels, and its error is one of the spikes' gradient
        scale = max(scale, float(np.abs(case.inputs["do"]).max()) / 8)
        if name in SUMS:
            scale *= float(np.sqrt(case.inputs["do"].size))
    return share * scale
