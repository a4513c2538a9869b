"""Batch norm that trains with its running statistics."""

import numpy as np
import pytest

from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import make_conventions
from refsnn.oracle.recompute import recompute

FROZEN = {"norm_statistics": "frozen"}


@pytest.mark.parametrize("more", [{}, {"norm_variance": "unbiased"}, {"norm_running": "biased"}])
def test_a_layer_trains_as_it_is_evaluated(cases, more):
    case = cases["layer/plain"]
    found = recompute(case, FROZEN | more).outputs
    wanted = compute(
        "layer", case.inputs, {**case.settings, "training": False}, make_conventions({})
    )
    assert found.keys() - wanted.keys() == {"new.bn.running_mean", "new.bn.running_var"}
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
    for part in ("running_mean", "running_var"):
        np.testing.assert_array_equal(found[f"new.bn.{part}"], case.inputs[f"bn.{part}"])
    assert np.abs(found["bn"] - case.outputs["bn"]).max() > 0.1


def test_gradients_of_its_parameters_on_paper(cases):
    """y = gamma x_hat + beta, with constants in x_hat."""
    case = cases["layer/plain"]
    found = recompute(case, FROZEN).outputs
    delta, axes = found["du_pre"], (0, 1, 3, 4)
    mean, var = (case.inputs[f"bn.running_{part}"] for part in ("mean", "var"))
    x_hat = (found["conv"] - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    np.testing.assert_allclose(found["grad.bn.bias"], delta.sum(axes), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        found["grad.bn.weight"], (delta * x_hat).sum(axes), rtol=0, atol=1e-12
    )


def test_a_training_leaves_the_statistics(cases):
    case = cases["training/evolutionary"]
    found = recompute(case, FROZEN).outputs
    moved = [name for name in found if name.startswith("new.")]
    assert moved
    for name in moved:
        np.testing.assert_array_equal(found[name], case.inputs[name.removeprefix("new.")])


@pytest.mark.parametrize("name", ["layer/plain", "block/stride", "network/evolutionary"])
def test_it_is_pytorchs(cases, name):
    pytest.importorskip("torch")
    from refsnn.oracle.adapters.pytorch import PyTorch

    case = recompute(cases[name], FROZEN)
    for output, value in PyTorch().run(case).items():
        largest = np.abs(case.outputs[output]).max()
        np.testing.assert_allclose(value, case.outputs[output], rtol=0, atol=1e-11 * largest)
