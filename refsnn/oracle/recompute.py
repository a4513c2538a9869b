"""Recomputation of a case under other conventions or with other spikes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from refsnn.ops import Array
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import CONVENTIONS, Value, make_conventions
from refsnn.oracle.tolerances import tolerances
from refsnn.oracle.vectors import Case

#: inputs and outputs with an entry for each iteration of a training
BATCHES = ("images", "labels")
SERIES = ("side", "lr", "loss")


def recompute(
    case: Case,
    changes: Mapping[str, Value] | None = None,
    decided: Mapping[str, Array] | None = None,
) -> Case:
    """Return the case computed with changed conventions or with given spikes.

    `decided` holds, by the name of an output o, spikes that replace the threshold's; where it is
    NaN, the threshold decides.
    """
    # the case that an adapter is given holds old names, too
    own = {name: value for name, value in case.conventions.items() if name in CONVENTIONS}
    conventions = make_conventions({**own, **(changes or {})})
    with np.errstate(all="ignore"):  # under some conventions values overflow
        outputs = compute(
            case.level, case.inputs, case.settings, conventions, case.repeat, decided=decided
        )
    outputs = {name: outputs[name] for name in case.outputs}
    return replace(
        case, outputs=outputs, conventions=conventions, tolerances=tolerances(case.level, outputs)
    )


def beginning(case: Case) -> Case:
    """Return a training's first iteration alone, which takes a tenth of the time."""
    inputs = {n: v[:1] if n in BATCHES else v for n, v in case.inputs.items()}
    outputs = {
        name: value[:1] if name in SERIES else value
        for name, value in case.outputs.items()
        if name in SERIES or name.startswith("first.")
    }
    return replace(case, inputs=inputs, outputs=outputs)
