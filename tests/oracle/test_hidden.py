"""Rounding in a lower precision is told from mistakes that are as small."""

import numpy as np
import pytest

from refsnn.oracle import hidden
from refsnn.oracle.compare import compare_case
from refsnn.oracle.compute import COMPUTE, compute
from refsnn.oracle.halves import rounded
from refsnn.oracle.variants import Tape

NAMES = ("surrogate/tanh", "neuron/tanh", "neuron/leak-0.75", "layer/plain", "network/vanilla")


def told(case, got, precision=None):
    found = compare_case(case, got, precision)
    return hidden.agrees_as(case, got, found, ())


def in_float32(case):
    """All of it in float32, returned as float64."""
    inputs = {k: v if k == "labels" else v.astype(np.float32) for k, v in case.inputs.items()}
    got = COMPUTE[case.level](inputs, case.settings, case.conventions, Tape())
    return {name: np.array(value, dtype=float) for name, value in got}


def of_rounded(case, precision):
    """Computed from inputs that are rounded, as by a buffer of lower precision."""
    inputs = {k: v if k == "labels" else rounded(v, precision) for k, v in case.inputs.items()}
    return compute(case.level, inputs, case.settings, case.conventions)


@pytest.mark.parametrize("name", NAMES)
def test_float32_in_arrays_of_float64_is_told(cases, name):
    got = in_float32(cases[name])
    assert told(cases[name], got) == "float32"
    assert not compare_case(cases[name], got).passed
    assert told(cases[name], got, "float32") == ""


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["neuron/tanh", "layer/plain"])
def test_half_precisions_in_arrays_of_higher_ones_are_told(cases, name, precision):
    got = of_rounded(cases[name], precision)
    assert told(cases[name], got, "float64") == precision
    assert told(cases[name], got, "float32") == precision


@pytest.mark.parametrize("factor", [1.00001, 0.99999, 1.0001, 1.01])
def test_a_constant_factor_is_no_rounding(cases, factor):
    case = cases["neuron/tanh"]
    for name in ("u_pre", "du_pre"):
        got = case.outputs | {name: case.outputs[name] * factor}
        assert not compare_case(case, got).passed
        assert told(case, got) == ""
    wrong = case.conventions | {"surrogate_shape": 0.5 * factor}
    assert told(case, compute("neuron", case.inputs, {}, wrong)) == ""


def test_errors_far_below_the_lower_precisions_are_no_rounding_of_it(cases):
    case = cases["neuron/tanh"]
    noise = np.random.default_rng(0).normal(size=case.outputs["u_pre"].shape)
    for size, expected in ((1e-10, "unclear"), (1e-9, "unclear"), (3e-7, "float32")):
        got = case.outputs | {"u_pre": case.outputs["u_pre"] + size * noise}
        assert told(case, got) == expected


@pytest.mark.parametrize("wrong", [{"reset_gradient": "detached"}, {"reset": "subtract"}])
def test_mistakes_are_no_rounding(cases, wrong):
    case = cases["neuron/tanh"]
    got = compute("neuron", case.inputs, {}, case.conventions | wrong)
    for precision in ("float64", "float32", "float16"):
        assert told(case, got, precision) == ""


def test_what_passes_or_is_missing_agrees_as_nothing(cases):
    case = cases["neuron/tanh"]
    assert told(case, case.outputs) == ""
    assert told(case, {k: v for k, v in in_float32(case).items() if k != "dc"}) == ""


def test_all_failures_must_agree_and_the_lowest_counts():
    assert hidden.common([]) == ""
    assert hidden.common(["float32", "float32"]) == "float32"
    assert hidden.common(["float32", "bfloat16", "float16"]) == "bfloat16"
    assert hidden.common(["float32", ""]) == ""
    assert hidden.common(["float32", "unclear"]) == "float32"
    assert hidden.common(["unclear", "unclear"]) == ""


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_neuron_of_low_precision_agrees_as_it_over_all_cases(cases, precision):
    found = []
    for case in cases.values():
        if case.level in ("neuron", "layer") and case.id != "neuron/large":
            got = in_float32(case) if precision == "float32" else of_rounded(case, precision)
            first = compare_case(case, got, "float64")
            found += [hidden.agrees_as(case, got, first, ())] if not first.passed else []
    assert hidden.common(found) == precision
    assert found.count(precision) > 10
