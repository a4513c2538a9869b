"""The measurements that the figures of gradients share."""

import numpy as np
import pytest

from refsnn.data import load
from refsnn.kernels.threads import get_num_threads
from refsnn.network import (
    Network,
    architecture,
    backward,
    forward,
    init_buffers,
    init_params,
)
from refsnn.ops import LIF, NUMPY, get_ops, make_surrogate
from refsnn.training.algorithm import gradients as gradients_in_training
from refsnn.training.checkpoint import State
from refsnn.training.config import make_config

DIGITS = load("digits")


@pytest.fixture
def gradients(script):
    return script("_gradients")


def test_one_thread_computes_within_the_context(gradients):
    before = get_num_threads()

    @gradients.one_thread()
    def threads():
        return get_num_threads()

    assert [threads(), threads()] == [1, 1]
    assert get_num_threads() == before


def test_networks_of_a_depth(gradients):
    assert architecture(gradients.of_depth(20)) == architecture("resnet20")
    assert gradients.of_depth(8) == "1-1-1:16-32-64"
    for depth in (2, 9, -4):
        with pytest.raises(ValueError, match=rf"^depths: got {depth}, want 6 n \+ 2"):
            gradients.of_depth(depth)


@pytest.mark.parametrize("method", ["vanilla", "shortcut", "evolutionary"])
def test_gradients_are_those_of_the_first_iteration_of_training(gradients, method):
    run, labels = gradients.fresh("1-1:2-3", DIGITS, LIF(), 4, 8, 2, NUMPY)
    params = run.context.params
    config = make_config(method=method, arch="1-1:2-3", steps=2, dtype="float32")
    if method == "vanilla":
        params = {name: p for name, p in params.items() if not name.startswith("branch.")}
    state = State(params, run.context.buffers, {}, np.random.default_rng(0))
    rng = np.random.default_rng(4).spawn(2)[1]
    which = rng.permutation(len(DIGITS.train.labels))[:8]
    batch = DIGITS.batch(DIGITS.train, which, "float32")
    assert np.array_equal(labels, batch[1])
    side = config.side_coefficient(1, 10**12)  # of so many that lambda(1) is lambda
    _, _, wanted = gradients_in_training(
        config.build_network(1, 10), state.params, state.buffers, config, NUMPY, batch, side
    )
    got = gradients.pull_back(run, labels, gradients.SIDES[method])
    for name, g in wanted.items():
        assert g.dtype == got[name].dtype == np.float32
        assert np.allclose(got[name], g, rtol=1e-5, atol=1e-9), name


def test_a_seed_selects_the_same_images_for_every_network(gradients):
    labels = [
        gradients.fresh(arch, DIGITS, LIF(), seed, 16, 1, NUMPY)[1]
        for arch, seed in (("1:2", 0), ("1-1:3-3", 0), ("1:2", 1))
    ]
    assert np.array_equal(labels[0], labels[1])
    assert not np.array_equal(labels[0], labels[2])


@pytest.mark.parametrize("size", [0, 1443])
def test_a_batch_that_the_data_cannot_fill_is_named(gradients, size):
    with pytest.raises(ValueError, match=rf"^batch_size: got {size}, want 1 to 1442"):
        gradients.fresh("1:2", DIGITS, LIF(), 0, size, 1, NUMPY)


def test_a_pass_pulled_back_by_another_surrogate_is_the_pass_made_with_it(gradients):
    other = LIF(surrogate=make_surrogate("rectangular", 1.5))
    ops = get_ops("numba")
    run, labels = gradients.fresh("1-1:2-3", DIGITS, LIF(), 0, 4, 2, ops)
    made, _ = gradients.fresh("1-1:2-3", DIGITS, other, 0, 4, 2, ops)
    got = gradients.pull_back(gradients.with_surrogate(run, other), labels, 1.0)
    own, wanted = (gradients.pull_back(r, labels, 1.0) for r in (run, made))
    for name, g in wanted.items():
        assert np.array_equal(got[name], g), name
    assert not np.array_equal(own["stem.conv0.weight"], wanted["stem.conv0.weight"])


@pytest.mark.parametrize("side", [0.0, 0.5])
def test_norms_of_delta_are_gradients_of_biases_where_a_layer_is_one_neuron(gradients, side):
    """With one step, image, pixel and channel, dL/dbeta = sum of delta is delta itself."""
    net = Network(architecture("2-1:1-1"), 1, 3)
    rng = np.random.default_rng(1)
    params = {name: p + rng.normal(size=p.shape) for name, p in init_params(net, rng).items()}
    x_seq = rng.normal(size=(1, 1, 1, 1, 1))
    run = forward(net, params, init_buffers(net), x_seq, NUMPY, training=False)
    labels = np.array([2])
    _, cache = NUMPY.objective_forward(run.branches, labels, side)
    wanted = backward(run, NUMPY.objective_backward(cache))
    grads, norms = gradients.delta_norms(run, labels, side)
    assert all(np.array_equal(grads[name], g) for name, g in wanted.items())
    names = ["stem.lif0"]
    names += [f"{b.name}.lif{k}" for b in net.blocks() for k in (1, 2)]
    assert list(norms) == names
    for name, value in norms.items():
        bias = abs(wanted[f"{name.replace('lif', 'bn')}.bias"]).item()
        assert value == pytest.approx(bias, rel=1e-12)
    assert len({round(value, 12) for value in norms.values()}) == len(names)


def test_unfused_kernels_give_numpys_norms(gradients):
    norms = [
        gradients.delta_norms(
            *gradients.fresh("1-1:2-3", DIGITS, LIF(), 0, 4, 2, ops), gradients.SIDES["shortcut"]
        )[1]
        for ops in (gradients.unfused(), NUMPY)
    ]
    assert list(norms[0]) == list(norms[1])
    assert np.allclose(list(norms[0].values()), list(norms[1].values()), rtol=1e-4)


def test_a_norm_beyond_float32_has_no_logarithm(gradients):
    assert gradients.log10_norm("g", 1e-3) == pytest.approx(-3)
    for value in (0.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"^g: a gradient's norm is .*, beyond float32"):
            gradients.log10_norm("g", value)
