"""Settings: which are refused, what presets hold, what becomes of them."""

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.network import Network, architecture
from refsnn.ops import LIF, BatchNorm, make_surrogate
from refsnn.training.config import PRESETS, TrainConfig, from_dict, make_config

NAN, INF = float("nan"), float("inf")
NUMBERS = {
    "width": [0, -1.0, NAN, INF],
    "steps": [0, -1],
    "epochs": [0, -3],
    "batch_size": [0, -8],
    "lr": [0, -0.1, NAN, INF],
    "momentum": [-0.1, 1, 1.5, NAN],
    "weight_decay": [-1e-4, NAN, INF],
    "seed": [-1],
    "tau": [0, 1.5, -0.5, NAN, INF],
    "v_th": [0, -1.0, NAN, INF],
    "lam": [-0.25, NAN, INF],
    "shortcut_weight": [-1.0, NAN, INF],
    "cutout": [-1],
    "surrogate_shape": [0, -1.0, NAN, INF],
    "norm_scale": [0, -1.0, NAN, INF],
}
NAMES = ["method", "optimizer", "dtype", "branches", "surrogate", "lam_clock", "sum_of", "readout"]
NAMES += ["downsample", "norm_statistics", "ops", "arch"]


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in NUMBERS.items() for v in vs])
def test_a_number_out_of_range_is_named_with_what_came(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: got {value!r}, want"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_choice_is_named_with_what_came(name):
    with pytest.raises(ValueError, match=rf"^{name}: got 'nothing', want one of"):
        TrainConfig(**{name: "nothing"})


@pytest.mark.parametrize("name", [item.name for item in fields(TrainConfig)])
def test_a_value_of_another_type_is_named(name):
    default = getattr(TrainConfig(), name)
    wrong = [[1], {}] + ([1, 0, None, "yes"] if isinstance(default, bool) else [True, False])
    if isinstance(default, int | float) or default is None:
        wrong.append("1")
    if isinstance(default, int):
        wrong += [1.0, None]
    if isinstance(default, str):
        wrong += [1, None]
    for value in wrong:
        with pytest.raises(TypeError, match=rf"^{name}: got "):
            TrainConfig(**{name: value})


def test_only_the_rectangle_has_an_edge():
    with pytest.raises(ValueError, match="surrogate_edge: tanh has no edge"):
        TrainConfig(surrogate_edge=True)


@pytest.mark.parametrize("name", ["lr", "lam", "tau", "width"])
def test_a_whole_number_too_large_for_a_float_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        TrainConfig(**{name: 10**400})


def test_whole_numbers_serve_as_real_ones_and_limits_are_allowed():
    config = TrainConfig(lr=1, tau=1, momentum=0, lam=0, weight_decay=0, shortcut_weight=0)
    assert config.network(1, 2).lif.tau == 1


def test_defaults_are_the_decisions():
    config = TrainConfig()
    assert (config.method, config.branches, config.sum_of) == ("evolutionary", "stage", "logits")
    assert (config.lam, config.lam_clock, config.shortcut_weight) == (0.25, "iteration", 1)
    assert (config.readout, config.downsample, config.norm_statistics) == ("mean", "conv", "pooled")
    assert not any([config.detach_reset, config.fire_at_threshold, config.surrogate_edge])
    assert (config.cutout, config.norm_scale, config.surrogate_shape) == (0, 1, None)


PAPER = {
    "tau": 0.5,
    "v_th": 1.0,
    "surrogate": "tanh",
    "optimizer": "adamw",
    "lr": 0.01,
    "weight_decay": 0.02,
    "decay_all": True,
    "batch_size": 128,
    "epochs": 300,
    "steps": 4,
}
CODE = {
    "tau": 0.25,
    "v_th": 0.5,
    "surrogate": "rectangular",
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "decay_all": False,
    "batch_size": 128,
    "epochs": 300,
    "steps": 4,
}


@pytest.mark.parametrize(
    ("preset", "values"), [("digits", {}), ("paper", PAPER), ("authors_code", CODE)]
)
def test_presets_hold_the_values_of_the_decisions(preset, values):
    assert make_config(preset, {}).to_dict() == TrainConfig().to_dict() | values


def test_surrogates_of_the_presets_have_the_decisions_shape():
    assert make_config("paper", {}).network(3, 10).lif == LIF(0.5, 1.0, make_surrogate("tanh", 0.5))
    code = make_config("authors_code", {}).network(3, 10).lif
    assert code == LIF(0.25, 0.5, make_surrogate("rectangular", 1.0, inclusive=False))


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_given_wins_over_the_preset(preset):
    given_values = {"tau": 0.75, "optimizer": "adamw", "epochs": 2, "detach_reset": True}
    config = make_config(preset, given_values)
    wanted = TrainConfig().to_dict() | PRESETS[preset] | given_values
    assert config.to_dict() == wanted
    assert "detach_reset" not in PRESETS[preset]


def test_unknown_presets_and_settings_are_refused():
    with pytest.raises(ValueError, match="preset: got 'nature', want one of digits, paper"):
        make_config("nature", {})
    with pytest.raises(ValueError, match="setting: got 'batchsize', want one of method, arch"):
        from_dict({"batchsize": 3})
    with pytest.raises(ValueError, match="setting: got 'Tau'"):
        make_config("paper", {"Tau": 1.0})


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_json(preset):
    config = make_config(preset, {"surrogate_shape": 0.7, "lam": 1 / 3})
    assert from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_settings_reach_the_network():
    config = TrainConfig(
        arch="2-1:4-8",
        width=0.5,
        branches="block",
        tau=0.3,
        v_th=0.7,
        surrogate="rectangular",
        surrogate_shape=2.0,
        surrogate_edge=True,
        detach_reset=True,
        fire_at_threshold=True,
        norm_statistics="per_step",
        norm_scale=0.7,
        downsample="avgpool",
        readout="sum",
    )
    assert config.network(3, 7) == Network(
        architecture("2-1:2-4"),
        3,
        7,
        branches="block",
        downsample="avgpool",
        readout="sum",
        lif=LIF(
            tau=0.3,
            v_th=0.7,
            surrogate=make_surrogate("rectangular", 2.0, inclusive=True),
            detach_reset=True,
            inclusive=True,
        ),
        norm=BatchNorm(statistics="per_step", scale=0.7),
    )


@pytest.mark.parametrize(
    ("name", "field"), [("detach_reset", "detach_reset"), ("fire_at_threshold", "inclusive")]
)
def test_a_switch_of_the_neuron_turns_its_own_field_alone(name, field):
    lif = TrainConfig(**{name: True}).network(1, 10).lif
    assert lif == LIF(**{field: True})


@pytest.mark.parametrize("branches", ["stage", "block"])
def test_vanilla_training_has_no_side_branches(branches):
    for method in ("shortcut", "evolutionary"):
        net = TrainConfig(method=method, branches=branches).network(1, 10)
        assert net.branches == branches
        assert len(net.segments()) == 3
    assert len(TrainConfig(method="vanilla", branches=branches).network(1, 10).segments()) == 1


def coefficients(batches=4, epochs=3, **values):
    config = TrainConfig(epochs=epochs, **values)
    return [config.side_coefficient(i, batches) for i in range(1, epochs * batches + 1)]


def test_the_balance_falls_by_iteration_to_exactly_zero():
    lam = coefficients(method="evolutionary", lam=0.6)
    np.testing.assert_allclose(lam, [0.6 * k / 12 for k in range(11, -1, -1)], rtol=1e-14)
    assert lam[-1] == 0.0


def test_the_balance_falls_by_epoch_to_exactly_zero():
    lam = coefficients(method="evolutionary", lam=0.6, lam_clock="epoch")
    np.testing.assert_allclose(lam, [0.4] * 4 + [0.2] * 4 + [0] * 4, rtol=1e-14)
    assert lam[-4:] == [0.0] * 4


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 9), st.sampled_from(["iteration", "epoch"]))
def test_the_balance_starts_below_lambda_and_never_rises(epochs, batches, clock):
    lam = coefficients(batches, epochs, lam=0.25, lam_clock=clock)
    assert lam[0] < 0.25
    assert sorted(lam, reverse=True) == lam
    assert lam[-1] == 0.0


