"""`refsnn diagnose` as its users see it."""

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.oracle import search, vectors
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import CONVENTIONS


@pytest.fixture
def given(cases, tmp_path):
    """Writes what an implementation with some conventions gives for a case; its file."""

    def write(name, deviations, **changed):
        case = cases[name]
        conventions = case.conventions | deviations
        arrays = compute(case.level, case.inputs, case.settings, conventions, case.repeat) | changed
        path = tmp_path / "given" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
        return path

    return write


def shown(capsys, *arguments):
    code = main(["diagnose", *map(str, arguments)])
    return code, capsys.readouterr().out.splitlines()


def test_one_file_is_enough(given, capsys):
    path = given("neuron/tie", {"fire_at_threshold": True})
    assert shown(capsys, path) == (
        0,
        ["these conventions reproduce the 1 case: fires at the threshold too (>=)"],
    )
    elsewhere = path.rename(path.parent.parent / "mine.npz")
    code, _ = shown(capsys, elsewhere, "--case", "neuron/tie")
    assert code == 0


def test_all_agrees(given, capsys):
    given("neuron/tie", {})
    path = given("neuron/tanh", {}).parent.parent
    code, lines = shown(capsys, path)
    assert (code, lines[0]) == (0, "2 cases: everything matches, no convention differs")
    assert lines[1].startswith("these cases cannot distinguish that from: ")
    assert "potentials are kept from the run before" in lines[1]
    assert "fires at the threshold too" not in lines[1]


def test_files_that_can_not_be_read_are_named_and_the_rest_is_diagnosed(given, capsys):
    given("neuron/tie", {"fire_at_threshold": True})
    given("neuron/tanh", {}, dc=np.full((6, 48), np.nan))
    cut = given("neuron/grid", {})
    cut.write_bytes(cut.read_bytes()[:300])
    code, lines = shown(capsys, cut.parent.parent)
    assert code == 1
    assert lines[0].startswith("neuron/grid: ")
    assert lines[1] == "neuron/tanh: dc: got nan at index [0, 0], want finite numbers"
    assert lines[2:] == ["these conventions reproduce all 2 cases: fires at the threshold too (>=)"]


def test_a_damaged_file_of_vectors_is_told_and_the_rest_diagnosed(given, cases, capsys, tmp_path):
    names = ("neuron/tie", "neuron/tanh")
    vectors.write([cases[name] for name in names], tmp_path / "v")
    (tmp_path / "v" / "neuron" / "tanh.npz").unlink()
    given("neuron/tanh", {"fire_at_threshold": True})
    path = given("neuron/tie", {"fire_at_threshold": True}).parent
    code, lines = shown(capsys, path, "--vectors", tmp_path / "v")
    assert code == 1
    assert lines[0].endswith("neuron/tanh.npz is missing")
    assert lines[1:] == ["these conventions reproduce the 1 case: fires at the threshold too (>=)"]


