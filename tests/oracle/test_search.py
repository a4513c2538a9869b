"""The search computes as few cases as it needs."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn.oracle.conventions import CONVENTIONS, PAPER
from refsnn.oracle.declare import profiles
from refsnn.oracle.recompute import recompute
from refsnn.oracle.search import Search, is_open, is_same, within_reach


@pytest.mark.parametrize("name", ["training/evolutionary", "training/shortcut"])
@pytest.mark.slow
def test_a_trainings_beginning_tells_what_the_whole_would(cases, name):
    case = cases[name]
    states = [{key: v} for key, c in CONVENTIONS.items() for v in list(c.values)[1:]]
    states = [state for state in states if all(is_open(*item, [case]) for item in state.items())]
    search = Search({name: recompute(case, {"loss": "sum"}).outputs}, "float64")
    begun = 0
    for state in states:
        quick, whole = (search.compare(case, state, whole) for whole in (False, True))
        assert quick.agreed == pytest.approx(whole.agreed, rel=1e-12)
        if whole.first is not None:  # but for the tolerances, which go by the largest loss
            assert replace(quick.first, error=0) == replace(whole.first, error=0)
        begun += len(quick.tensors) < len(whole.tensors)
    assert len(states) - 3 <= begun < len(states)  # where loss: sum, there is no divergence


def test_expectations_that_explode_are_held_to_what_was_given(cases):
    case = cases["network/evolutionary"]
    got = {name: value for name, value in case.outputs.items() if "stage3" in name}
    large = replace(
        case,
        tolerances={
            name: {precision: 1e6 * most for precision, most in tolerance.items()}
            for name, tolerance in case.tolerances.items()
        },
    )
    held = within_reach(large, got, case)
    for name, tolerance in held.tolerances.items():
        if name in got:
            assert tolerance["float32"] <= case.tolerances[name]["float32"]
        else:
            assert tolerance == large.tolerances[name]
    assert within_reach(case, case.outputs, case).tolerances == case.tolerances
    tiny = {name: 1e-9 * value for name, value in case.outputs.items()}
    for name, tolerance in within_reach(case, tiny, case).tolerances.items():
        assert tolerance["float64"] >= case.tolerances[name]["float64"] / 10


@pytest.mark.parametrize(
    ("state", "best"),
    [
        (
            {"reset": "subtract", "reset_gradient": "ignored"},
            {"reset": "subtract", "reset_gradient": "detached"},
        ),
        (
            {"surrogate_shape": 1.0, "surrogate_scale": "without k"},
            {"surrogate_shape": 1.0},
        ),
    ],
    ids=str,
)
def test_the_same_by_definition_is_not_told_twice(cases, state, best):
    """And what differs for some inputs is told, whether or not the given ones show it."""
    assert is_same(state, best)
    assert is_same(best, state)
    case = cases["neuron/tanh"]
    for name, value in recompute(case, state).outputs.items():
        np.testing.assert_allclose(value, recompute(case, best).outputs[name], rtol=1e-13)
    assert not is_same(state | {"fire_at_threshold": True}, best)
    assert not is_same({"reset_gradient": "ignored"}, {"reset_gradient": "detached"})
    assert not is_same({"reset": "subtract", "reset_gradient": "ignored"}, {"reset": "subtract"})


def test_a_librarys_defaults_must_explain_every_case(cases):
    """Not only the few smallest, by which they are chosen."""
    neurons = [c for c in cases.values() if c.level == "neuron" and c.id != "neuron/large"]
    given = PAPER | profiles()["snntorch"]["conventions"]
    got = {case.id: recompute(case, given).outputs for case in neurons}
    search = Search(got, "float64", seconds=0)
    search.explain("neuron", neurons, [{}])
    assert search.profile == profiles()["snntorch"]["summary"]
    last = max(neurons, key=lambda case: sum(a.size for a in case.outputs.values())).id
    got[last] = got[last] | {"dc": 2 * got[last]["dc"]}
    search = Search(got, "float64", seconds=0)
    assert not any(fit.passed == len(neurons) for fit in search.explain("neuron", neurons, [{}]))
    assert search.profile == ""
    assert search.stopped
