import math

import pytest

from refsnn import spec
from refsnn.oracle.conventions import (
    CONVENTIONS,
    LEVELS,
    NUMBERS,
    PAPER,
    RENAMED,
    VARIED,
    check,
    make_conventions,
    renamed,
    shown,
    with_old_names,
    words,
)


def test_the_papers_are_complete_and_the_first_of_names():
    assert make_conventions({}) == PAPER
    assert list(PAPER) == list(CONVENTIONS)
    for name, convention in CONVENTIONS.items():
        check(name, PAPER[name])
        if convention.paper is None:
            assert PAPER[name] == next(iter(convention.values))
        assert len(convention.values) > 1 or convention.numbers is not None
    assert set(NUMBERS) == {name for name, value in PAPER.items() if type(value) in (int, float)}
    assert {"tau", "v_th", "surrogate_shape", "norm_eps", "norm_momentum"} < {*NUMBERS}
    assert set(VARIED) < {*NUMBERS}


def test_the_ledger_names_each_and_levels_are_real():
    for name, convention in CONVENTIONS.items():
        assert spec.clauses_of(name), name
        assert convention.level in LEVELS
    assert all(map(spec.clauses_of, NUMBERS))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fires": ">"}, "convention: got 'fires', did you mean fire_at_threshold"),
        ({"fire_at_threshold": ">>"}, "fire_at_threshold: got '>>', want False or True$"),
        ({"fire_at_threshold": 1}, "fire_at_threshold: got 1, want False or True$"),
        ({"tau": 1.5}, "tau: got 1.5, want a number from 0 to 1$"),
        ({"tau": -0.5}, "tau: got -0.5, want a number from 0 to 1$"),
        ({"tau": True}, "tau: got True, want a number from 0 to 1$"),
        ({"tau": "0.5"}, "tau: got '0.5', want a number from 0 to 1$"),
        ({"tau": float("nan")}, "tau: got nan, want a number from 0 to 1$"),
        ({"v_th": 0.0}, "v_th: got 0.0, want a number from 1e-06 to 1e\\+06$"),
        ({"refractory": 1.5}, "refractory: got 1.5, want a whole number from 0 to 100$"),
        ({"output": 1}, "output: got 1, want 'same step' or 'one step late' or a whole number"),
        (
            {"reset_amount": "tau"},
            "reset_amount: got 'tau', want 'v_th' or a number from -1e\\+06 to 1e\\+06$",
        ),
        (
            {"pooling": 2.0},
            "pooling: got 2.0, want 'mean' or 'sum'$",
        ),
    ],
)
def test_unknown_ones_are_refused(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make_conventions(given)


def test_words_name_what_deviates_in_one_order():
    told = {
        "lam_clock": "iteration from 0",
        "reset_gradient": "detached",
        "fire_at_threshold": True,
        "tau": 0.9,
    }
    assert words(told) == (
        "tau = 0.9 always; fires at the threshold too (>=); detached reset; λ counted from 0"
    )
    assert words(told, always=False) == words(told).replace(" always", "")
    assert words({"fire_at_threshold": False}) == "fires above the threshold (>) always"
    for name, value in (("tau", 0.5), ("tau", 0.9), ("v_th", 0.5), ("surrogate_shape", 2.0)):
        assert words({name: value}) == f"{name} = {value:g} always"
    assert words({"norm_momentum": 0.9}) == "running statistics take 0.9 of the new"
    assert words({"reset_potential": -0.25}) == "the hard reset goes to -0.25, not to zero"
    assert words({"refractory": 3}) == "no spike in the 3 time steps after a spike (refractory)"
    assert words({}) == "the cases' own conventions"


def test_a_shape_joins_its_surrogate():
    assert words({"surrogate": "atan", "surrogate_shape": 2.0}) == (
        "surrogate is arctan's derivative, alpha = 2"
    )
    assert words({"surrogate_shape": 1.0, "surrogate": "rectangular", "v_th": 0.5}) == (
        "v_th = 0.5 always; surrogate is rectangular, a = 1"
    )
    assert words({"surrogate": "atan"}) == "surrogate is arctan's derivative"
    assert words({"surrogate": "tanh"}) == "surrogate k (1 - tanh²) always"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.5, "0.5"),
        (2.0, "2"),
        (math.exp(-1 / 20), "0.9512 (= exp(-1/20))"),
        (math.exp(-1 / 2), "0.6065 (= exp(-1/2))"),
        (0.9512, "0.9512"),
        (2 / math.pi, "0.6366 (= 2/π)"),
        (math.pi, "3.142 (= π)"),
        (3 * math.pi, "9.425 (= 3π)"),
        (-math.pi, "-3.142 (= -1π)"),
        (0.123456789, "0.123457"),
    ],
)
def test_numbers_are_shown_as_what_they_are(number, text):
    assert shown(number) == text


def test_names_of_the_first_version_are_none_that_there_are_now():
    old = {"fire": ">=", "decay": "tau*u + c", "lambda": "i from 0", "decay_on": "weights only"}
    assert renamed(old) == {
        "fire_at_threshold": True,
        "leak": "tau*u + c",
        "lam_clock": "iteration from 0",
        "decay_on": "weights",
    }
    make_conventions(renamed(old))
    for name, (now, meant) in RENAMED.items():
        assert name in (now, "weight_decay") or name not in PAPER
        assert set(meant.values()) <= set(CONVENTIONS[now].values)


def test_the_value_tells_what_a_name_that_changed_its_meaning_is():
    """The form of weight decay had the name that its number has now."""
    assert renamed({"weight_decay": "in the gradient"}) == {"decay_form": "in the gradient"}
    for value in ("as given", 0.125):
        assert renamed({"weight_decay": value}) == {"weight_decay": value}
        assert with_old_names(PAPER | {"weight_decay": value})["weight_decay"] == value
    assert with_old_names(PAPER)["decay"] == "tau*u + c"


def test_old_names_are_those_of_the_new_values():
    told = make_conventions({"fire_at_threshold": True, "lam_clock": "iteration from 0"})
    both = with_old_names(told)
    assert {name: both[name] for name in told} == told
    assert (both["fire"], both["lambda"], both["decay"]) == (">=", "i from 0", "tau*u + c")
    old = {name: both[name] for name in RENAMED if name not in told}
    assert renamed(old) == {name: told[name] for name in renamed(old)}
    assert with_old_names(PAPER)["fire"] == ">"
    assert with_old_names(PAPER)["lambda"] == "1 - i/I, i from 1"
