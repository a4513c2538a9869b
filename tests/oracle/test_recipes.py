"""The cases that there are: each known fault is caught by one that is flagged for it."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn import spec
from refsnn.oracle import cases as building
from refsnn.oracle import compute, conventions, recipes
from refsnn.oracle.conventions import CONVENTIONS, LEVELS, PAPER
from refsnn.oracle.methods import NAMES

DEVIATIONS = [
    (name, value)
    for name, c in CONVENTIONS.items()
    for value in c.values
    if value != PAPER[name]
    and name != "recurrence"  # whose cases are there if it is declared
    and name not in NAMES  # likewise
    and value != "spikes kept"  # shows with a late reset only
]


def error(case, **changed):
    """The largest difference, in float32's tolerances, where other conventions are followed."""
    got = compute.compute(
        case.level, case.inputs, case.settings, case.conventions | changed, case.repeat
    )
    return max(
        float(np.abs(got[name] - expected).max() / case.tolerances[name]["float32"])
        for name, expected in case.outputs.items()
    )


@pytest.mark.parametrize(("name", "value"), DEVIATIONS, ids=str)
def test_every_convention_is_told_from_the_papers(cases, name, value):
    level = CONVENTIONS[name].level
    here = [c for c in cases.values() if c.level == level and c.conventions[name] == PAPER[name]]
    assert max(error(case, **{name: value}) for case in here) > 10


@pytest.mark.parametrize("name", ["tau", "v_th", "surrogate_shape"])
def test_every_number_is_told_from_another(cases, name):
    case = cases["neuron/tanh"]
    assert error(case, **{name: 1.01 * case.conventions[name]}) > 10


