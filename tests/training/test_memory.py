"""The setting `memory`: a step's memory is estimated, and less is taken where it would not fit."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from refsnn.network import encode, forward
from refsnn.ops import get_ops
from refsnn.training import algorithm, memory
from refsnn.training.config import make_config
from refsnn.training.monitor import Diverged
from refsnn.training.run import start
from refsnn.training.trainer import initial_state

SHAPE = (16, 16, 3)


def prepared(**settings):
    config = make_config(
        **{"arch": "1-2:8-32", "steps": 4, "batch_size": 8, "method": "vanilla"} | settings
    )
    net = config.build_network(3, 10)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, *SHAPE)).astype(config.dtype)
    return config, net, initial_state(config, net), (images, rng.integers(10, size=8))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("ops", "dtype", "arch"), [("numba", "float32", "1-2:8-32"), ("numpy", "float64", "1-2:2-4")]
)
def test_a_step_with_low_memory_has_the_same_bits(optimizer, ops, dtype, arch):
    found = []
    for keeps_all in (True, False):
        config, net, state, batch = prepared(
            optimizer=optimizer, ops=ops, dtype=dtype, method="shortcut", arch=arch
        )
        for _ in range(3):
            step = algorithm.train_step(state, net, config, get_ops(ops), batch, 10, keeps_all)
        numbers = state.params | state.optimizer | state.buffers | step.rates
        found.append({"loss": step.loss, "iteration": state.iteration, **numbers})
    assert list(found[0]) == list(found[1])
    for name, value in found[0].items():
        assert np.array_equal(value, found[1][name]), name


def test_nothing_has_moved_where_an_update_is_not_finite():
    config, net, state, batch = prepared(optimizer="sgd", lr=3e38, weight_decay=100)
    before = dict(state.params)
    with pytest.raises(Diverged, match="the update of"), np.errstate(all="ignore"):
        algorithm.train_step(state, net, config, get_ops("numba"), batch, 10, False)
    assert state.iteration == 0
    assert all(state.params[name] is value for name, value in before.items())


@pytest.mark.parametrize("keeps_all", [True, False])
def test_the_first_parameter_whose_numbers_overflow_is_named(keeps_all):
    """The square of an early parameter's gradient overflows, and a late parameter."""
    config, net, state, batch = prepared(lr=3e38)
    state.params["head.fc.weight"] *= np.float32(1e25)
    with pytest.raises(Diverged, match=r"square\.stem\.conv0\.weight$"), np.errstate(all="ignore"):
        algorithm.train_step(state, net, config, get_ops("numba"), batch, 10, keeps_all)


@pytest.mark.parametrize(
    ("ops", "dtype", "arch"), [("numba", "float32", "2-2:16-32"), ("numpy", "float64", "2-2:8-16")]
)
def test_the_estimate_is_near_what_a_step_takes(ops, dtype, arch):
    config, net, state, batch = prepared(ops=ops, dtype=dtype, arch=arch, batch_size=8)
    algorithm.train_step(state, net, config, get_ops(ops), batch, 10)
    tracemalloc.start()
    algorithm.train_step(state, net, config, get_ops(ops), batch, 10)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.6 * taken < memory.step_bytes(net, config, (8, *SHAPE)) < 2 * taken


@pytest.mark.parametrize("arch", ["1-2:8-32", "resnet18-imagenet", "resnet20m", "resnet19"])
def test_layers_have_the_sizes_that_a_forward_pass_has(arch):
    config = make_config(arch=arch, width=1 if ":" in arch else 1 / 8, steps=1, dtype="float32")
    net, sizes = config.build_network(3, 10), []
    state, ops = initial_state(config, net), get_ops("numba")

    def watched(x, w, p):
        y, cache = ops.conv_forward(x, w, p)
        sizes.append(y[0].size)
        return y, cache

    images = np.zeros((1, 33, 40, 3), np.float32)
    forward(net, state.params, state.buffers, encode(images, 1), replace(ops, conv_forward=watched))
    assert sorted(memory.layer_sizes(net, 33, 40)) == sorted(sizes)


def test_it_is_low_where_a_step_would_not_fit(monkeypatch):
    config, net, _, _ = prepared()
    needed = memory.step_bytes(net, config, (8, *SHAPE))
    for available, keeps_all in ((needed + 1, True), (needed, False)):
        monkeypatch.setattr(memory, "available_memory", lambda available=available: available)
        assert memory.keeps_all(net, config, (8, *SHAPE)) == keeps_all
        for name, wanted in (("normal", True), ("low", False)):
            forced = prepared(memory=name)[0]
            assert memory.keeps_all(net, forced, (8, *SHAPE)) == wanted


@pytest.mark.parametrize("available", [0, 1 << 40])
def test_a_training_says_that_memory_is_low(available, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(memory, "available_memory", lambda: available)
    config = make_config(arch="1-1:4-8", epochs=1, batch_size=721, ops="numpy", steps=1)
    start(tmp_path / "run", config).train(quiet=False)
    assert ("only spikes are kept" in capsys.readouterr().err) == (available == 0)
