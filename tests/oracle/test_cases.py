"""How a case is made: margins, and numbers that float32 holds."""

import numpy as np
import pytest

from refsnn.oracle import cases as made
from refsnn.oracle.cases import Recipe, build
from refsnn.oracle.compute import COMPUTE, compute
from refsnn.oracle.variants import Tape

BOUNDS = {"training": 1e-4, "surrogate": 0.0}


def potentials(case):
    """Every u_pre of the last run, each iteration's of a training."""
    seen = []
    compute(case.level, case.inputs, case.settings, case.conventions, 1, seen.append)
    return np.concatenate([u_pre.ravel() for u_pre in seen])


def test_no_potential_is_where_rounding_could_move_it(cases):
    """Nor near a kink of the slope."""
    for case in cases.values():
        if case.exact:
            continue
        conventions = case.conventions
        v_th, shape = conventions["v_th"], conventions["surrogate_shape"]
        jumps = {"rectangular": (-shape / 2, shape / 2), "triangular": (-v_th, 0, v_th)}
        for jump in (0.0, *jumps.get(conventions["surrogate"], ())):
            distance = np.abs(potentials(case) - (v_th + jump)).min()
            assert distance >= BOUNDS.get(case.level, 2e-5), (case.id, jump)


def in_float32(case):
    inputs = {k: v if k == "labels" else v.astype(np.float32) for k, v in case.inputs.items()}
    return dict(COMPUTE[case.level](inputs, case.settings, case.conventions, Tape()))


def test_float32_fires_the_same_spikes(cases):
    """Bit for bit in exact cases, too."""
    for case in cases.values():
        if case.level == "training":
            continue
        got = in_float32(case)
        for name, expected in case.outputs.items():
            is_float = name in ("loss", "dtau", "dv_th")  # Python floats
            assert got[name].dtype == np.float32 or is_float, (case.id, name)
            if name.rpartition(".")[2] == "o":
                np.testing.assert_array_equal(got[name], expected, f"{case.id}: {name}")


def test_exact_neurons_do_not_round_at_all(cases):
    exact = [case for case in cases.values() if case.exact and case.level == "neuron"]
    assert len(exact) >= 6
    for case in exact:
        got = in_float32(case)
        for name in ("u_pre", "o", "u"):
            np.testing.assert_array_equal(got[name], case.outputs[name], f"{case.id}: {name}")


def test_ties_are_ties(cases):
    """On the threshold at the first step, after a leak, after a reset; and one ulp beside it."""
    case = cases["neuron/tie"]
    u_pre, o = case.outputs["u_pre"], case.outputs["o"]
    on = u_pre == 1
    assert on[0].any()
    assert (on[1:] & (case.outputs["u"][:-1] != 0)).any()
    assert (on[1:] & (o[:-1] == 1)).any()
    beside = {float(u) for u in (u_pre - 1).ravel() if 0 < abs(u) < 1e-6}
    assert beside == {2.0**-23, -(2.0**-24)}
    assert o[u_pre == 1 + 2.0**-23].all()
    assert not o[u_pre <= 1].any()


def test_inputs_are_numbers_that_float32_holds(cases):
    for case in cases.values():
        for name, value in case.inputs.items():
            if name == "labels":
                assert value.dtype == np.int64
            else:
                assert value.dtype == np.float64
                np.testing.assert_array_equal(value, value.astype(np.float32).astype(float))


def test_draws_are_repeated_until_no_potential_is_near():
    def draw(rng):
        draws.append(rng.random())
        near = 1 + (1e-6 if len(draws) < 3 else 1e-3)
        return {"c": np.array([[near]]), "do": np.ones((1, 1))}

    draws = []
    case = build(Recipe("neuron/x", "", draw, "EQ1"))
    assert len(set(draws)) == 3
    assert case.inputs["c"] == np.float32(1.001)
    draws = []
    exact = build(Recipe("neuron/x", "", draw, "EQ1", exact=True))
    assert len(draws) == 1
    assert exact.exact


def test_a_case_is_drawn_by_its_own_name():
    def draw(rng):
        return {"c": rng.normal(size=(2, 2)), "do": np.ones((2, 2))}

    one, same, other = (
        build(Recipe(name, "", draw, "EQ1")).inputs["c"]
        for name in ("neuron/a", "neuron/a", "neuron/b")
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


def test_a_case_that_can_not_keep_off_the_threshold_is_refused(monkeypatch):
    monkeypatch.setattr(made, "ATTEMPTS", 3)
    always = {"c": np.ones((2, 2)), "do": np.ones((2, 2))}  # u_pre = 1 = v_th at the first step
    with pytest.raises(ValueError, match="neuron/a: no draw of 3 keeps off the threshold by 2e-05"):
        build(Recipe("neuron/a", "", lambda rng: always, "EQ1"))
