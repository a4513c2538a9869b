"""Tables of counts, in the ledger's order."""

from typing import NamedTuple

import pytest

from refsnn import spec
from refsnn.oracle.report import by_clause, by_level, place


class Result(NamedTuple):
    case: str
    status: str


RESULTS = [Result("neuron/a", "passed"), Result("neuron/b", "failed"), Result("layer/a", "passed")]


def test_each_case_counts_for_every_clause_of_its():
    results = [
        {"EQ2": "passed", "D10": "passed"},
        {"EQ2": "failed", "D2": "failed"},
        {"EQ10": "passed"},
    ]
    assert by_clause(results, ("passed", "failed")).splitlines() == [
        "clause  cases  passed  failed",
        "EQ2         2       1       1",
        "EQ10        1       1       0",
        "D2          1       0       1",
        "D10         1       1       0",
    ]


def test_levels_come_as_the_cases_do():
    assert by_level(RESULTS, ("failed",)).splitlines() == [
        "level   cases  failed",
        "neuron      2       1",
        "layer       1       0",
    ]


@pytest.mark.parametrize("turn", [1, 17])
def test_clauses_are_in_the_ledgers_order(turn):
    names = [clause.id for clause in spec.CLAUSES]
    assert sorted(names[turn:] + names[:turn], key=place) == names
