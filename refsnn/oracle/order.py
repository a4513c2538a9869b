"""The order of computing: layer by layer, within a layer step by step (backwards in the backward
pass), within a step in the order of Eq. 1 and 2; a training goes iteration by iteration.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from refsnn.oracle.recompute import SERIES
from refsnn.oracle.vectors import Case

#: quantities of a layer that are computed step by step
STEPPED = ("u_pre", "o", "u", "du_pre", "dc")
BACKWARD = ("du_pre", "dc")


class Place(NamedTuple):
    tensor: str
    step: int | None


def quantity(name: str) -> str:
    return name.rpartition(".")[2]


def places(case: Case, names: Sequence[str]) -> Iterator[Place]:
    """The outputs' parts in the order of computing; runs of stepped ones go step by step, a
    training goes iteration by iteration."""
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
    series = [name for name in names if name in SERIES]
    first = [name for name in names if name.startswith("first.")]
    for i in range(max((len(case.outputs[name]) for name in series), default=1)):
        yield from (Place(name, i) for name in series)
        if i == 0:
            yield from (Place(name, None) for name in first)
    yield from (Place(name, None) for name in names if name not in {*series, *first})


def groups(case: Case, names: Sequence[str]) -> list[list[str]]:
    """Neighbours that belong to one layer and pass."""

    def key(name: str) -> Any:
        kind = quantity(name)
        if kind in STEPPED:
            return name.removesuffix(kind), kind in BACKWARD
        return name

    return [list(group) for _, group in itertools.groupby(names, key)]
