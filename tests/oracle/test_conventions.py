import pytest

from refsnn import spec
from refsnn.oracle.conventions import CONVENTIONS, LEVELS, NUMBERS, PAPER, make, words


def test_the_papers_are_the_first_and_complete():
    assert make({}) == PAPER
    assert list(PAPER) == [*NUMBERS, *CONVENTIONS]
    for name, convention in CONVENTIONS.items():
        assert PAPER[name] == next(iter(convention.values))
        assert len(convention.values) > 1


def test_clauses_and_levels_are_real():
    known = {clause.id for clause in spec.CLAUSES}
    for convention in CONVENTIONS.values():
        assert set(convention.clauses) <= known
        assert convention.level in LEVELS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fires": ">"}, "convention: got 'fires', want one of decay, fire,"),
        ({"fire": ">>"}, "fire: got '>>', want one of >, >="),
        ({"tau": 0.0}, "tau: got 0.0, want a finite number above 0"),
    ],
)
def test_unknown_ones_are_refused(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make(given)


def test_words_name_what_deviates_in_one_order():
    told = {"lambda": "i from 0", "reset_gradient": "detached", "fire": ">=", "tau": 0.9}
    assert words(told) == (
        "tau = 0.9; fires at the threshold too (>=); detached reset; λ counted from 0"
    )
    assert words({"fire": ">"}) == "always: fires above the threshold (>)"
    assert words({"tau": 0.5}) == "always: tau = 0.5"
    assert words({"tau": 0.9}) == "tau = 0.9"
    assert words({}) == "the conventions as they are"
