"""How far an output may be off."""

import numpy as np
import pytest

from refsnn.oracle.tolerances import BACKWARD, FORWARD, TRAINED, pass_of, tolerances


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
