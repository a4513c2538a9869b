"""Comparisons: which pass, which fail, and the messages."""

import json
import math

import numpy as np
import pytest

from verification.record import Failed, Recorder, Rejected


@pytest.fixture
def record():
    recorder = Recorder("the check", "oracle", ("EQ1", "EQ3"))
    recorder.start_case()
    return recorder


def test_errors_are_relative_to_the_largest_wanted_value(record):
    record.close("EQ1", "x", np.array([100.0, 1e-9]), np.array([100.0, 0.0]), 1e-10)
    record.end_case()
    row = record.rows["EQ1"]
    assert (row.cases, row.passed, row.tolerance) == (1, True, 1e-10)
    assert row.worst_error == pytest.approx(1e-11)
    assert record.rows["EQ3"].cases == 0


def test_errors_are_absolute_where_zero_is_wanted_and_to_a_scale_where_one_is_given(record):
    record.close("EQ1", "x", 1e-11, 0.0, 1e-10)
    record.close("EQ1", "x", 1e-8, 0.0, 1e-10, scale=1e3)
    with pytest.raises(Failed):
        record.close("EQ1", "x", 1e-8, 0.0, 1e-10)


def test_a_failure_names_the_element_both_values_and_the_ratio(record):
    got, want = np.zeros((2, 3)), np.zeros((2, 3))
    got[1, 2], want[0, 0] = 0.5, 2.0
    got[0, 0] = 2.0
    with pytest.raises(Failed) as caught:
        record.close("EQ3 EQ1", "dc_seq", got, want, 0.01, axes="tn")
    assert caught.value.clauses == ["EQ3", "EQ1"]
    assert "dc_seq[t=1,n=2]: got 0.5, want 0.0" in caught.value.text
    assert "err/tol 25" in caught.value.text
    assert "values OK" not in caught.value.text
    record.values_ok()
    with pytest.raises(Failed, match="values OK"):
        record.close("EQ3", "dc_seq", got, want, 0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["got", "want", "both"])
def test_nan_and_infinity_fail(record, bad, where):
    got = np.array([1.0, bad if where != "want" else 1.0])
    want = np.array([1.0, bad if where != "got" else 1.0])
    with pytest.raises(Failed):
        record.close("EQ1", "x", got, want, 1e-3)
    assert record.rows["EQ1"].worst_error == math.inf
    assert json.loads(json.dumps(record.rows["EQ1"].to_dict()))["worst_error"] is None


def test_another_shape_fails_and_is_never_broadcast(record):
    with pytest.raises(Failed, match=r"x: got shape \(1,\), want \(3,\)"):
        record.close("EQ1", "x", np.zeros(1), np.zeros(3), 1.0)
    with pytest.raises(Failed, match="shape"):
        record.equal("EQ1", "x", np.zeros((3, 1)), np.zeros(3))


def test_equal_means_every_bit(record):
    record.equal("EQ1", "x", np.array([0.1, 0.2]), np.array([0.1, 0.2]))
    record.equal("EQ1", "x", ("a", 1), ("a", 1))
    with pytest.raises(Failed, match=r"x\[n=1\]"):
        record.equal("EQ1", "x", np.array([0.1, 0.2]), np.array([0.1, np.nextafter(0.2, 1)]), "n")
    with pytest.raises(Failed, match="got 'a', want 'b'"):
        record.equal("EQ1", "x", "a", "b")
    with pytest.raises(Failed, match="does not hold: the sun shines"):
        record.true("EQ1", "the sun shines", False)


def test_the_row_keeps_the_comparison_nearest_to_its_tolerance(record):
    record.close("EQ1", "x", 1e-3, 0.0, 1.0)
    record.close("EQ1", "x", 1e-12, 0.0, 1e-11)
    record.close("EQ1", "x", 0.05, 0.0, 1.0)
    assert (record.rows["EQ1"].worst_error, record.rows["EQ1"].tolerance) == (1e-12, 1e-11)


def test_all_clauses_listed_are_noted(record):
    record.close("EQ3 EQ1", "x", np.float32(0.5), 0.5, 1e-3)
    record.end_case()
    assert [row.cases for row in record.rows.values()] == [1, 1]
    json.dumps([row.to_dict() for row in record.rows.values()])


def test_a_clause_that_the_check_does_not_declare_is_an_error(record):
    with pytest.raises(KeyError):
        record.close("D8", "x", 0.0, 0.0, 1.0)


def test_a_rejected_draw_is_counted(record):
    with pytest.raises(Rejected):
        record.reject()
    assert [row.rejected for row in record.rows.values()] == [1, 1]