def test_other_methods_have_constant_weights():
    assert coefficients(method="vanilla", lam=0.6, shortcut_weight=0.3) == [0.0] * 12
    assert coefficients(method="shortcut", lam=0.6) == [1.0] * 12
    assert coefficients(method="shortcut", shortcut_weight=0.3) == [0.3] * 12


@pytest.mark.parametrize("clock", ["iteration", "epoch"])
def test_iterations_outside_the_run_are_refused(clock):
    config = TrainConfig(epochs=3, lam_clock=clock)
    for i in (0, 13):
        with pytest.raises(ValueError, match=r"^i: got"):
            config.side_coefficient(i, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 1e308}, "width: got 1e\\+308, want at most"),
        ({"epochs": 2**31}, "epochs: got 2147483648, want a whole number from 1 to 2147483647"),
        ({"steps": 10**100}, "steps: got an integer of more than 60 digits, want a whole"),
        ({"lr": 10**400}, "lr: got an integer of more than 60 digits, want a finite"),
        ({"arch": "1:99999999"}, "widths: got 99999999, want a whole number from 1 to 65536"),
        ({"v_th": 1e39}, "v_th: got 1e\\+39, which float32 rounds to inf"),
        ({"tau": 1e-50}, "tau: got 1e-50, which float32 rounds to 0"),
        ({"lam": 1e-60}, "lam: got 1e-60, which float32 rounds to 0"),
    ],
)
def test_numbers_beyond_what_can_be_computed_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        TrainConfig(**settings)


def test_double_precision_takes_what_float32_can_not_hold():
    assert TrainConfig(v_th=1e39, tau=1e-50, dtype="float64").v_th == 1e39
    assert TrainConfig(lam=0.0, weight_decay=0.0).lam == 0
