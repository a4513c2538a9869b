"""Wrong arguments to the network are refused in a line that says what is wanted."""

import numpy as np
import pytest

import refsnn

ARCH = refsnn.architecture("1-1:4-8")


@pytest.fixture
def parts():
    net = refsnn.Network(ARCH, 3, 10)
    params = refsnn.init_params(net, np.random.default_rng(0))
    return net, params, refsnn.init_buffers(net)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet20", 3, 10), "arch: got 'resnet20', want .*: architecture\\('resnet20'\\)"),
        ((20, 3, 10), "arch: got 20, want an object of class Architecture"),
        ((ARCH, 3, 10, "stage", "LIF"), "lif: got 'LIF', want an object of class LIF"),
        ((ARCH, 3, 10, "stage", refsnn.LIF(), 1), "norm: got 1, want an object of class BatchNorm"),
        ((ARCH, 3, 10, "blocks"), "branches: got 'blocks', did you mean block?"),
        ((ARCH, 3, 10, 1), "branches: got '1', want one of none, stage, block, stage1.block0"),
        ((ARCH, 3, 10, "stage2.block0"), "branches: got stage2.block0, the last block, which has"),
    ],
)
def test_a_network_of_wrong_parts(arguments, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        refsnn.Network(*arguments)


def test_a_sequence_with_channels_first(parts):
    x_seq = np.zeros((2, 5, 3, 8, 8))
    with pytest.raises(
        ValueError, match=r"^x_seq: got 8 channels, want 3; .* looks channels-first"
    ):
        refsnn.forward(*parts, x_seq, refsnn.NUMPY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.clear(), r"buffers: stem.bn0.running_mean is missing, .*init_buffers\(net\)"),
        (lambda b: b.pop("stage2.block0.skip.bn.running_var"), r"buffers: stage2.* is missing"),
        (
            lambda b: b.update({"stem.bn0.running_var": np.ones(7)}),
            r"buffers: stem.bn0.running_var has shape \(7,\), want \(4,\)",
        ),
    ],
)
def test_buffers_of_another_network(parts, change, message):
    change(parts[2])
    with pytest.raises(ValueError, match=f"^{message}"):
        refsnn.forward(*parts, np.zeros((2, 5, 8, 8, 3)), refsnn.NUMPY)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_gradients_of_another_number_of_branches(parts, count):
    run = refsnn.forward(*parts, np.zeros((2, 5, 8, 8, 3)), refsnn.NUMPY)
    with pytest.raises(ValueError, match=f"^db: got gradients of {count} branches, want 2, one"):
        refsnn.backward(run, [np.zeros((5, 10))] * count)
