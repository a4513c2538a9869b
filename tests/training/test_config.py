"""Settings: which are refused, what presets hold, what becomes of them."""

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn import spec
from refsnn.network import Network, architecture
from refsnn.ops import LIF, BatchNorm, make_surrogate
from refsnn.training.config import PRESETS, from_dict, make_config, settings_fields
from refsnn.training.folder import read_config
from refsnn.training.settings import DataSettings

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
NAMES = [
    "method",
    "optimizer",
    "dtype",
    "branches",
    "surrogate",
    "surrogate_edge",
    "reset_gradient",
    "decay_on",
    "lam_clock",
    "branch_sum",
    "readout",
]
NAMES += ["downsample", "norm_statistics", "ops", "arch"]


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in NUMBERS.items() for v in vs])
def test_a_number_out_of_range_is_named_with_what_came(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: got {value!r}, want"):
        make_config(**{name: value})


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_choice_is_named_with_what_came(name):
    with pytest.raises(ValueError, match=rf"^{name}: got 'nothing', want one of"):
        make_config(**{name: "nothing"})


@pytest.mark.parametrize("name", [item.name for _, item in settings_fields()])
def test_a_value_of_another_type_is_named(name):
    default = make_config().to_dict()[name]
    wrong = [[1], {}] + ([1, 0, None, "yes"] if isinstance(default, bool) else [True, False])
    if isinstance(default, int | float) or default is None:
        wrong.append("1")
    if isinstance(default, int):
        wrong += [1.0, None]
    if isinstance(default, str):
        wrong += [1, None]
    for value in wrong:
        with pytest.raises(TypeError, match=rf"^{name}: got "):
            make_config(**{name: value})


def test_only_the_rectangle_has_an_edge():
    with pytest.raises(ValueError, match="surrogate_edge: tanh has no edge"):
        make_config(surrogate_edge="inside")


@pytest.mark.parametrize("name", ["lr", "lam", "tau", "width"])
def test_a_whole_number_too_large_for_a_float_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        make_config(**{name: 10**400})


def test_whole_numbers_serve_as_real_ones_and_limits_are_allowed():
    config = make_config(lr=1, tau=1, momentum=0, lam=0, weight_decay=0, shortcut_weight=0)
    assert config.build_network(1, 2).lif.tau == 1


def test_defaults_are_the_decisions():
    wanted = {
        "method": "evolutionary",
        "branches": "stage",
        "branch_sum": "logits",
        "lam": 0.25,
        "lam_clock": "iteration",
        "shortcut_weight": 1,
        "readout": "mean",
        "downsample": "conv",
        "norm_statistics": "pooled",
        "norm_scale": 1,
        "reset_gradient": "full",
        "fire_at_threshold": False,
        "surrogate_edge": "outside",
        "surrogate_shape": None,
        "cutout": 0,
    }
    values = make_config().to_dict()
    assert {name: values[name] for name in wanted} == wanted


PAPER = {
    "tau": 0.5,
    "v_th": 1.0,
    "surrogate": "tanh",
    "optimizer": "adamw",
    "lr": 0.01,
    "weight_decay": 0.02,
    "decay_on": "all",
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
    "decay_on": "weights",
    "batch_size": 128,
    "epochs": 300,
    "steps": 4,
}


@pytest.mark.parametrize(
    ("preset", "values"), [("digits", {}), ("paper", PAPER), ("authors_code", CODE)]
)
def test_presets_hold_the_values_of_the_decisions(preset, values):
    assert make_config(preset).to_dict() == make_config().to_dict() | values


def test_surrogates_of_the_presets_have_the_decisions_shape():
    assert make_config("paper").build_network(3, 10).lif == LIF(
        0.5, 1.0, make_surrogate("tanh", 0.5)
    )
    code = make_config("authors_code").build_network(3, 10).lif
    assert code == LIF(0.25, 0.5, make_surrogate("rectangular", 1.0, edge="outside"))


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_override_the_preset(preset):
    given_values = {"tau": 0.75, "optimizer": "adamw", "epochs": 2, "reset_gradient": "detached"}
    config = make_config(preset, **given_values)
    wanted = make_config().to_dict() | PRESETS[preset] | given_values
    assert config.to_dict() == wanted
    assert "reset_gradient" not in PRESETS[preset]


def test_unknown_presets_and_settings_are_refused():
    with pytest.raises(ValueError, match="preset: got 'nature', want one of digits, paper"):
        make_config("nature")
    with pytest.raises(ValueError, match="setting: got 'batchsize', did you mean batch_size"):
        from_dict({"batchsize": 3})
    with pytest.raises(ValueError, match="setting: got 'Tau'"):
        make_config("paper", Tau=1.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_json(preset):
    config = make_config(preset, surrogate_shape=0.7, lam=1 / 3)
    assert from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_settings_reach_the_network():
    config = make_config(
        arch="2-1:4-8",
        width=0.5,
        branches="block",
        tau=0.3,
        v_th=0.7,
        surrogate="rectangular",
        surrogate_shape=2.0,
        surrogate_edge="inside",
        reset_gradient="detached",
        fire_at_threshold=True,
        norm_statistics="per_step",
        norm_scale=0.7,
        downsample="avgpool",
        readout="sum",
    )
    assert config.build_network(3, 7) == Network(
        architecture("2-1:2-4"),
        3,
        7,
        branches="block",
        downsample="avgpool",
        readout="sum",
        lif=LIF(
            tau=0.3,
            v_th=0.7,
            surrogate=make_surrogate("rectangular", 2.0, edge="inside"),
            reset_gradient="detached",
            fire_at_threshold=True,
        ),
        norm=BatchNorm(statistics="per_step", scale=0.7),
    )


@pytest.mark.parametrize(
    ("name", "value"), [("reset_gradient", "detached"), ("fire_at_threshold", True)]
)
def test_a_setting_of_the_neuron_changes_its_own_field_alone(name, value):
    assert make_config(**{name: value}).build_network(1, 10).lif == LIF(**{name: value})


def test_each_setting_belongs_to_one_group_and_the_flat_form_holds_all():
    names = [item.name for _, item in settings_fields()]
    assert len(set(names)) == len(names)
    assert list(make_config().to_dict()) != []
    assert set(make_config().to_dict()) == set(names)


def test_the_ledger_names_every_setting_that_decides_something():
    of_the_run = {"steps", "seed", "dtype", "ops", "memory", "validation", "patience"} | {
        item.name for item in fields(DataSettings)
    }
    unnamed = {item.name for _, item in settings_fields() if not spec.clauses_of(item.name)}
    assert unnamed == of_the_run - {"cutout", "event_slices"}


OLD = {
    "detach_reset": True,
    "surrogate": "rectangular",
    "surrogate_edge": True,
    "sum_of": "losses",
    "decay_all": False,
    "fire_at_threshold": True,
}


def test_settings_of_the_first_version_are_read_by_the_names_of_today():
    assert from_dict(OLD) == make_config(
        reset_gradient="detached",
        surrogate="rectangular",
        surrogate_edge="inside",
        branch_sum="losses",
        decay_on="weights",
        fire_at_threshold=True,
    )
    for name in set(OLD) - {"surrogate", "fire_at_threshold", "surrogate_edge"}:
        with pytest.raises(ValueError, match=f"setting: got '{name}'"):
            make_config(**{name: OLD[name]})


@pytest.mark.parametrize("branches", ["stage", "block"])
def test_vanilla_training_has_no_side_branches(branches):
    for method in ("shortcut", "evolutionary"):
        net = make_config(method=method, branches=branches).build_network(1, 10)
        assert net.branches == branches
        assert len(net.segments()) == 3
    assert (
        len(make_config(method="vanilla", branches=branches).build_network(1, 10).segments()) == 1
    )


def coefficients(batches=4, epochs=3, **values):
    config = make_config(epochs=epochs, **values)
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
    config = make_config(epochs=3, lam_clock=clock)
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
        make_config(**settings)


def test_double_precision_takes_what_float32_can_not_hold():
    assert make_config(v_th=1e39, tau=1e-50, dtype="float64").neuron.v_th == 1e39
    assert make_config(lam=0.0, weight_decay=0.0).objective.lam == 0


def test_a_run_with_an_unknown_setting_may_be_of_a_newer_version(tmp_path):
    values = make_config().to_dict() | {"speed": 3}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"config.json: setting: got 'speed', unknown .* newer"):
        read_config(tmp_path)
