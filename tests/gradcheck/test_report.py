"""Lines that can be read."""

from refsnn.gradcheck import Check, Report


def test_a_report_has_a_line_for_each_check():
    fine = Check("x", "differences", "passed", 1e-10, 2e-8, 3)
    bad = Check("w", "adjoint", "failed", 0.5, 1e-9, 0, (1, 2), 0.25, -0.25, note="why")
    assert str(Report((fine, bad))).splitlines() == [
        "x: differences passed: error 1.0e-10, tolerance 2.0e-08 in direction 3",
        "w: adjoint failed: error 5.0e-01, tolerance 1.0e-09 in direction 0;"
        " at [1, 2] expected 0.25, got -0.25; why",
    ]


def test_an_undecided_check_has_not_passed():
    assert Report((Check("x", "adjoint", "passed"),)).passed
    for verdict in ("undecided", "failed"):
        assert not Report((Check("x", "adjoint", "passed"), Check("y", "values", verdict))).passed


def test_a_report_is_true_where_it_passed():
    """So that `assert gradcheck(...)` says what it seems to."""
    for verdict in ("passed", "undecided", "failed"):
        report = Report((Check("x", "adjoint", verdict),))
        assert bool(report) is report.passed is (verdict == "passed")
