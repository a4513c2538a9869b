"""Biases for a given density of spikes."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn.bench import density, workload
from refsnn.network import forward
from refsnn.ops import NUMPY
from refsnn.training.monitor import firing_rates


@pytest.mark.parametrize("target", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("arch", ["1-1:4-8", "2-1:8-8"])
def test_every_layer_fires_at_the_given_density(arch, target, tiny, tmp_path):
    spec = replace(
        tiny,
        arch=arch,
        phase="inference",
        batch_size=6,
        density=target,
        numbers=str(tmp_path / "n.npz"),
    )
    known = density.prepare(spec)
    assert known["density"] == pytest.approx(target, rel=0.1)
    low, high = known["density_range"]
    assert 0.8 * target < low < high < 1.2 * target
    params, buffers = workload.load_numbers(spec)
    net, (images, _) = workload.network_of(spec), workload.batch_of(spec)
    x_seq = np.stack([images] * spec.steps)
    for training in (True, False):  # the running statistics are the batch's
        rates = firing_rates(forward(net, params, buffers, x_seq, NUMPY, training))
        for rate in rates.values():
            assert rate == pytest.approx(target, rel=0.2)


def test_a_fresh_network_is_left_as_it_is(tiny, tmp_path):
    spec = replace(tiny, numbers=str(tmp_path / "n.npz"))
    known = density.prepare(spec)
    assert 0 < known["density"] < 1
    for loaded, made in zip(workload.load_numbers(spec), workload.fresh_numbers(spec), strict=True):
        assert loaded.keys() == made.keys()
        for name, value in made.items():
            np.testing.assert_array_equal(loaded[name], value)


def test_a_density_that_cannot_be_reached(tiny, tmp_path):
    spec = replace(tiny, density=1e-6, numbers=str(tmp_path / "n.npz"))
    with pytest.raises(ValueError, match=r"density: got 1e-06, but stem\.lif0 stays at"):
        density.prepare(spec)


def test_steps_hardly_move_the_density(tiny):
    spec = replace(tiny, batch_size=4)
    params, buffers = workload.fresh_numbers(spec)
    before = {name: value.copy() for name, value in params.items()}
    step = workload.refsnn_step(spec, params, buffers)
    for _ in range(3):
        step(NUMPY)
    for name, value in before.items():
        np.testing.assert_allclose(params[name], value, atol=1e-6)
