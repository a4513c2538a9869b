"""Losses of potentials: numbers worked by hand, the faults that each names, and training."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.equations.lif import LIF, lif_backward, lif_forward
from refsnn.equations.potentials import POTENTIAL_LOSSES, DistributionLoss, IMLoss
from refsnn.network import (
    Network,
    backward,
    forward,
    init_buffers,
    init_params,
    neuron_caches,
    potential_value,
)
from refsnn.ops import CROSS_ENTROPY, NEURONS, NUMPY, get_ops
from refsnn.training import algorithm
from refsnn.training.config import make_config
from refsnn.training.trainer import initial_state

P = LIF(0.5, 1.0)


def column(*values):
    """Potentials (T, 1, 1)."""
    return np.array(values, float).reshape(-1, 1, 1)


def test_the_mean_potential_worked_by_hand():
    """The mean of 0 and 1 is half a threshold off: 2 (1/2)^2, and -2 at each of both."""
    loss, u_pre = IMLoss(), column(0, 1)
    assert loss.value(u_pre, P) == 2 * 0.25
    assert loss.gradient(u_pre, P).ravel().tolist() == [-1, -1]
    assert IMLoss().value(column(0.25, 1.75), P) == 0
    assert not IMLoss().gradient(column(0.25, 1.75), P).any()


@pytest.mark.parametrize(
    ("block", "inside"),
    [
        ("basic", {"stage1.block0.lif1", "stage2.block0.lif1"}),
        ("sew_add", {"stage1.block0.lif1", "stage2.block0.lif1", "stage2.block0.skip.lif"}),
        ("ms", {"stage1.block0.lif2", "stage2.block0.lif2"}),
    ],
)
def test_layers_inside_of_blocks_do_not_count_for_the_mean_potential(block, inside):
    net = replace(make_config(arch="1-1:2-3").build_network(1, 2), block=block)
    assert {name for name in net.neurons() if not net.ends_block(name)} == inside
    params, rng = init_params(net, np.random.default_rng(0)), np.random.default_rng(1)
    x = rng.normal(0.5, 1, (2, 3, 6, 6, 1))
    given = net, params, init_buffers(net), x, NUMPY
    for loss in (IMLoss(0.5), DistributionLoss(0.3)):
        run = forward(*given, potential_loss=loss)
        counted = [c for n, c in neuron_caches(run) if loss.inside_blocks or n not in inside]
        want = sum(loss.value(cache.u_pre_seq, net.lif) for cache in counted)
        assert potential_value(run) == pytest.approx(want)
        assert want > 0


def standard(mean, deviation, count=4000):
    """Potentials of one channel whose distances from v_th have this mean and deviation."""
    x = np.random.default_rng(0).normal(size=count)
    x = (x - x.mean()) / x.std() * deviation + mean
    return (x + 1).reshape(-1, 1, 1)


@pytest.mark.parametrize(
    ("mean", "deviation", "want"),
    [
        (0.0, 1.0, 0.0),
        (0.5, 0.75, 0.0),
        (3.0, 1.5, 1.5**2),  # all on one side of the threshold
        (-3.0, 1.5, 1.5**2),
        (0.0, 2.5, 0.5**2),  # beyond the slope's reach
        (0.25, 0.5, 0.25**2),  # close to the threshold
    ],
)
def test_each_fault_of_a_distribution_is_named_alone(mean, deviation, want):
    loss, u_pre = DistributionLoss(lam=1.0), standard(mean, deviation)
    assert loss.value(u_pre, P) == pytest.approx(want, abs=1e-6)
    gradient = loss.gradient(u_pre, P)
    if want == 0:
        assert not np.any(np.abs(gradient) > 1e-9)
    else:
        smaller = u_pre - 1e-3 * gradient / np.abs(gradient).max()
        assert loss.value(smaller, P) < loss.value(u_pre, P)


def test_a_distribution_is_measured_in_units_of_the_width():
    rng = np.random.default_rng(1)
    u_pre, loss = rng.normal(0.2, 1, (3, 20, 4)), DistributionLoss(0.5, 2.0)
    value, gradient = loss.value(u_pre, P), loss.gradient(u_pre, P)
    scaled = DistributionLoss(0.5, 6.0)
    p = LIF(0.5, 3.0)
    assert scaled.value(3 * u_pre, p) == pytest.approx(value)
    np.testing.assert_allclose(3 * scaled.gradient(3 * u_pre, p), gradient, rtol=1e-10)
    assert value > 0


def test_a_silent_layer_has_a_finite_gradient():
    for loss in (IMLoss(), DistributionLoss()):
        gradient = loss.gradient(np.zeros((2, 3, 4), np.float32), P)
        assert gradient.dtype == np.float32
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("mean", "deviation"), [(-5, 0), (0.7, 0), (-50, 1e-5), (-5, 1e-4)])
def test_a_channel_that_hardly_varies_has_the_gradient_of_float64(mean, deviation):
    loss, rng = DistributionLoss(), np.random.default_rng(0)
    u_pre = rng.normal(mean, deviation, (1, 4000, 1)).astype(np.float32)
    want = loss.gradient(u_pre.astype(float), P)
    for ops in (NUMPY, get_ops("numba")):
        got = loss.gradient(u_pre, P, ops.channel_moments)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * np.abs(want).max())
        assert got.mean() == pytest.approx(want.mean(), rel=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lif", [P, LIF(0.5, reset="subtract"), LIF(reset_gradient="detached")])
def test_kernels_carry_the_source_back_as_numpy_does(lif, dtype):
    rng = np.random.default_rng(0)
    c, do, source = (rng.normal(0.4, 1, (4, 3000)).astype(dtype) for _ in range(3))
    _, cache = lif_forward(c, None, lif)
    want = lif_backward(do, cache, source_seq=source)
    got = get_ops("numba").lif_backward(do, cache, source_seq=source)
    none = lif_backward(do, cache)
    atol = 1e-5 if dtype == np.float32 else 0
    np.testing.assert_allclose(got.dc_seq, want.dc_seq, rtol=1e-5, atol=atol)
    assert not np.allclose(want.dc_seq, none.dc_seq)
    # the last step's potential is nobody's past: its delta has the source as it is
    np.testing.assert_allclose(want.dc_seq[-1] - none.dc_seq[-1], source[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", POTENTIAL_LOSSES)
@pytest.mark.parametrize("block", ["basic", "ms", "sew_add"])
def test_low_memory_and_kernels_in_a_network(name, block):
    config = make_config(arch="1-1:5-16", block=block, steps=3)
    net, rng, loss = config.build_network(2, 3), np.random.default_rng(0), POTENTIAL_LOSSES[name]()
    params, buffers = init_params(net, rng, np.float32), init_buffers(net, np.float32)
    x_seq, labels = rng.normal(size=(3, 4, 8, 8, 2)).astype(np.float32), np.array([0, 1, 2, 0])

    def step(ops, loss=loss, **options):
        run = forward(net, params, buffers, x_seq, ops, potential_loss=loss, **options)
        _, cache = ops.objective_forward(run.branches, labels, 0.25, "logits", CROSS_ENTROPY)
        return potential_value(run), backward(run, ops.objective_backward(cache))

    value, grads = step(NUMPY)
    other, other_grads = step(get_ops("numba"))
    low, low_grads = step(get_ops("numba"), keep="spikes")
    assert value > 0
    assert other == pytest.approx(value, rel=1e-5)
    assert low == other
    _, plain = step(NUMPY, None)
    assert not np.allclose(plain["stem.conv0.weight"], grads["stem.conv0.weight"], rtol=1e-2)
    for key, g in grads.items():
        assert other_grads[key].tobytes() == low_grads[key].tobytes(), key
        atol = 1e-3 * max(float(np.abs(g).max()), 1e-3)
        np.testing.assert_allclose(other_grads[key], g, rtol=0, atol=atol, err_msg=key)


def test_neurons_with_parameters_are_refused():
    net = Network(make_config(arch="1:2").network.architecture(), 1, 2)
    net = replace(net, neuron_model=NEURONS["plif"]())
    params = init_params(net, np.random.default_rng(0))
    x = np.zeros((2, 1, 4, 4, 1))
    with pytest.raises(ValueError, match="want it for plain LIFs, and not for PLIF"):
        forward(net, params, init_buffers(net), x, NUMPY, potential_loss=IMLoss())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"potential_loss": "im", "neuron_model": "plif"},
            "potential_loss: got im, but neuron_model is plif; want plain LIFs",
        ),
        ({"potential_lam": 2.0}, "potential_lam: got 2.0, but potential_loss is none"),
        ({"potential_loss": "mean"}, "potential_loss: got 'mean', want one of none, im, mpd"),
        ({"surrogate_end": 0.0}, "surrogate_end: got 0.0, want a finite number above 0"),
        (
            {"surrogate": "refsnn.equations.surrogate:Tanh", "surrogate_end": 2.0},
            "surrogate_end: want it for tanh",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_config(**given)


@pytest.mark.parametrize("kind", [IMLoss, DistributionLoss])
def test_a_negative_weight_is_refused(kind):
    with pytest.raises(ValueError, match="lam: got -1"):
        kind(-1)
    with pytest.raises(ValueError, match="half_width"):
        DistributionLoss(half_width=0.0)


def test_training_adds_the_loss(tmp_path):
    given = ["--recipe", "im-loss", "--arch", "1:4", "--epochs", "2"]
    whole = tmp_path / "whole"
    assert main(["train", *given, "--out", str(whole)]) == 0
    plain = tmp_path / "plain"
    assert main(["train", "--arch", "1:4", "--epochs", "2", "--out", str(plain)]) == 0
    first = [json.loads((x / "metrics.jsonl").read_text().splitlines()[0]) for x in (whole, plain)]
    assert first[0]["loss"] > first[1]["loss"] + 1  # mean potentials begin far from v_th
    config = json.loads((whole / "config.json").read_text())
    assert (config["potential_loss"], config["surrogate_end"]) == ("im", 20.0)


def test_a_surrogate_without_an_end_stays():
    config = make_config(surrogate="sigmoid", surrogate_shape=2.0, epochs=4)
    net = config.build_network(1, 3)
    assert config.in_epoch(net, 3) is net
    moved = make_config(surrogate="tanh", surrogate_end=2.0, epochs=4)  # from the usual 0.5
    numbers = [moved.in_epoch(net, epoch).lif.surrogate.k for epoch in range(5)]
    np.testing.assert_allclose(numbers, [0.5, 0.5 * 2**0.5, 1, 2**0.5, 2])


def test_a_step_takes_the_surrogate_of_its_epoch(monkeypatch):
    """Epochs of two iterations: the third is the second epoch's first."""
    config = make_config(arch="1:2", surrogate="sigmoid", surrogate_shape=2.0, surrogate_end=32.0)
    config = config.changed(epochs=4, ops="numpy", dtype="float64")
    seen = []

    def watched(net, *rest):
        seen.append(net.lif.surrogate.alpha)
        raise StopIteration

    monkeypatch.setattr(algorithm, "gradients", watched)
    net = config.build_network(1, 2)
    state = initial_state(config, net)
    for iteration in range(8):
        state.iteration = iteration
        with pytest.raises(StopIteration):
            algorithm.train_step(state, net, config, NUMPY, (np.zeros((1, 4, 4, 1)), [0]), 2)
    np.testing.assert_allclose(seen, np.repeat([2.0, 4, 8, 16], 2))


