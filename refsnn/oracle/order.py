"""The order in which the outputs of a case are computed.

Layer by layer; within a layer step by step (in reverse in the backward pass); within a step in the
order of Eq. 1 and 2. A training goes iteration by iteration.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from refsnn.oracle.recompute import SERIES
from refsnn.oracle.vectors import Case

#: quantities of a layer that are computed step by step
STEPPED = ("u_pre", "v", "o", "y", "u", "du_pre", "dc")
BACKWARD = ("du_pre", "dc")


class Place(NamedTuple):
    """A part of the outputs: a tensor, or one step of it."""

    tensor: str
    step: int | None


def quantity(name: str) -> str:
    """Return the last part of an output's name, such as u_pre."""
    return name.rpartition(".")[2]


def places(case: Case, names: Sequence[str]) -> Iterator[Place]:
    """Yield the parts of the outputs in the order of computing.

    Quantities of a layer that are computed together go step by step, a training iteration by
    iteration.
    """
    if case.level == "training":
        yield from iterations(case, names)
        return
    for group in groups(case, names):
        if quantity(group[0]) not in STEPPED:
            yield from (Place(name, None) for name in group)
            continue
        steps = range(len(case.outputs[group[0]]))
        for t in reversed(steps) if quantity(group[0]) in BACKWARD else steps:
            yield from (Place(name, t) for name in group)


def iterations(case: Case, names: Sequence[str]) -> Iterator[Place]:
    """Yield the parts of a training's outputs, iteration by iteration."""
    series = [name for name in names if name in SERIES]
    first = [name for name in names if name.startswith("first.")]
    for i in range(max((len(case.outputs[name]) for name in series), default=1)):
        yield from (Place(name, i) for name in series)
        if i == 0:
            yield from (Place(name, None) for name in first)
    yield from (Place(name, None) for name in names if name not in {*series, *first})


def groups(case: Case, names: Sequence[str]) -> list[list[str]]:
    """Group neighbouring outputs that belong to the same layer and pass."""

    def key(name: str) -> Any:
        kind = quantity(name)
        if kind in STEPPED:
            return name.removesuffix(kind), kind in BACKWARD
        return name

    return [list(group) for _, group in itertools.groupby(names, key)]
