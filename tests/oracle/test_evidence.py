"""A clause is judged by the outputs that show it, and by nothing else."""

import pytest

from refsnn.oracle.compare import compare_case
from refsnn.oracle.evidence import ALL, EVIDENCE, judge, kind
from refsnn.oracle.recipes import recipes


def moved(case, *names):
    got = {name: value.copy() for name, value in case.outputs.items()}
    for name in names:
        got[name].flat[0] += 1e3 * case.tolerances[name]["float64"]
    return got


def test_every_clause_of_a_case_is_known_and_can_be_judged(cases):
    assert {clause for recipe in recipes() for clause in recipe.clauses.split()} == set(EVIDENCE)
    for case in cases.values():
        assert set(map(kind, case.outputs)) <= set(ALL)
        found = judge(compare_case(case, case.outputs))
        assert list(found) == list(case.clauses)
        assert set(found.values()) == {"passed"}, case.id


@pytest.mark.parametrize(
    ("name", "wrong", "expected"),
    [
        # forward is right, so the equations of the forward pass are
        ("neuron/tanh", ["du_pre"], {"EQ1": "passed", "EQ2": "passed", "EQ3": "failed"}),
        # forward is wrong, so nothing is known of the backward pass that follows from it
        ("neuron/tanh", ["u_pre", "dc"], {"EQ1": "failed", "EQ3": "not judged"}),
        ("neuron/tanh", ["o"], {"EQ1": "passed", "EQ2": "failed", "EQ3": "passed"}),
        ("layer/plain", ["new.bn.running_var"], {"D25": "failed", "D8": "passed"}),
        ("layer/plain", ["conv", "new.bn.running_var"], {"D25": "not judged", "D9": "failed"}),
        ("network/evolutionary", ["loss"], {"D12": "passed", "EQ10": "failed", "EQ9": "passed"}),
        ("training/evolutionary", ["lr"], {"D16": "passed", "D17": "failed", "R3": "failed"}),
        # the side branches' weight may be shown right, and another one used
        ("training/evolutionary", ["loss"], {"D16": "not judged", "D17": "passed"}),
        ("block/identity", ["lif1.o"], {"EQ1": "passed", "EQ2": "failed", "D25": "passed"}),
    ],
)
def test_the_first_divergence_fails_its_clauses(cases, name, wrong, expected):
    found = judge(compare_case(cases[name], moved(cases[name], *wrong)))
    assert {clause: found[clause] for clause in expected} == expected


def test_missing_outputs_judge_nothing_and_unusable_ones_fail(cases):
    case = cases["neuron/tanh"]
    got = {"o": case.outputs["o"]}
    found = judge(compare_case(case, got, omits=["*"]))
    judged = {clause for clause, status in found.items() if status != "not judged"}
    assert (judged, found["EQ2"]) == ({"EQ2", "D1"}, "passed")
    found = judge(compare_case(case, got | {"dc": [[1.0]]}, omits=["u*", "du*"]))
    assert (found["EQ3"], found["EQ2"]) == ("failed", "passed")
