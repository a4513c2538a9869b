import pytest

from refsnn import spec
from refsnn.oracle.conventions import (
    CONVENTIONS,
    LEVELS,
    NUMBERS,
    PAPER,
    RENAMED,
    make_conventions,
    renamed,
    words,
)


def test_the_papers_are_the_first_and_complete():
    assert make_conventions({}) == PAPER
    assert list(PAPER) == [*NUMBERS, *CONVENTIONS]
    for name, convention in CONVENTIONS.items():
        assert PAPER[name] == next(iter(convention.values))
        assert len(convention.values) > 1


def test_the_ledger_names_each_and_levels_are_real():
    for name, convention in CONVENTIONS.items():
        assert spec.clauses_of(name), name
        assert convention.level in LEVELS
    assert all(map(spec.clauses_of, NUMBERS))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fires": ">"}, "convention: got 'fires', want one of leak, fire_at_threshold,"),
        ({"fire_at_threshold": ">>"}, "fire_at_threshold: got '>>', want one of False, True"),
        ({"tau": 0.0}, "tau: got 0.0, want a finite number above 0"),
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
        "tau = 0.9; fires at the threshold too (>=); detached reset; λ counted from 0"
    )
    assert words({"fire_at_threshold": False}) == (
        "fires above the threshold (>), even where a case asks for another"
    )
    assert words({"tau": 0.5}) == "tau = 0.5, even where a case asks for another"
    assert words({"tau": 0.9}) == "tau = 0.9"
    assert words({}) == "the cases' own conventions"


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
        assert name == now or name not in PAPER
        assert set(meant.values()) <= set(CONVENTIONS[now].values)
