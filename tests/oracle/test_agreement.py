"""Nothing is written, or believed later, on which the two ways of computing differ."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn.oracle.agreement import changes, disagreements

SOME = (
    "surrogate/triangle-low",
    "neuron/authors",
    "neuron/tie-inclusive",
    "neuron/fresh",
    "layer/tdbn",
    "block/detached-reset",
    "network/by-block",
    "training/weights-only",
)


@pytest.mark.parametrize("name", SOME)
def test_both_agree_and_both_tell_a_changed_value(cases, name):
    case = cases[name]
    assert changes(case) == []
    assert disagreements(case) == []
    output = list(case.outputs)[-1]
    value = case.outputs[output].copy()
    value.flat[-1] += 10 * case.tolerances[output]["float64"]
    wrong = replace(case, outputs=case.outputs | {output: value})
    for lines in (changes(wrong), disagreements(wrong)):
        assert len(lines) == 1
        place = " at " if value.shape else ": "
        assert lines[0].startswith(f"{name}: {output}{place}")


@pytest.mark.parametrize("tell", [changes, disagreements])
def test_a_changed_input_convention_or_setting_is_told(cases, tell):
    case = cases["network/evolutionary"]
    assert tell(replace(case, settings=case.settings | {"side": 0.5}))
    assert tell(replace(case, conventions=case.conventions | {"tau": 0.75}))
    images = case.inputs["images"].copy()
    images[0, 0, 0, 0] += 1
    assert tell(replace(case, inputs=case.inputs | {"images": images}))


@pytest.mark.parametrize("tell", [changes, disagreements])
def test_no_flip_is_excused(cases, tell):
    """Though float32 might be: both compute in float64."""
    case = cases["neuron/tanh"]
    at = (2, 5)
    outputs = {name: value.copy() for name, value in case.outputs.items()}
    outputs["o"][at] = 1 - outputs["o"][at]
    loose = {name: {"float64": 1e-11 if name == "o" else 1e9} for name in outputs}
    outputs["u_pre"][at] = 1 + 1e-12
    (line,) = tell(replace(case, outputs=outputs, tolerances=loose))
    assert line.startswith("neuron/tanh: o at step 2, index [5]: expected ")


@pytest.mark.parametrize("tell", [changes, disagreements])
def test_an_output_that_one_side_lacks_is_told(cases, tell):
    case = cases["neuron/tanh"]
    more = replace(case, outputs=case.outputs | {"more": np.ones(1)})
    assert tell(more) == ["neuron/tanh: more is missing"]
