"""How far an output may be off."""

import numpy as np
import pytest

from refsnn.oracle.tolerances import (
    BACKWARD,
    FORWARD,
    ROUNDOFF,
    TRAINED,
    pass_of,
    tolerance,
    tolerances,
)


def test_tolerances_are_shares_of_the_largest():
    outputs = {"u_pre": np.array([1.0, -4.0]), "o": np.zeros(2), "dc": np.array([10.0])}
    found = tolerances("neuron", outputs)
    forward, backward = FORWARD["float32"], BACKWARD["float32"]
    assert found["u_pre"]["float32"] == 4 * forward
    assert found["o"]["float32"] == pytest.approx(4e-3 * forward)  # of its pass's largest
    assert found["dc"]["float32"] == 10 * backward
    assert tolerances("neuron", {"o": np.zeros(2)})["o"]["float64"] > 0


@pytest.mark.parametrize(
    ("level", "name", "expected"),
    [
        ("neuron", "u_pre", FORWARD),
        ("neuron", "du_pre", BACKWARD),
        ("surrogate", "h", BACKWARD),
        ("neuron", "dtau", BACKWARD),
        ("network", "head.logits", FORWARD),
        ("network", "grad.head.fc.bias", BACKWARD),
        ("network", "loss", FORWARD),
        ("training", "loss", TRAINED),
        ("training", "lr", FORWARD),
        ("training", "last.head.fc.bias", TRAINED),
        ("block", "dx", BACKWARD),
    ],
)
def test_each_output_is_of_its_pass(level, name, expected):
    assert pass_of(level, name) is expected


def test_sums_are_held_to_what_they_add_up_and_loosen_nothing_else():
    outputs = {"u_pre": np.array([3.0]), "du_pre": np.array([2.0]), "du0": np.zeros(1)}
    found = tolerances("neuron", outputs | {"dtau": np.array(1e-9), "dv_th": np.array(1e6)})
    backward = BACKWARD["float64"]
    assert found["dtau"]["float64"] == 6 * backward
    assert found["dv_th"]["float64"] == 1e6 * backward
    assert found["du0"]["float64"] == pytest.approx(2e-3 * backward)


@pytest.mark.parametrize(("precision", "unit"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_half_precisions_are_allowed_some_units_of_rounding(cases, precision, unit):
    """More for gradients beyond a neuron, and for a sum as errors at random add up."""

    def units(name, output):
        case, share = cases[name], pass_of(cases[name].level, output)
        scale = case.tolerances[output]["float32"] / share["float32"]
        return tolerance(case, output, precision) / scale / unit

    assert ROUNDOFF[precision] == unit
    assert units("network/vanilla", "stem.lif0.u_pre") == pytest.approx(16)
    assert units("network/vanilla", "stem.lif0.du_pre") == pytest.approx(64)
    assert units("neuron/tanh", "du_pre") == pytest.approx(16)
    assert units("surrogate/tanh", "h") == pytest.approx(16)
    assert units("neuron/tanh", "dtau") == pytest.approx(16 * np.sqrt(6 * 48))
