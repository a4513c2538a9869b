"""The network in PyTorch: names, shapes, and each step of a neuron on paper."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from refsnn import pytorch  # noqa: E402  # needs torch

NET = {
    "in_channels": 2,
    "num_classes": 3,
    "stem": {"convs": 1, "kernel": 3, "stride": 1, "width": 2, "pool": None},
    "depths": (1, 2),
    "widths": (2, 4),
    "hidden": 0,
    "branches": "block",
    "downsample": "conv",
    "readout": "mean",
    "norm": {},
    "neuron": {},
}


def test_two_steps_of_a_neuron_as_on_paper():
    neuron = pytorch.LIF(2, surrogate="rectangular", surrogate_shape=1.0)
    c = torch.tensor([1.0, 0.75], requires_grad=True)
    o = neuron(c)
    (o * torch.tensor([2.0, 3.0])).sum().backward()
    # u_pre = 1, a tie, which does not fire; then 0.5 * 1 + 0.75 = 1.25; both slopes are 1
    assert o.tolist() == [0, 1]
    # delta[2] = 3; delta[1] = 2 + 3 * 0.5 * ((1 - 0) - 1 * 1)
    assert c.grad.tolist() == [2, 3]


def test_steps_follow_one_another_in_time():
    """Two images: the second image's currents change nothing of the first one's spikes."""
    neuron, c = pytorch.LIF(3), torch.rand(6, 5) * 2
    alone = pytorch.LIF(3)(c[::2])
    assert torch.equal(neuron(c)[::2], alone)
    assert 0 < alone.mean() < 1


def test_branches_come_by_name_and_the_main_one_last():
    network = pytorch.Network(NET, steps=2)
    logits = network(torch.rand(2, 3, 2, 4, 4))
    assert list(logits) == ["branch.stage1.block0", "branch.stage2.block0", "head"]
    assert {tuple(value.shape) for value in logits.values()} == {(3, 3)}


def test_paths_of_other_sizes_are_not_added():
    """Average pooling of one odd column leaves one, which a sum would repeat."""
    network = pytorch.Network(NET | {"downsample": "avgpool"}, steps=1)
    network(torch.rand(1, 4, 2, 4, 4))
    with pytest.raises(ValueError, match=r"skip: got shape \(4, 4, 1, 1\), want \(4, 4, 2, 2\)"):
        network(torch.rand(1, 4, 2, 3, 3))


def test_an_unknown_surrogate_is_named():
    with pytest.raises(ValueError, match="surrogate: got 'arctan'"):
        pytorch.LIF(1, surrogate="arctan").slope(torch.zeros(1))


def test_arrays_go_both_ways():
    rng = np.random.default_rng(0)
    for shape, wanted in (
        ((2, 3, 4, 5, 6), (2, 3, 6, 4, 5)),
        ((3, 2, 4, 5), (5, 4, 3, 2)),
        ((2, 3), (3, 2)),
        ((4,), (4,)),
    ):
        array = rng.normal(size=shape)
        there = pytorch.to_torch(array)
        assert there.shape == wanted
        assert np.array_equal(pytorch.to_numpy(there), array)


def test_the_package_does_not_import_torch():
    code = (
        "import sys, refsnn.cli, refsnn.oracle.conform, refsnn.bench.workload, refsnn.export\n"
        "refsnn.cli.build_parser()\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