#: known faults: the flag of the cases that catch it, and the conventions that it is
TRAPS = {
    "a tie fires": ("THRESHOLD_TIE", {"fire_at_threshold": True}),
    "the rectangle's edge counts": ("SURROGATE_EDGE", {"surrogate_edge": "inside"}),
    "1/a is missing": ("SURROGATE_SCALE", {"surrogate_scale": "without 1/a"}),
    "the reset is detached": ("RESET_GRADIENT", {"reset_gradient": "detached"}),
    "the reset's gradient is ignored": ("RESET_GRADIENT", {"reset_gradient": "ignored"}),
    "1 - o is missing": ("RESET_GRADIENT", {"reset_gradient": "spike path only"}),
    "lambda is off by one": ("LAMBDA_CLOCK", {"lam_clock": "iteration from 0"}),
    "logits are summed over time": ("T_MEAN_T_SUM", {"readout": "sum"}),
    "state is kept": ("STATE_KEPT", {"initial_potential": "kept"}),
    "norm per step": ("NORM_AXES", {"norm_statistics": "per_step"}),
    "unbiased in use": ("NORM_VARIANCE", {"norm_variance": "unbiased"}),
    "eps": ("NORM_EPS", {"norm_eps": 1e-3}),
    "biased stored": ("RUNNING_STATISTICS", {"norm_running": "biased"}),
    "statistics detached": ("NORM_GRADIENT", {"norm_gradient": "statistics detached"}),
    "skip after firing": ("SKIP", {"skip": "after firing"}),
    "main counts twice": ("BRANCHES", {"branches_counted": "main twice"}),
    "the learning rate is ahead": ("SCHEDULE", {"schedule": "one iteration ahead"}),
    "decay in the gradient": ("WEIGHT_DECAY", {"decay_form": "in the gradient"}),
    "leak of the input": ("LEAK", {"leak": "tau*(u + c)"}),
    "soft reset": ("RESET", {"reset": "subtract"}),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_is_caught_by_a_case_that_is_flagged_for_it(cases, trap):
    flag, changed = TRAPS[trap]
    flagged = [case for case in cases.values() if flag in case.flags]
    assert any(error(case, **changed) > 10 for case in flagged)


@pytest.mark.parametrize(
    ("declared", "names"),
    [
        ({"tau": 0.75}, ["tie", "tie-at-start", "grid", "zero-init"]),
        ({"tau": 0.83}, ["tie-at-start", "zero-init"]),  # rounds after the first step
        ({"tau": 0.83, "initial_potential": 0.25}, ["zero-init"]),
        ({"tau": 0.83, "input_delay": 1}, ["zero-init"]),
        ({"tau": 0.83, "output": "one step late"}, ["zero-init"]),
        ({"v_th": 0.5}, ["tie", "tie-at-start", "grid"]),
        ({"v_th": 0.5, "input_gain": 0.5}, ["tie", "tie-at-start", "grid", "zero-init"]),
    ],
    ids=str,
)
def test_firing_at_the_threshold_shows_wherever_a_tie_is_flagged(declared, names):
    """Also under declared numbers; where none shows it, none is flagged."""
    flagged = [
        recipe
        for recipe in recipes.recipes(("neuron", "block"), declared)
        if "THRESHOLD_TIE" in recipe.flags.split()
    ]
    assert [recipe.id.split("/")[1] for recipe in flagged] == names
    for recipe in flagged:
        assert error(building.build(recipe), fire_at_threshold=True) > 10, recipe.id


def test_the_rectangles_edge_at_rest_is_met(cases):
    """v_th = 0.5, a = 1: a neuron at rest, u_pre = 0, is on the edge."""
    case = cases["neuron/edge-outside"]
    assert (case.outputs["u_pre"] == case.conventions["v_th"] - 0.5).sum() > 10
    assert error(case, surrogate_edge="inside") > 10


def test_a_block_of_a_thousand_is_not_enough_for_the_large_layer(cases, monkeypatch):
    """Weight gradients summed over 1,024 positions alone: wrong only above some size."""
    true = compute.make_ops

    def make_ops(conventions, tape):
        ops = true(conventions, tape)

        def one_block(dy, cache):
            dy = dy.copy()
            dy.reshape(-1, dy.shape[-1])[1024:] = 0
            return ops.conv_weight_gradient(dy, cache)

        return replace(ops, conv_weight_gradient=one_block)

    monkeypatch.setattr(compute, "make_ops", make_ops)
    assert error(cases["layer/plain"]) == 0
    assert error(cases["layer/large"]) > 10
    assert "BLOCK_BOUNDARY" in cases["layer/large"].flags


def test_the_large_neuron_level_spans_blocks(cases):
    """Blocks are of 65,536 neurons or fewer; no such size divides the layer's."""
    case = cases["neuron/large"]
    n = case.inputs["c"].shape[1]
    assert n > 2**16
    assert all(n % 2**k for k in range(5, 17))
    assert case.outputs["o"][:, 2**16 :].any()
    assert case.outputs["dc"][:, -1].any()


def test_clauses_are_of_the_ledger(cases):
    ids = {clause.id for clause in spec.CLAUSES}
    for case in cases.values():
        assert case.clauses
        assert set(case.clauses) <= ids


def test_every_clause_of_what_is_computed_has_a_case(cases):
    """Sizes, initial values, data, constants' gradients and what goes beyond the paper are left."""
    covered = {clause for case in cases.values() for clause in case.clauses}
    left = {clause.id for clause in spec.CLAUSES} - covered
    assert left == {"D18", "D19", "D20", "D21", "D22", "D23", "D24", "R2", "R4"} | {
        *("R5", "R6", "R7"),
        *(clause.id for clause in spec.CLAUSES if clause.id[0] == "M" or clause.id.isalpha()),
    }


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "surrogate"])
def test_every_level_has_one_step(cases, level):
    steps = {
        case.settings["steps"]
        if "steps" in case.settings
        else len(case.inputs["c" if level == "neuron" else "x"])
        for case in cases.values()
        if case.level == level
    }
    assert 1 in steps
    assert max(steps) > 1


def test_ids_are_unique_and_of_their_level():
    ids = [recipe.id for recipe in recipes.recipes()]
    assert len(set(ids)) == len(ids)
    assert [LEVELS.index(name.split("/")[0]) for name in ids] == sorted(
        LEVELS.index(name.split("/")[0]) for name in ids
    )


def test_cases_that_follow_an_alternative_say_so(cases):
    """All but numbers and surrogates, which the paper leaves to the case."""
    free = {*conventions.NUMBERS, "surrogate"}
    for case in cases.values():
        deviates = {k for k, v in case.conventions.items() if v != PAPER[k]} - free
        assert bool(deviates) == ("ALTERNATIVE" in case.flags), case.id


def test_silent_and_firing_neurons_are(cases):
    assert not cases["neuron/silent"].outputs["o"].any()
    assert cases["neuron/firing"].outputs["o"].all()


def test_training_runs_ten_iterations(cases):
    for case in cases.values():
        if case.level == "training":
            assert len(case.outputs["loss"]) == case.settings["epochs"] * case.settings["batches"]
            assert len(case.outputs["loss"]) == 10
    assert cases["training/evolutionary"].outputs["side"][-1] == 0


@pytest.mark.parametrize("level", ["neuron", "layer", "block", "network"])
def test_a_state_that_is_kept_shows_at_every_level(cases, level):
    here = [case for case in cases.values() if case.level == level]
    caught = [case.id for case in here if error(case, initial_potential="kept") > 1]
    assert caught == [case.id for case in here if "STATE_KEPT" in case.flags]
    assert caught
