"""Growth of time and memory with T and with the batch size."""

from dataclasses import replace

import pytest

from refsnn.bench import report, scaling
from refsnn.system import usable_cores


def test_points_on_a_line_have_no_deviation():
    assert scaling.deviation([1, 2, 4, 8], [3, 5, 9, 17]) == pytest.approx(0, abs=1e-9)


def test_the_largest_distance_counts():
    # the line through 1, 2, 3 -> 1, 4, 1 is constant 2
    assert scaling.deviation([1, 2, 3], [1, 4, 1]) == pytest.approx(100)


@pytest.mark.processes
def test_each_point_is_measured_and_reported(tiny, monkeypatch):
    told = []
    monkeypatch.setattr(scaling, "POINTS", {"batch_size": (1, 2, 3)})
    monkeypatch.setattr(scaling, "usable_cores", lambda: 1)
    (row,) = scaling.scaling(tiny, 1, told.append)
    assert told == [f"1-1:4-8 train: batch_size {n}" for n in (1, 2, 3)]
    assert row["values"] == [1, 2, 3]
    assert row["fixed"] == {"steps": 2}
    assert len(row["peak_mib"]) == len(row["seconds"]) == 3
    assert min(row["seconds"]) > 0
    text = report.scaling_table(row)
    assert text.startswith("1-1:4-8, train, T = 2\nbatch")
    assert "off a straight line" in text


@pytest.mark.processes
@pytest.mark.skipif(usable_cores() < 2, reason="one core")
def test_threads_are_compared_with_one(tiny, monkeypatch):
    monkeypatch.setattr(scaling, "POINTS", {})
    monkeypatch.setattr(scaling, "usable_cores", lambda: 3)
    (row,) = scaling.scaling(replace(tiny, threads=None), 1, lambda text: None)
    assert row["values"] == [1, 2]
    assert row["fixed"] == {"steps": 2, "batch_size": tiny.batch_size}
    row["seconds"] = [3.0, 1.5]
    first, head, *lines = report.scaling_table(row).splitlines()
    assert first.startswith("1-1:4-8, train, T = 2, batch =")
    assert head.split()[-1] == "speed"
    assert [line.split()[-1] for line in lines] == ["1.00x", "2.00x"]