def test_nothing_fits(given, capsys, tmp_path):
    path = given("neuron/tanh", {}, dc=np.zeros((6, 48)))
    code, lines = shown(capsys, path, "--json", tmp_path / "found.json")
    assert code == 1
    assert lines[0] == "no combination of known conventions reproduces the 1 case"
    assert lines[1].startswith("first divergence: neuron/tanh: dc at step 5")
    assert lines[2] == (
        "outputs that then agree: u_pre, o, u, du_pre, du0, dtau, dv_th; outputs that differ: dc"
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["matches"] == []
    right = ["u_pre", "o", "u", "du_pre", "du0", "dtau", "dv_th"]
    assert (found["agree"], found["differ"]) == (right, ["dc"])
    assert found["nearest"][0]["first_divergence"].startswith("neuron/tanh: dc at step 5")


def test_a_search_that_would_take_long_is_bounded_and_says_so(cases, capsys, tmp_path, monkeypatch):
    """No network matches; the time is up at the 21st look at the clock."""
    rng = np.random.default_rng(0)
    networks = [case for case in cases.values() if case.level == "network"]
    for case in networks:
        path = tmp_path / "given" / f"{case.id}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{name: rng.normal(size=a.shape) for name, a in case.outputs.items()})
    looks, compared, compare = iter([-math.inf] * 20), [], search.compare_case

    def counted(case, *arguments, **options):
        compared.append(case)
        return compare(case, *arguments, **options)

    clock = SimpleNamespace(monotonic=lambda: next(looks, math.inf))
    monkeypatch.setattr(search, "time", clock)
    monkeypatch.setattr(search, "compare_case", counted)
    code, lines = shown(
        capsys, tmp_path / "given", "--seconds", 1, "--json", tmp_path / "found.json"
    )
    assert code == 1
    count = len(networks)
    assert 20 < len(compared) < 20 + 5 * count
    assert lines[0] == f"no combination of conventions tried so far reproduces the {count} cases"
    assert lines[1].startswith("first divergence: network/vanilla: stem.lif0.u_pre at step 0")
    assert (
        "stopped after 1 s, before every combination was tried; refsnn diagnose --seconds sets the "
        "limit" in lines
    )
    assert json.loads((tmp_path / "found.json").read_text())["stopped"] == 1


def test_a_match_found_in_time_is_reported(given, capsys):
    path = given("neuron/tie", {"fire_at_threshold": True})
    code, lines = shown(capsys, path, "--seconds", 300)
    assert (code, lines) == (
        0,
        ["these conventions reproduce the 1 case: fires at the threshold too (>=)"],
    )


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_no_time_at_all_is_refused(seconds, given, refused):
    line = refused(["diagnose", given("neuron/tie", {}), "--seconds", seconds])
    assert line.endswith("want more than 0")


def test_the_terminal_shows_what_is_tried(given, capsys, monkeypatch):
    path = given("neuron/tie", {"fire_at_threshold": True})
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["diagnose", str(path)]) == 0
    told = capsys.readouterr().err
    assert "comparisons: fires at the threshold too (>=)" in told
    assert told.endswith("\r\033[K"), "and clears it"


def test_json_lists_the_matches_best_first(given, capsys):
    path = given("neuron/detached-reset", {"fire_at_threshold": True, "reset_gradient": "ignored"})
    code, lines = shown(capsys, path, "--json", "-")
    assert code == 0
    first = json.loads("\n".join(lines))["matches"][0]
    assert first["conventions"] == {"reset_gradient": "ignored"}  # it has no tie
    assert first["error"] < 1


def test_a_file_without_arrays_is_refused(given, refused):
    path = given("neuron/tie", {})
    np.savez(path)
    assert "neuron/tie: no output that could be compared" in refused(["diagnose", path])


def test_the_help_lists_what_is_known(capsys):
    with pytest.raises(SystemExit):
        main(["diagnose", "--help"])
    text = capsys.readouterr().out
    assert all(f"  {name}: " in text for name in CONVENTIONS)


def test_missing_or_unusable_outputs_are_not_called_right(given, capsys):
    path = given("neuron/tanh", {})
    arrays = dict(np.load(path))
    np.savez(path, o=arrays["o"], u=arrays["u"].T)
    code, lines = shown(capsys, path)
    assert code == 1
    assert lines[0].startswith("neuron/tanh: u: got shape (48, 6)")
    assert lines[1] == "1 case: what could be compared matches, no convention differs"
    assert lines[-1] == "not given, so not judged: u_pre, du_pre, dc, du0, dtau, dv_th"
    np.savez(path, o=arrays["o"])
    code, lines = shown(capsys, path)
    assert (code, lines[0]) == (0, "1 case: everything matches, no convention differs")
    assert lines[-1] == "not given, so not judged: u_pre, u, du_pre, dc, du0, dtau, dv_th"


def test_damaged_vectors_of_the_only_case_are_named(given, cases, tmp_path, refused):
    vectors.write([cases["neuron/tie"]], tmp_path / "v")
    (tmp_path / "v" / "neuron" / "tie.npz").unlink()
    line = refused(["diagnose", given("neuron/tie", {}), "--vectors", tmp_path / "v"])
    assert line.endswith("neuron/tie.npz is missing")
