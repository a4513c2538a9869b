"""Running of a check: draws, failures, exceptions, rejected draws."""

from hypothesis import strategies as st

from refsnn.training.recipes import recipes
from verification.record import NOT_REACHED
from verification.registry import EVIDENCE, Check, run_check
from verification.suite import HAS_PEERS, checks


def run(function, cases=None, clauses=("EQ1", "EQ3"), quick=False, seed=0, draws=20):
    cases = st.integers(0, 10**6) if cases is None else cases
    one = Check("made", "oracle", clauses, function, cases, draws, draws)
    return {row.clause: row for row in run_check(one, seed, quick, shrink=True)}


def both(case, record):
    record.close("EQ1 EQ3", "x", 1.0, 1.0, 1e-3)


def test_every_draw_counts():
    rows = run(both)
    assert [(row.passed, row.cases) for row in rows.values()] == [(True, 20)] * 2


def test_a_failure_is_shrunk_and_later_clauses_are_not_reached():
    def fails(case, record):
        record.close("EQ1", "x", case, 0, 1.0, scale=100.0)

    rows = run(fails)
    assert not rows["EQ1"].passed
    assert rows["EQ1"].failure.startswith("x: got 101, want 0")
    assert (rows["EQ3"].passed, rows["EQ3"].failure) == (False, NOT_REACHED)


def test_an_exception_of_the_code_under_test_is_a_failure():
    def raises(case, record):
        raise ZeroDivisionError("by zero\nand more")

    rows = run(raises)
    assert rows["EQ1"].failure == "raised ZeroDivisionError: by zero"
    assert not rows["EQ3"].passed


def test_a_clause_that_is_never_compared_fails_a_full_run_and_is_left_out_of_a_quick_one():
    def one(case, record):
        record.close("EQ1", "x", 1.0, 1.0, 1e-3)

    rows = run(one)
    assert rows["EQ1"].passed
    assert rows["EQ3"].failure == "no case was compared"
    assert list(run(one, quick=True)) == ["EQ1"]


def test_rejected_draws_do_not_count_as_cases():
    def rejects(case, record):
        if case % 2:
            record.reject()
        both(case, record)

    row = run(rejects)["EQ1"]
    assert row.passed
    assert row.cases == 20
    assert row.rejected > 0
    for quick in (True, False):
        nothing = run(lambda case, record: record.reject(), quick=quick)["EQ1"]
        assert (nothing.passed, nothing.cases) == (False, 0)


def test_more_rejected_draws_than_that_fail():
    def rejects(case, record):
        if case % 10:
            record.reject()
        both(case, record)

    assert "draws were rejected" in run(rejects)["EQ1"].failure


def test_all_clauses_that_a_failed_comparison_depends_on_fail():
    def fails_late(case, record):
        both(case, record)
        record.close("EQ3 EQ1", "x", case, 0, 1.0, scale=10.0)

    rows = run(fails_late)
    assert rows["EQ3"].failure.startswith("x: got")
    assert rows["EQ1"].failure == f"{NOT_REACHED}: see [EQ3]"
    assert not rows["EQ1"].passed


def test_the_seed_fixes_the_draws():
    def draws(seed):
        seen = []

        def note(case, record):
            seen.append(case)
            both(case, record)

        run(note, seed=seed)
        return seen

    assert draws(3) == draws(3) != draws(4)


def test_each_method_says_how_its_clauses_are_checked():
    by_clause: dict[str, set[str]] = {}
    for one in checks():
        for clause in one.clauses:
            by_clause.setdefault(clause, set()).add(one.evidence)
    for name, recipe in recipes().items():
        found = set().union(*(by_clause[clause] for clause in recipe.clauses))
        want = [kind for kind in EVIDENCE if kind in found or (kind == "peer" and not HAS_PEERS)]
        assert [*recipe.checked] == want, name
        if HAS_PEERS:
            assert all(len(by_clause[clause]) >= 2 for clause in recipe.clauses), name
