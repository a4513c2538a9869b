"""A case as it would be, had something else been decided."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from refsnn.ops import Array
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import Value, make_conventions
from refsnn.oracle.tolerances import tolerances
from refsnn.oracle.vectors import Case

BATCHES = ("images", "labels")  # inputs and
SERIES = ("side", "lr", "loss")  # outputs with an entry for each iteration of a training


def recompute(
    case: Case,
    changes: Mapping[str, Value] | None = None,
    decided: Mapping[str, Array] | None = None,
) -> Case:
    """The case as it is with other conventions, or where spikes are `decided` whatever the
    threshold says: those of any output `o`, NaN where the threshold decides."""
    conventions = make_conventions({**case.conventions, **(changes or {})})
    with np.errstate(all="ignore"):  # some explode
        outputs = compute(
            case.level, case.inputs, case.settings, conventions, case.repeat, decided=decided
        )
    outputs = {name: outputs[name] for name in case.outputs}
    return replace(
        case, outputs=outputs, conventions=conventions, tolerances=tolerances(case.level, outputs)
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
