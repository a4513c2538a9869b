"""SpikingJelly's neurons with parameters: ParametricLIFNode is PLIF."""

from dataclasses import replace

import pytest

import refsnn
from refsnn.oracle.method_neuron import OWN

pytest.importorskip("spikingjelly")

from refsnn.oracle.adapters.spikingjelly import SpikingJelly  # needs spikingjelly

MODELS = list(OWN)


def of(model, **more):
    return refsnn.cases("neuron", conventions={"neuron_model": model, **more})


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"plif_input_decay": False},
        {"reset_gradient": "detached", "fire_at_threshold": True},
    ],
    ids=str,
)
def test_plif_passes(more, precision):
    report = refsnn.conform(SpikingJelly(precision), of("plif", **more))
    assert report.count("passed") == len(report.results) == 10


def test_its_slopes_pass_for_plif_too():
    told = {"neuron_model": "plif"}
    adapter, cases = SpikingJelly(), refsnn.cases("surrogate", conventions=told)
    assert refsnn.conform(adapter, cases).passed


@pytest.mark.parametrize("model", [m for m in MODELS if m != "plif"])
def test_it_knows_no_other(model):
    report = refsnn.conform(SpikingJelly(), of(model))
    assert report.count("unsupported") == len(report.results)


def test_a_node_without_its_input_decay_is_told_so():
    case = of("plif")[0]
    changed = replace(case, conventions=case.conventions | {"plif_input_decay": False})
    found = refsnn.diagnose(
        {case.id: SpikingJelly().run(changed)}, conventions={"neuron_model": "plif"}
    )
    assert "PLIF's input is not scaled by sigmoid(w)" in str(found)
