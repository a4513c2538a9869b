"""Norms, blocks and losses of other methods among the cases of layers, blocks and networks."""

import re
from dataclasses import replace

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.oracle import vectors
from refsnn.oracle.agreement import disagreements
from refsnn.oracle.cases import build
from refsnn.oracle.compare import compare_case
from refsnn.oracle.contents import require_inputs
from refsnn.oracle.conventions import CONVENTIONS, LEVELS, PAPER
from refsnn.oracle.methods import CHOICES, NAMES, follows, levels_of
from refsnn.oracle.recipes import recipes
from refsnn.oracle.recompute import recompute

METHODS = [
    {choice: name}
    for choice, methods in CHOICES.items()
    if choice != "neuron_model"
    for name in methods
]
#: what else may be declared with them
WITH = [
    {"norm_model": "tebn", "norm_eps": 1e-3},
    {"norm_model": "bntt", "norm_eps": 1e-5, "norm_momentum": 0.2},
    {"norm_model": "psp", "psp_root": False, "tau": 0.25},
    {"block": "sew_add", "fire_at_threshold": True, "reset_gradient": "detached"},
    {"block": "ms", "tau": 0.25, "v_th": 0.5, "surrogate": "rectangular", "surrogate_shape": 1.0},
    {"potential_loss": "im", "potential_lam": 0.3, "potential_layers": "opposite"},
    {"teacher_loss": "logits", "teacher_weight": 0.4, "teacher_temperature": 2.0},
    {"loss_at": "each step", "tet_lam": 0.05},
    {"loss_at": "each step", "tet_lam": 0.5, "tet_phi": 0.0},
    {"block": "ms", "potential_loss": "im"},
    {"block": "sew_iand", "potential_loss": "mpd_reconstructed", "teacher_loss": "logits"},
]


def words(told):
    return " ".join(f"{name}={value}" for name, value in told.items())


def made(told, networks=("one-step", "evaluation")):
    """The recipes of the levels that methods change; of networks, those of these endings."""
    levels = {
        level
        for choice in told
        for m in [CHOICES.get(choice, {}).get(told[choice])]
        if m
        for level in m.new
    } or {"network"}
    every = recipes([level for level in LEVELS if level in levels], told)
    return [r for r in every if r.level != "network" or r.id.endswith(networks)]


def agrees(told, networks):
    for recipe in made(told, networks):
        case = build(recipe)
        require_inputs(case.level, case.inputs, case.settings, case.conventions)
        assert disagreements(case) == [], case.id
        assert told.items() <= case.conventions.items()


@pytest.mark.parametrize("told", [*METHODS, *WITH], ids=words)
def test_refsnn_and_the_naive_loops_agree(told):
    agrees(told, ("one-step", "evaluation"))


@pytest.mark.slow
@pytest.mark.parametrize("told", [*METHODS, *WITH], ids=words)
def test_they_agree_on_all_networks(told):
    agrees(told, "")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"norm_model": "tebn", "tebn_bias": False}, "can be recognised, but not declared"),
        ({"norm_model": "tebn", "norm_statistics": "per_step"}, "norm_statistics: per_step cannot"),
        (
            {"norm_model": "psp", "norm_statistics": "per_step"},
            "norm_statistics: got per_step, but",
        ),
        ({"block": "sew_iand", "sew_iand": "a (1 - s)"}, "can be recognised, but not declared"),
        ({"tet_lam": 0.05}, "tet_lam: 0.05 cannot be declared without loss_at each step"),
        (
            {"tet_lam": 0.05, "loss_at": "each step", "teacher_loss": "logits"},
            "tet_lam: got 0.05, but teacher_loss is logits",
        ),
        ({"block": "sew"}, "block: got 'sew', want 'basic' or 'sew_add'"),
    ],
    ids=str,
)
def test_what_can_not_be_computed_twice_can_not_be_declared(told, message):
    level = {"norm_model": "layer", "block": "block"}.get(next(iter(told)), "network")
    with pytest.raises(ValueError, match=re.escape(message)):
        refsnn.cases(level, conventions=told)


