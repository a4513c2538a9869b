"""Norms, blocks and losses of other methods: what is right passes, and what is wrong is named."""

from functools import cache

import pytest

import refsnn
from refsnn.oracle.conventions import CONVENTIONS
from refsnn.oracle.diagnose import diagnose
from refsnn.oracle.methods import CHOICES, OF_TET

pytest.importorskip("torch")
import torch
from method_networks import ADD, AND, BNTT, FAULTS, IAND, IM, MPD, MS, PSP, TEACHER, TEBN, TET, Mine

LAYERS, BLOCKS, LOSSES = [TEBN, BNTT, PSP], [ADD, AND, IAND, MS], [TET, IM, MPD, TEACHER]
#: conventions that only these methods follow
OWN = {
    name
    for choice, methods in CHOICES.items()
    if choice != "neuron_model"
    for method in methods.values()
    for name in method.own
}
#: level -> endings of the cases that a diagnosis has
FEW = {
    "layer": ("plain", "evaluation"),
    "block": ("identity", "stride"),
    "network": ("one-step", "vanilla"),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Compute small arrays with one thread, as the others would only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def words(told):
    return " ".join(f"{name}={value}" for name, value in told.items())


def level_of(told):
    return "layer" if told in LAYERS else "block" if told in BLOCKS else "network"


@cache
def every(level, items, endings=("",)):
    """Return a method's cases of these endings."""
    patterns = [f"*{ending}" for ending in endings]
    return refsnn.cases(level, pattern=patterns, conventions=dict(items))


def cases_of(told):
    """Return a method's cases of its own level, which are few if they are networks."""
    level = level_of(told)
    return every(level, tuple(told.items()), FEW[level] if level == "network" else ("",))


def passes(told, cases, least):
    report = refsnn.conform(Mine(told), cases)
    assert report.passed, str(report)
    assert report.count("passed") >= least


@pytest.mark.parametrize("told", [*LAYERS, *BLOCKS], ids=words)
def test_what_is_right_passes(told):
    passes(told, cases_of(told), 4)


@pytest.mark.parametrize("told", LOSSES, ids=words)
def test_a_right_loss_of_one_step_passes(told):
    passes(told, every("network", tuple(told.items()), ("one-step",)), 1)


@pytest.mark.slow
@pytest.mark.parametrize("told", [*BLOCKS, *LOSSES], ids=words)
def test_a_right_network_passes(told):
    passes(told, every("network", tuple(told.items())), 4)


def rows(wanted, quick, *places):
    """Return places of the wanted faults' rows; those that are not quick are marked as slow."""
    return [
        pytest.param(
            *(row[i] for i in places),
            marks=[] if quick(row) else [pytest.mark.slow],
            id=f"{words(row[0])}: {row[1]}",
        )
        for row in FAULTS
        if wanted(row)
    ]


def is_no_network(row):
    return level_of(row[0]) != "network"


@pytest.mark.parametrize(("told", "fault", "first"), rows(lambda row: True, is_no_network, 0, 1, 2))
def test_what_is_wrong_fails_at_its_first_output(told, fault, first):
    cases = {case.id: case for case in cases_of(told)}
    report = refsnn.conform(Mine(told, fault), cases.values())
    failed = [r for r in report.results if r.status == "failed"]
    assert all(r.first for r in failed)
    firsts = {r.first["tensor"] for r in failed}
    assert first.split()[0] in firsts
    for other in firsts - {*first.split()}:  # is before it where there is a skip's convolution only
        assert other.startswith("skip."), other


def explained(told, fault, named=False, **options):
    """Diagnose what a mistake computes, from a few cases."""
    mine, few = Mine(told, fault), FEW[level_of(told)]
    if named and level_of(told) == "network":
        few = ("vanilla",)  # as a search takes long
    some = [case for case in cases_of(told) if case.id.endswith(few)]
    return diagnose(some, {case.id: mine.run(case) for case in some}, **options)


@pytest.mark.parametrize(
    ("told", "fault", "named"), rows(lambda row: row[3], lambda row: False, 0, 1, 3)
)
def test_diagnosis_names_what_is_known(told, fault, named):
    found = explained(told, fault, named=True)
    assert found.matches[0].deviations == named, str(found)


@pytest.mark.parametrize(
    ("told", "fault", "first"), rows(lambda row: not row[3], is_no_network, 0, 1, 2)
)
def test_diagnosis_says_where_what_is_not_known_is_wrong(told, fault, first):
    found = explained(told, fault, seconds=0.5)
    assert not found.matches, str(found)
    assert f": {first.split()[0]}" in found.nearest[0].first
    assert found.measured == ()  # what a plain LIF would have
    assert found.contradictions == ()


def test_each_methods_own_alternatives_are_among_the_faults():
    named = {name for *_, told in FAULTS for name in told}
    assert {*OWN, *OF_TET, "tet_lam"} <= named
    for *_, told in FAULTS:
        for name, value in told.items():
            assert CONVENTIONS[name].allows(value)


@pytest.mark.parametrize("told", [*LAYERS, *BLOCKS, *LOSSES], ids=words)
def test_each_method_has_faults_that_are_named_and_others(told):
    of = [named for other, _, _, named in FAULTS if other == told]
    assert any(of)
    assert not all(of)
