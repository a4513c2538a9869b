"""Optimisers and the learning rate, by hand."""

import math

import numpy as np
import pytest

from refsnn.network import init_params
from refsnn.training.config import make_config
from refsnn.training.optimizer import OPTIMIZERS, adamw, cosine, decay_of, init_state, sgd
from refsnn.training.settings import OptimizerSettings

NAME = "stem.conv0.weight"


def array(value):
    return {NAME: np.array([value])}


def test_two_steps_of_sgd():
    """With momentum 0.5, coupled decay 0.1, and a rate that changes between the steps."""
    config = OptimizerSettings(optimizer="sgd", momentum=0.5, weight_decay=0.1)
    params = array(2.0)
    state = init_state(params, config)
    params, state = sgd(params, array(1.0), state, 1, 0.1, config)
    # v = 1 + 0.1 * 2;  w = 2 - 0.1 * 1.2
    np.testing.assert_allclose(state[f"momentum.{NAME}"], 1.2, rtol=1e-15)
    np.testing.assert_allclose(params[NAME], 1.88, rtol=1e-15)
    params, state = sgd(params, array(-0.5), state, 2, 0.01, config)
    # v = 0.5 * 1.2 - 0.5 + 0.1 * 1.88;  w = 1.88 - 0.01 * 0.288
    np.testing.assert_allclose(state[f"momentum.{NAME}"], 0.288, rtol=1e-14)
    np.testing.assert_allclose(params[NAME], 1.87712, rtol=1e-15)


def test_two_steps_of_adamw():
    """With decoupled decay 0.5, and a rate that changes between the steps."""
    config = OptimizerSettings(optimizer="adamw", weight_decay=0.5)
    params = array(2.0)
    state = init_state(params, config)
    params, state = adamw(params, array(4.0), state, 1, 0.1, config)
    # m = 0.4 and s = 0.016, corrected 4 and 16;  w = 2 * 0.95 - 0.1 * 4 / (4 + 1e-8)
    np.testing.assert_allclose(state[f"mean.{NAME}"], 0.4, rtol=1e-14)
    np.testing.assert_allclose(state[f"square.{NAME}"], 0.016, rtol=1e-12)
    np.testing.assert_allclose(params[NAME], 1.8 + 0.1 * 2.5e-9, rtol=1e-14)
    params, state = adamw(params, array(-2.0), state, 2, 0.01, config)
    # m = 0.36 - 0.2 and s = 0.015984 + 0.004, corrected by 0.19 and 0.001999
    np.testing.assert_allclose(state[f"mean.{NAME}"], 0.16, rtol=1e-14)
    np.testing.assert_allclose(state[f"square.{NAME}"], 0.019984, rtol=1e-12)
    direction = (0.16 / 0.19) / (math.sqrt(0.019984 / 0.001999) + 1e-8)
    wanted = (1.8 + 0.1 * 2.5e-9) * 0.995 - 0.01 * direction
    np.testing.assert_allclose(params[NAME], wanted, rtol=1e-14)


def test_epsilon_stands_outside_the_root():
    config = OptimizerSettings(weight_decay=0.0)
    params, _ = adamw(array(0.0), array(1e-8), init_state(array(0.0), config), 1, 1.0, config)
    np.testing.assert_allclose(params[NAME], -0.5, rtol=1e-6)


def test_without_gradient_sgd_keeps_its_decay_in_the_momentum_and_adamw_does_not():
    coupled = OptimizerSettings(optimizer="sgd", momentum=0.9, weight_decay=0.5)
    params, state = sgd(array(2.0), array(0.0), init_state(array(2.0), coupled), 1, 0.1, coupled)
    assert state[f"momentum.{NAME}"] == 1.0
    np.testing.assert_allclose(params[NAME], 1.9, rtol=1e-15)
    apart = OptimizerSettings(optimizer="adamw", weight_decay=0.5)
    params, state = adamw(array(2.0), array(0.0), init_state(array(2.0), apart), 1, 0.1, apart)
    assert not any(moment.any() for moment in state.values())
    np.testing.assert_allclose(params[NAME], 1.9, rtol=1e-15)


