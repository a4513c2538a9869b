"""Neurons of other methods: what is right passes, and what is wrong is named."""

from dataclasses import replace

import numpy as np
import pytest
from method_neurons import FAULTS, Mine

import refsnn
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import CONVENTIONS
from refsnn.oracle.method_neuron import FURTHER, OWN, REQUIRED, follows

MODELS = list(OWN)
IDS = [f"{model}: {fault}" for model, fault, *_ in FAULTS]


@pytest.fixture(scope="module")
def built():
    """Model -> its cases."""
    return {m: refsnn.cases("neuron", conventions={"neuron_model": m}) for m in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_what_is_right_passes(model, built):
    report = refsnn.conform(Mine(model), built[model])
    assert report.passed, str(report)
    assert report.count("passed") >= 6


@pytest.mark.parametrize("model", MODELS)
def test_what_is_right_in_float32_passes(model, built):
    class Single(Mine):
        def run(self, case):
            inputs = {k: x.astype(np.float32) for k, x in case.inputs.items()}
            return {
                k: np.asarray(x, np.float32)
                for k, x in super().run(replace(case, inputs=inputs)).items()
            }

    report = refsnn.conform(Single(model), built[model])
    assert report.passed, str(report)


@pytest.mark.parametrize(("model", "fault", "first", "told"), FAULTS, ids=IDS)
def test_what_is_wrong_fails_at_its_first_output(model, fault, first, told, built):
    report = refsnn.conform(Mine(model, fault), built[model])
    failed = [r for r in report.results if r.status == "failed"]
    assert failed
    firsts = {r.first["tensor"] for r in failed}
    assert first in firsts
    order = list(built[model][0].outputs)
    assert order.index(first) == min(map(order.index, firsts))


KNOWN = [row[:2] + row[3:] for row in FAULTS if row[3]]
UNKNOWN = [row[:3] for row in FAULTS if not row[3]]


def explained(model, fault, built, **options):
    """Diagnose what a neuron with a mistake computes, from three cases."""
    mine, told = Mine(model, fault), {"neuron_model": model}
    some = [c for c in built[model] if c.conventions["surrogate"] == "tanh"]
    some = [c for c in some if not c.id.endswith(("-steps", "-fresh"))]
    got = {case.id: mine.run(case) for case in some}
    return refsnn.diagnose(got, conventions=told, **options)


@pytest.mark.parametrize(("model", "fault", "told"), KNOWN)
@pytest.mark.slow_after(5)
def test_diagnosis_names_what_is_known(model, fault, told, built):
    found = explained(model, fault, built)
    assert found.matches[0].deviations == told, str(found)


@pytest.mark.parametrize(("model", "fault", "first"), UNKNOWN)
@pytest.mark.slow_after(2)
def test_diagnosis_says_where_what_is_not_known_is_wrong(model, fault, first, built):
    found = explained(model, fault, built, seconds=1)
    assert not found.matches, str(found)
    assert f": {first}" in found.nearest[0].first
    assert found.measured == ()  # what a plain LIF would have
    assert found.contradictions == ()


def test_each_models_own_alternatives_are_among_the_faults():
    named = {(model, name) for model, _, _, told in FAULTS for name in told}
    assert {(model, name) for model in MODELS for name in OWN[model]} <= named
    for _, _, _, told in FAULTS:
        for name, value in told.items():
            assert CONVENTIONS[name].allows(value)


@pytest.mark.parametrize("model", MODELS)
def test_a_convention_that_a_neuron_does_not_follow_changes_nothing(model, built):
    case = built[model][0]
    for name, convention in CONVENTIONS.items():
        if convention.level not in ("surrogate", "neuron") or name in (
            *("neuron_model", "recurrence"),  # of which the inputs are others
        ):
            continue
        for value in convention.values:
            changed = case.conventions | {name: value}
            if value == case.conventions[name] or (name, value) == ("tau", 0):
                continue
            outputs = compute("neuron", case.inputs, case.settings, changed)
            same = all(np.array_equal(outputs[k], x) for k, x in case.outputs.items())
            assert same or follows(model, name, value), (name, value)


def test_the_tables_name_conventions():
    for model in MODELS:
        named = {*OWN[model], *FURTHER[model], *REQUIRED.get(model, {})}
        assert named <= CONVENTIONS.keys()
