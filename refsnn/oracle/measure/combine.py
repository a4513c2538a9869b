"""Combinations of what was measured part by part."""

import itertools
from collections.abc import Mapping, Sequence

from refsnn.oracle.measure.arrays import Deviations
from refsnn.oracle.vectors import Case


def combined(parts: Mapping[str, Sequence[Deviations]], cases: Sequence[Case]) -> list[Deviations]:
    """Return the combinations of the measured parts, those of few deviations first.

    A value that all cases ask for is no deviation.
    """
    choices = [
        sorted(states, key=lambda state: len(needed(state, cases)))[:4] or [{}]
        for states in parts.values()
    ]
    made: list[Deviations] = []
    for picked in itertools.islice(itertools.product(*choices), 64):
        state: Deviations = {}
        for part in picked:
            state |= part
        state = needed(state, cases)
        if state not in made:
            made.append(state)
    return made


def needed(state: Deviations, cases: Sequence[Case]) -> Deviations:
    """Leave out the values that every case asks for."""
    return {
        name: value
        for name, value in state.items()
        if any(case.conventions[name] != value for case in cases)
    }