def test_gradients_are_those_of_the_last_epoch(tmp_path, capsys):
    """The command and the model take the surrogate that training ended with."""
    folder = tmp_path / "run"
    given = ["--surrogate", "sigmoid", "--surrogate-shape", "2", "--surrogate-end", "20"]
    assert main(["train", *given, "--arch", "1:4", "--epochs", "4", "--out", str(folder)]) == 0
    model, test = refsnn.load(folder), refsnn.load_digits().test
    images, labels = test.images[:8], test.labels[:8]
    last = replace(model.config.neuron, surrogate_shape=2 * 10**0.75, surrogate_end=None)
    fixed = replace(model.net, lif=replace(model.net.lif, surrogate=last.make_surrogate()))
    other = replace(model, net=fixed, config=replace(model.config, neuron=last))
    got, want = model.gradients(images, labels), other.gradients(images, labels)
    for name, g in want.items():
        np.testing.assert_allclose(got[name], g, rtol=1e-4, atol=1e-6, err_msg=name)
    capsys.readouterr()
    assert main(["gradients", str(folder), "--json", "-"]) == 0
    layer = json.loads(capsys.readouterr().out)["layers"][0]
    assert max(layer["mean_slope"]) < 0.6  # of alpha = 2 it is nearer to its peak of 0.5
    im = ["--recipe", "im-loss", "--arch", "1:4"]
    assert main(["gradients", *im]) == 2
    assert "potential_loss: got im, want none" in capsys.readouterr().err
