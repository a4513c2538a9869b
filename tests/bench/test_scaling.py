"""Growth of time and memory with T and with the batch size."""

import pytest

from refsnn.bench import report, scaling


def test_points_on_a_line_have_no_deviation():
    assert scaling.deviation([1, 2, 4, 8], [3, 5, 9, 17]) == pytest.approx(0, abs=1e-9)


def test_the_largest_distance_counts():
    # the line through 1, 2, 3 -> 1, 4, 1 is constant 2
    assert scaling.deviation([1, 2, 3], [1, 4, 1]) == pytest.approx(100)


@pytest.mark.processes
def test_each_point_is_measured_and_reported(tiny, monkeypatch):
    told = []
    monkeypatch.setattr(scaling, "POINTS", {"batch_size": (1, 2, 3)})
    (row,) = scaling.scaling(tiny, 1, told.append)
    assert told == [f"1-1:4-8 train: batch_size {n}" for n in (1, 2, 3)]
    assert row["values"] == [1, 2, 3]
    assert row["fixed"] == {"steps": 2}
    assert len(row["peak_mib"]) == len(row["seconds"]) == 3
    assert min(row["seconds"]) > 0
    text = report.scaling_table(row)
    assert text.startswith("1-1:4-8, train, T = 2\nbatch")
    assert "off a straight line" in text
