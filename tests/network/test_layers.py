"""The pieces of a block and of a head, against the operations that they are made of."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn.network.head import head_forward
from refsnn.network.layers import (
    Context,
    conv_backward,
    conv_forward,
    merge,
    neuron_forward,
    split,
)
from refsnn.ops import NUMPY, Conv, NormGrads, NormInput, Running


@pytest.fixture(scope="module")
def setting(build):
    def make(arch="1-1:2-3", **settings):
        return Context(*build(arch, **settings), NUMPY, True)

    return make


def test_merge_puts_the_steps_of_an_image_n_apart_and_split_undoes_it():
    x_seq = np.arange(2 * 3 * 4).reshape(2, 3, 2, 2, 1)
    assert np.array_equal(merge(x_seq)[3], x_seq[1, 0])
    assert np.array_equal(split(merge(x_seq), 2), x_seq)


def test_a_convolution_without_input_gradient_has_the_same_weight_gradient(setting, sequence):
    context, (x_seq, _) = setting(), sequence()
    f, layer = conv_forward(x_seq, "stem.conv0", "stem.bn0", Conv((1, 1), (1, 1)), context)
    d = NormGrads(np.cos(f.x_seq), f.gamma, f.beta)
    dx_seq, grads = conv_backward(d, layer, context)
    nothing, same = conv_backward(d, layer, context, need_dx=False)
    assert dx_seq.shape == x_seq.shape
    assert nothing is None
    assert list(same) == list(grads) == ["stem.conv0.weight", "stem.bn0.weight", "stem.bn0.bias"]
    assert all(np.array_equal(same[name], grads[name]) for name in grads)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("need_dx", [False, True])
def test_images_that_stay_are_convolved_once_with_the_same_result(build, need_dx, dtype):
    net, params, buffers = build("1-1:2-3")
    params, buffers = ({k: v.astype(dtype) for k, v in x.items()} for x in (params, buffers))
    rng, seen = np.random.default_rng(0), []
    images, dc_seq = (rng.normal(size=s).astype(dtype) for s in ((2, 5, 4, 2), (6, 2, 5, 4, 2)))

    def watched(x, w, p):
        seen.append(x.shape)
        return NUMPY.conv_forward(x, w, p)

    context = Context(net, params, buffers, replace(NUMPY, conv_forward=watched), True)
    still = np.broadcast_to(images, (6, *images.shape))
    found = []
    for x_seq in (still, still.copy()):
        f, layer = conv_forward(x_seq, "stem.conv0", "stem.bn0", Conv((1, 1), (1, 1)), context)
        d = NormGrads(dc_seq, f.gamma, f.beta)
        dx_seq, grads = conv_backward(d, layer, context, need_dx)
        found.append((f.x_seq, grads["stem.conv0.weight"], dx_seq))
    (c, dw, dx), (want_c, want_dw, want_dx) = found
    assert seen == [(2, 5, 4, 2), (12, 5, 4, 2)]
    assert np.array_equal(c, want_c)
    largest = np.abs(want_dw).max()
    np.testing.assert_allclose(dw, want_dw, rtol=0, atol=40 * np.finfo(dtype).eps * largest)
    assert (dx is None and want_dx is None) or np.array_equal(dx, want_dx)


def test_neurons_start_at_zero_at_every_call(setting, sequence):
    context, (x_seq, _) = setting(), sequence()
    one, zero = np.ones(x_seq.shape[-1]), np.zeros(x_seq.shape[-1])
    f = NormInput(x_seq, one, zero, Running(zero, one))
    first, cache = neuron_forward(f, None, "lif", ("bn",), context)
    again, _ = neuron_forward(f, None, "lif", ("bn",), context)
    assert np.array_equal(first, again)
    assert np.array_equal(
        cache.cache.lif.u_pre_seq[0], NUMPY.batchnorm_forward(*f, context.net.norm, True)[0][0]
    )


@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_a_side_head_is_pooling_and_one_layer_read_out_over_time(setting, readout):
    context = setting(readout=readout)
    x_seq = np.random.default_rng(0).normal(size=(3, 4, 5, 5, 2))
    logits, _ = head_forward(x_seq, "branch.stage1", context)
    w, b = context.params["branch.stage1.fc.weight"], context.params["branch.stage1.fc.bias"]
    steps = [x.mean(axis=(1, 2)) @ w + b for x in x_seq]
    wanted = sum(steps) / (3 if readout == "mean" else 1)
    np.testing.assert_allclose(logits, wanted, rtol=1e-13)


def test_the_hidden_head_fires_between_its_two_layers(setting):
    context = setting("resnet19-tet", width=1 / 64)
    x_seq = np.random.default_rng(0).normal(size=(3, 4, 2, 2, 8)) + 1
    logits, cache = head_forward(x_seq, "head", context)
    p = context.params
    c_seq = x_seq.mean(axis=(2, 3)) @ p["head.hidden.weight"] + p["head.hidden.bias"]
    o_seq, _ = NUMPY.lif_forward(c_seq, None, context.net.lif)
    wanted = (o_seq @ p["head.fc.weight"] + p["head.fc.bias"]).mean(axis=0)
    assert 0 < o_seq.mean() < 1
    assert np.array_equal(cache.hidden.lif.o_seq, o_seq)
    np.testing.assert_allclose(logits, wanted, rtol=1e-13)
