"""The residual block is Eq. 5: the sum of both paths is fired."""

import numpy as np
import pytest

from refsnn.network.block import block_forward
from refsnn.network.layers import Context
from refsnn.ops import NUMPY, AvgPool, Conv, Running


def conv_norm(x_seq, conv, norm, p, context):
    """Step by step, where the package merges time into the batch."""
    c_seq = np.stack([NUMPY.conv_forward(x, context.params[f"{conv}.weight"], p)[0] for x in x_seq])
    mean, var = (context.buffers[f"{norm}.running_{kind}"] for kind in ("mean", "var"))
    gamma, beta = context.params[f"{norm}.weight"], context.params[f"{norm}.bias"]
    running = Running(mean, var)
    return NUMPY.batchnorm_forward(c_seq, gamma, beta, running, context.net.norm, context.training)[
        0
    ]


def fire(c_seq, context):
    return NUMPY.lif_forward(c_seq, None, context.net.lif)[0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("downsample", ["conv", "avgpool"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_block_fires_the_sum_of_both_paths(build, index, downsample, training):
    net, params, buffers = build("1-1:2-3", downsample=downsample)
    context, block = Context(net, params, buffers, NUMPY, training), net.blocks()[index]
    x_seq = np.random.default_rng(0).normal(0, 1, (3, 2, 6, 6, 2))
    o_seq, cache = block_forward(x_seq, block, context)

    s, name = block.stride, block.name
    assert s == index + 1
    y_seq = conv_norm(x_seq, f"{name}.conv1", f"{name}.bn1", Conv((s, s), (1, 1)), context)
    y_seq = fire(y_seq, context)
    f_seq = conv_norm(y_seq, f"{name}.conv2", f"{name}.bn2", Conv((1, 1), (1, 1)), context)
    skip_seq = x_seq
    if index == 1 and downsample == "avgpool":
        skip_seq = np.stack([NUMPY.avgpool_forward(x, AvgPool(2, 2))[0] for x in x_seq])
        s = 1
    if index == 1:
        p = Conv((s, s), (0, 0))
        skip_seq = conv_norm(skip_seq, f"{name}.skip.conv", f"{name}.skip.bn", p, context)
    assert np.array_equal(o_seq, fire(f_seq + skip_seq, context))
    assert np.array_equal(cache.inner.neuron.cache.lif.o_seq, y_seq)
    assert 0 < o_seq.mean() < 1


def test_a_block_passes_on_spikes_only(build):
    net, params, buffers = build("2:2")
    x_seq = np.ones((3, 2, 6, 6, 2))
    o_seq, _ = block_forward(x_seq, net.blocks()[0], Context(net, params, buffers, NUMPY, True))
    assert set(np.unique(o_seq)) == {0.0, 1.0}


@pytest.mark.parametrize("shape", [(7, 8), (8, 7)])
def test_averaging_skips_refuse_odd_sizes(build, shape):
    net, params, buffers = build("1-1:2-3", downsample="avgpool")
    context = Context(net, params, buffers, NUMPY, True)
    with pytest.raises(ValueError, match=r"downsample: avgpool wants even sizes, got \("):
        block_forward(np.ones((1, 2, *shape, 2)), net.blocks()[1], context)
