"""A case had something else been decided."""

import numpy as np

from refsnn.oracle.recompute import beginning, recompute


def test_without_a_change_it_is_the_case(cases):
    for case in cases.values():
        again = recompute(case)
        assert again.tolerances == case.tolerances
        for name, value in case.outputs.items():
            np.testing.assert_array_equal(again.outputs[name], value)


def test_spikes_are_decided_in_the_last_run_alone(cases):
    """Else the run before, whose state is kept here, would end otherwise."""
    case, kept = cases["neuron/fresh"], {"initial_potential": "kept"}
    plain = recompute(case, kept).outputs
    o = np.full_like(plain["o"], np.nan)
    o[-1] = 1 - plain["o"][-1]
    flipped = recompute(case, kept, {"o": o}).outputs
    np.testing.assert_array_equal(flipped["o"][-1], o[-1])
    np.testing.assert_array_equal(flipped["o"][:-1], plain["o"][:-1])
    np.testing.assert_array_equal(flipped["u_pre"], plain["u_pre"])
    np.testing.assert_array_equal(flipped["u"][-1], plain["u_pre"][-1] * (1 - o[-1]))


def test_spikes_are_decided_by_their_name_in_the_cases_axis_order(cases):
    for name, layer in (("block/stride", "lif2"), ("network/evolutionary", "stage2.block0.lif1")):
        case = cases[name]
        o = np.full_like(case.outputs[f"{layer}.o"], np.nan)
        at = (1, 0, 1, 2, 0)
        o[at] = 1 - case.outputs[f"{layer}.o"][at]
        changed = recompute(case, decided={f"{layer}.o": o}).outputs[f"{layer}.o"]
        assert changed[at] == o[at]
        assert (changed[:2] != case.outputs[f"{layer}.o"][:2]).sum() == 1


def test_the_beginning_is_the_first_iteration_of_the_whole(cases):
    case = cases["training/evolutionary"]
    start = beginning(case)
    outputs = recompute(start).outputs
    assert len(outputs["loss"]) == 1
    assert {name.partition(".")[0] for name in outputs} == {"side", "lr", "loss", "first"}
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, case.outputs[name][: len(value)])
