"""Folding: a folded network computes what the network does, and the rest is refused."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn.network import (
    BLOCKS,
    Network,
    architecture,
    encode,
    fold,
    forward,
    init_buffers,
    init_params,
    neuron_caches,
    without_branches,
)
from refsnn.ops import LIF, NEURONS, NORMS, NUMPY, BatchNorm, get_ops
from refsnn.training.config import make_config
from refsnn.training.recipes import self_contained

P = LIF(0.4, 0.7)
AT_THRESHOLD = replace(P, fire_at_threshold=True)
SUBTRACT = replace(P, reset="subtract")
TDBN = {"norm": BatchNorm(scale=0.7), "merge_scale": 0.5**0.5, "norm_identity": True}
MODELS = {
    "paper": {},
    "tdbn": TDBN,
    "per step": {"norm": BatchNorm("per_step")},
    **{name: {"neuron_model": kind()} for name, kind in NEURONS.items()},
    "diet": {"neuron_model": NEURONS["diet"](), "lif": SUBTRACT},
    "mpbn, at the threshold": {"neuron_model": NEURONS["mpbn"](), "lif": AT_THRESHOLD},
    **{name: {"norm_model": kind()} for name, kind in NORMS.items()},
    "psp without root": {"norm_model": NORMS["psp"](root=False)},
    "real_spike, tdbn": TDBN | {"neuron_model": NEURONS["real_spike"]()},
    "real_spike, tebn": {"neuron_model": NEURONS["real_spike"](), "norm_model": NORMS["tebn"]()},
    "real_spike, psp": {"neuron_model": NEURONS["real_spike"](), "norm_model": NORMS["psp"]()},
    "mpbn, bntt": {"neuron_model": NEURONS["mpbn"](), "norm_model": NORMS["bntt"]()},
}
ARCHS = ["1-1:4-6", "2-1:4-4", "resnet19-tet", "resnet20m", "resnet18-imagenet"]


def drawn(net, seed=0):
    """Random numbers: gammas, amplitudes and thresholds of both signs, any statistics."""
    rng = np.random.default_rng(seed)
    params = {n: x + rng.normal(0, 0.5, x.shape) for n, x in init_params(net, rng).items()}
    for name, x in params.items():
        if name.endswith((".leak", ".v_th", ".tau")):
            params[name] = np.abs(x) + 0.1
        elif ".lif" in name and name.endswith(".weight"):  # MPBN's gamma
            params[name] = x * rng.choice([-1, 1], x.shape)
    buffers = {
        n: rng.uniform(0.3, 2, x.shape) if n.endswith("var") else rng.normal(0, 0.5, x.shape)
        for n, x in init_buffers(net).items()
    }
    if net.norm_model is not None and net.norm_model.of_inputs:
        buffers = {n: x if n.endswith("var") else 0 * x for n, x in buffers.items()}
    return params, buffers


def compare(net, params, buffers, x_seq, ops=NUMPY):
    folded, numbers = fold(net, params, buffers)
    assert numbers.keys() == folded.shapes().keys()
    assert {n: x.shape for n, x in numbers.items()} == folded.shapes()
    main, own = without_branches(net, params)
    want = forward(main, own, buffers, x_seq, ops, training=False)
    got = forward(folded, numbers, {}, x_seq, ops, training=False)
    layers, other = dict(neuron_caches(want)), dict(neuron_caches(got))
    assert layers.keys() == other.keys()
    for name, cache in layers.items():
        np.testing.assert_array_equal(other[name].o_seq, cache.o_seq, err_msg=name)
    scale = np.abs(want.branches[-1]).max()
    assert scale > 0
    np.testing.assert_allclose(got.branches[-1], want.branches[-1], rtol=0, atol=1e-10 * scale)
    return folded, numbers


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("model", MODELS)
def test_a_folded_network_has_the_same_spikes_and_logits(model, block):
    given = {"lif": P} | MODELS[model]
    if block.startswith("sew") and "tdbn" in model:
        pytest.skip("blocks of spikes have no sums to scale")
    net = Network(architecture("2-1:4-6"), 2, 3, block=block, steps=3, **given)
    params, buffers = drawn(net)
    x_seq = encode(np.random.default_rng(1).normal(size=(3, 6, 6, 2)), 3)
    if block.startswith("sew") and "real_spike" in model:
        with pytest.raises(ValueError, match="net: has RealSpike in blocks of kind sew_"):
            fold(net, params, buffers)
        return
    folded, numbers = compare(net, params, buffers, x_seq)
    assert not folded.buffer_shapes()
    assert folded.is_folded
    if "mpbn" in model:
        signs = np.concatenate([x for n, x in numbers.items() if n.endswith(".sign")])
        assert {-1.0, 1.0} <= set(signs)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("model", ["tdbn", "real_spike", "mpbn", "tebn", "psp"])
def test_every_kind_of_stem_and_head_folds(model, arch):
    given = {"lif": P} | MODELS[model]
    net = Network(architecture(arch).scaled(0.04), 2, 3, steps=2, downsample="avgpool", **given)
    params, buffers = drawn(net)
    compare(net, params, buffers, np.random.default_rng(1).normal(size=(2, 2, 32, 32, 2)))


@pytest.mark.parametrize("recipe", self_contained())
def test_every_recipe_folds(recipe):
    config = make_config(recipe=recipe, arch="1-1:4-6", steps=3, dtype="float64")
    net = config.build_network(1, 3)
    params, buffers = drawn(net)
    x_seq = encode(np.random.default_rng(1).normal(size=(3, 6, 6, 1)), 3)
    if net.block == "sew_add" and net.neuron_model is not None:
        pytest.fail("no recipe has amplitudes in such blocks")
    compare(net, params, buffers, x_seq)


def test_in_float32_by_kernels_numbers_are_rounded_once():
    net = Network(architecture("1-1:8-16"), 3, 10, lif=P)
    rng = np.random.default_rng(0)
    params = init_params(net, rng, np.float32)
    buffers = init_buffers(net, np.float32)
    x_seq = encode(rng.normal(size=(4, 8, 8, 3)).astype(np.float32), 3)
    folded, numbers = fold(net, params, buffers)
    assert {x.dtype for x in numbers.values()} == {np.dtype(np.float32)}
    runs = [
        forward(*given, x_seq, get_ops("numba"), training=False)
        for given in ((*without_branches(net, params), buffers), (folded, numbers, {}))
    ]
    np.testing.assert_allclose(runs[0].branches[-1], runs[1].branches[-1], rtol=1e-3, atol=1e-4)


def test_a_channel_with_gamma_0_fires_always_or_never():
    net = Network(architecture("1:2"), 1, 2, lif=P, neuron_model=NEURONS["mpbn"]())
    params, buffers = drawn(net)
    params["stem.lif0.weight"][:] = 0
    params["stem.lif0.bias"][:] = [0.8, 0.7]  # v_th is 0.7
    x_seq = np.random.default_rng(0).normal(size=(3, 2, 4, 4, 1))
    folded, numbers = compare(net, params, buffers, x_seq)
    run = forward(folded, numbers, {}, x_seq, NUMPY, training=False)
    spikes = next(neuron_caches(run))[1].o_seq
    assert spikes[..., 0].all()
    assert not spikes[..., 1].any()


def test_neurons_of_ones_own_with_statistics_are_refused():
    class Own(type(NEURONS["plif"]())):
        has_statistics = True

    net = Network(architecture("1:2"), 1, 2, lif=P, neuron_model=Own())
    with pytest.raises(ValueError, match="net: has Own, and fold does not know what its statist"):
        fold(net, *drawn(net))


def test_what_folding_can_not_do_is_refused():
    net = Network(architecture("1:4"), 1, 2, branches="block", aligned=7)
    params, buffers = init_params(net, np.random.default_rng(0)), init_buffers(net)
    folded, numbers = fold(net, params, buffers)
    assert folded.aligned == 0
    assert folded.branches == "none"
    with pytest.raises(ValueError, match="net: is folded already"):
        fold(folded, numbers, {})
    with pytest.raises(ValueError, match="training: got True, but the network is folded"):
        forward(folded, numbers, {}, np.zeros((1, 1, 4, 4, 1)), NUMPY)
    with pytest.raises(ValueError, match="net: is folded, and has no parameters to be trained"):
        init_params(folded, np.random.default_rng(0))
    by_step = Network(architecture("1:4"), 1, 2, norm_model=NORMS["tebn"](), steps=3)
    made = fold(by_step, init_params(by_step, np.random.default_rng(0)), init_buffers(by_step))
    with pytest.raises(ValueError, match="x_seq: got 2 steps, want 3"):
        forward(*made, {}, np.zeros((2, 1, 4, 4, 1)), NUMPY, training=False)