def test_methods_leave_the_cases_of_lower_levels():
    assert levels_of({}) == LEVELS
    assert levels_of({"neuron_model": "plif"}) == ("surrogate", "neuron")
    assert levels_of({"norm_model": "tebn"}) == ("surrogate", "neuron", "layer")
    assert levels_of({"block": "ms"}) == LEVELS[:-1]
    assert levels_of({"block": "ms", "norm_model": "tebn"}) == ("surrogate", "neuron", "layer")
    assert levels_of({"tet_lam": 0.1}) == LEVELS[:-1]


def test_no_usual_case_follows_their_conventions():
    for level in LEVELS:
        for name in NAMES:
            for value in CONVENTIONS[name].values:
                assert not follows(PAPER, level, name, value)
        assert follows(PAPER, level, "reset_gradient", "detached")


@pytest.mark.parametrize("told", METHODS, ids=words)
@pytest.mark.slow_after(4)
def test_what_a_case_does_not_follow_changes_nothing(told):
    """And what it follows shows in some output of its level."""
    recipe = made(told, ("evolutionary",))[0]
    case = build(recipe)
    for name, convention in CONVENTIONS.items():
        if LEVELS.index(convention.level) > LEVELS.index(case.level) or name in CHOICES:
            continue
        for value in convention.values:
            if value == case.conventions[name] or (name, value) in (("recurrence", "dense"),):
                continue
            try:
                outputs = recompute(case, {name: value}).outputs
            except ValueError:
                assert not follows(case.conventions, case.level, name, value), (name, value)
                continue
            same = all(
                np.allclose(outputs[k], x, rtol=0, atol=1e-11 * np.abs(x).max())
                for k, x in case.outputs.items()
            )
            if not follows(case.conventions, case.level, name, value):
                assert same, (name, value)
            elif name in NAMES or (convention.level == "layer" == case.level and value != "v_th"):
                assert not same, (name, value)  # v_th is 1, as the scale without it


@pytest.mark.parametrize(
    "told",
    [
        {"norm_model": "bntt"},
        {"block": "sew_and"},
        pytest.param({"teacher_loss": "logits"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_vectors_are_written_read_and_checked(told, tmp_path, capsys):
    folder, (level, *_) = tmp_path / "v", [r.level for r in made(told)]
    assert main(["vectors", "generate", str(folder), "--level", level, "--as", words(told)]) == 0
    assert main(["vectors", "check", str(folder)]) == 0
    for read in vectors.read(folder):
        assert told.items() <= read.conventions.items()
        require_inputs(read.level, read.inputs, read.settings, read.conventions)
        assert recompute(read).outputs.keys() == read.outputs.keys()


@pytest.mark.parametrize("told", METHODS, ids=words)
def test_each_input_is_missed(told):
    case = build(made(told)[0])
    for name in case.inputs:
        fewer = {k: v for k, v in case.inputs.items() if k != name}
        with pytest.raises(ValueError, match=rf"^inputs: {re.escape(name)}: got none"):
            require_inputs(case.level, fewer, case.settings, case.conventions)


def test_a_spike_that_rounding_moves_is_followed_in_other_blocks():
    """Everything after it is compared with the case computed from that spike."""
    for told, name in (({"block": "sew_iand"}, "skip.lif"), ({"block": "ms"}, "lif1")):
        case = next(build(r) for r in made(told) if r.id.endswith("stride"))
        potentials = case.outputs[f"{name}.u_pre"]
        index = np.unravel_index(np.abs(potentials - 1).argmin(), potentials.shape)
        spikes = np.full(potentials.shape, np.nan)
        spikes[index] = 1 - case.outputs[f"{name}.o"][index]
        flipped = recompute(case, decided={f"{name}.o": spikes})
        assert flipped.outputs[f"{name}.o"][index] == spikes[index]
        off = 1 - potentials[index]
        near = dict.fromkeys(case.tolerances[f"{name}.u_pre"], 3 * abs(off))
        wide = replace(case, tolerances=case.tolerances | {f"{name}.u_pre": near})
        got = {k: x.copy() for k, x in flipped.outputs.items()}
        got[f"{name}.u_pre"][index] += 2 * off  # on the other side of the threshold
        found = compare_case(wide, got, "float32")
        assert [flip.tensor for flip in found.flips] == [f"{name}.o"]
        assert found.first is None
