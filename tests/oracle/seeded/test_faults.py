import numpy as np
import pytest

from refsnn.oracle import cases, conventions, recipes
from refsnn.oracle.compare import compare_case
from refsnn.oracle.diagnose import diagnose
from refsnn.oracle.search import upto_level

pytest.importorskip("torch")
from faults import FAULTS, Fault

from refsnn.oracle.adapters.pytorch import NUMERIC, SUPPORTED, PyTorch  # needs torch
from refsnn.oracle.methods import NAMES


@pytest.fixture(scope="module")
def built():
    """Level -> its cases."""
    return {
        level: [cases.build(recipe) for recipe in recipes.recipes((level,))]
        for level in conventions.LEVELS
    }


def run(adapter, case):
    for _ in range(case.repeat):
        got = adapter.run(case)
    return got


@pytest.mark.parametrize("name", FAULTS)
def test_each_is_rejected_at_each_of_its_levels(built, name):
    fault, precision = FAULTS[name], "float32"  # whose tolerances are the wider ones
    for level in fault.levels:
        results = [compare_case(c, run(fault.make(precision), c), precision) for c in built[level]]
        assert not all(result.passed for result in results), level


def test_every_alternative_is_among_them():
    wanted = {
        (name, value)
        for name, convention in conventions.CONVENTIONS.items()
        for value in convention.values
        if value not in (conventions.PAPER[name], "spikes kept")  # shows with a late reset only
        and name not in {"recurrence", *NAMES}  # the adapter has none
    }
    seen = {item for fault in FAULTS.values() for item in fault.conventions.items()}
    assert wanted <= seen
    numbers = {name for name, value in seen if type(value) in (int, float)}
    assert {"tau", "synapse", "reset_potential", "reset_amount", "norm_momentum"} < numbers
    assert len(FAULTS) >= 50
    for fault in FAULTS.values():
        conventions.make_conventions(fault.conventions)


def test_the_adapter_knows_the_conventions_and_their_first_values():
    assert SUPPORTED.keys() | set(NUMERIC) == conventions.CONVENTIONS.keys()
    for name, values in SUPPORTED.items():
        for value in values:
            conventions.check(name, value)
        assert values[0] == conventions.PAPER[name]


def test_a_fault_without_a_class_or_told_convention_is_the_adapter(built):
    case = built["neuron"][0]
    got = Fault("none", {}, ("neuron",), ()).make().run(case)
    for name, wanted in PyTorch().run(case).items():
        np.testing.assert_array_equal(got[name], wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_diagnosis_names_the_right_conventions_first(built, name):
    """From all cases up to the level at which the fault shows; of what no convention describes it
    says so."""
    fault = FAULTS[name]
    levels = upto_level(max(fault.levels, key=conventions.LEVELS.index))
    given = [case for level in levels for case in built[level]]
    got = {case.id: run(fault.make(), case) for case in given}
    found = diagnose(given, got)
    if fault.conventions:
        assert found.matches[0].deviations == fault.conventions
    else:
        assert found.problems or not found.matches