def test_adamw_without_decay_does_not_notice_the_scale_of_the_gradient():
    config = OptimizerSettings(weight_decay=0.0)
    steps = []
    for scale in (1.0, 1000.0):
        params, state = array(0.0), init_state(array(0.0), config)
        for i, g in enumerate((1.0, -3.0, 0.5), 1):
            params, state = adamw(params, array(scale * g), state, i, 0.1, config)
        steps.append(params[NAME])
    np.testing.assert_allclose(*steps, rtol=1e-6)


@pytest.fixture(scope="module")
def params():
    net = make_config(arch="resnet19-tet", width=1 / 64).build_network(1, 3)
    params = init_params(net, np.random.default_rng(0))
    return {name: p + 2 for name, p in params.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("decay_on", ["all", "weights"])
def test_decay_spares_norms_and_biases_unless_all_is_asked_for(params, optimizer, decay_on):
    config = OptimizerSettings(optimizer=optimizer, decay_on=decay_on, weight_decay=0.1)
    still = {name: np.zeros_like(p) for name, p in params.items()}
    step = OPTIMIZERS[optimizer]
    new, _ = step(params, still, init_state(params, config), 1, 0.5, config)
    decayed = {name for name, p in params.items() if not np.array_equal(new[name], p)}
    weights = {name for name, p in params.items() if p.ndim > 1}
    assert {"stage1.block0.skip.conv.weight", "head.hidden.weight"} < weights
    assert decayed == (set(params) if decay_on == "all" else weights)
    for name in decayed:
        np.testing.assert_allclose(new[name], params[name] * 0.95, rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "decays"),
    [
        ("stem.conv0.weight", True),
        ("branch.stage1.fc.weight", True),
        ("stage2.block0.skip.bn.weight", False),
        ("stem.bn0.weight", False),
        ("stem.bn0.bias", False),
        ("head.fc.bias", False),
    ],
)
def test_which_parameters_decay(name, decays):
    assert decay_of(name, OptimizerSettings(weight_decay=0.3, decay_on="weights")) == 0.3 * decays
    assert decay_of(name, OptimizerSettings(weight_decay=0.3, decay_on="all")) == 0.3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_keep_names_and_dtype_and_write_nothing(params, optimizer, dtype):
    config = OptimizerSettings(optimizer=optimizer)
    params = {name: p.astype(dtype) for name, p in params.items()}
    grads = {name: np.cos(p) for name, p in params.items()}
    state = init_state(params, config)
    for value in (*params.values(), *grads.values(), *state.values()):
        value.flags.writeable = False  # writing raises
    new, kept = OPTIMIZERS[optimizer](params, grads, state, 1, 0.1, config)
    assert list(new) == list(params)
    assert set(kept) == set(state)
    assert {p.dtype.name for p in (*new.values(), *kept.values())} == {dtype}
    assert all(new[name].shape == p.shape for name, p in params.items())


def test_moments_start_at_zero_one_or_two_for_each_parameter(params):
    for optimizer, moments in (("sgd", ["momentum"]), ("adamw", ["mean", "square"])):
        state = init_state(params, OptimizerSettings(optimizer=optimizer))
        assert set(state) == {f"{moment}.{name}" for moment in moments for name in params}
        assert not any(value.any() for value in state.values())


def test_the_rate_falls_as_a_cosine_from_its_start_towards_zero():
    rates = [cosine(0.2, i, 8) for i in range(1, 9)]
    assert rates[0] == 0.2
    assert rates[4] == pytest.approx(0.1, rel=1e-15)
    assert rates[2] == pytest.approx(0.1 * (1 + math.sqrt(0.5)), rel=1e-15)
    assert sorted(rates, reverse=True) == rates
    assert 0 < rates[-1] == pytest.approx(0.2 - cosine(0.2, 2, 8), rel=1e-12)
    assert cosine(0.2, 9, 8) == 0
