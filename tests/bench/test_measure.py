"""Workers that take turns, and the summary of their answers."""

from dataclasses import replace

import pytest

from refsnn.bench import measure, processes
from refsnn.bench.processes import Worker, single


def row(library, seconds, mib):
    return {
        "arch": "a",
        "phase": "train",
        "library": library,
        "seconds": seconds,
        "peak_mib": mib,
    }


def test_ratios_are_medians_within_rounds():
    ours, theirs = row("refsnn", [1, 2, 4], 100), row("torch", [3, 4, 4], 400)
    assert measure.ratios([ours, theirs]) == [
        {
            "arch": "a",
            "phase": "train",
            "library": "torch",
            "images_per_second": 2,
            "images_per_second_range": [1, 3],
            "peak_mib": 0.25,
        },
    ]
    assert measure.ratios([ours]) == []


def test_summary_is_the_median_of_the_rounds(tiny):
    steps = [{"seconds": s, "peak_mib": m} for s, m in ((1, 5), (0.5, 7), (4, 6))]
    found = measure.summary(tiny, steps)
    assert found["images_per_second"] == 2
    assert found["peak_mib"] == 7


class Scripted:
    """A worker whose steps take the given seconds."""

    def __init__(self, seconds):
        self.left = [{"seconds": s, "peak_mib": 10 * s} for s in seconds]

    def ask(self, command):
        assert command == "step"
        return self.left.pop(0)


def test_a_turn_is_steps_for_long_enough_and_their_mean(monkeypatch):
    monkeypatch.setattr(measure, "PAUSE", 0)
    short, long = Scripted([0.1, 0.2, 0.3, 9]), Scripted([2, 9])
    assert measure.turn(short) == {"seconds": pytest.approx(0.2), "peak_mib": 3}
    assert measure.turn(long) == {"seconds": 2, "peak_mib": 20}
    assert measure.turn(Scripted([0.1, 9]), least=0)["seconds"] == 0.1
    assert (len(short.left), len(long.left)) == (1, 1)


def test_threads_reach_every_pool(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert processes.environment(None)["OMP_NUM_THREADS"] == "7"
    assert {processes.environment(3)[name] for name in processes.THREAD_VARIABLES} == {"3"}


@pytest.mark.processes
def test_a_worker_steps_when_told(tiny):
    with measure.prepared(tiny) as (spec, known), Worker(spec) as worker:
        ready = worker.answer()
        first, second = worker.ask("step"), worker.ask("step")
        assert worker.process.poll() is None
    assert worker.process.returncode == 0
    assert ready["threads"] == 1
    low, high = known["density_range"]
    assert 0 < low <= known["density"] <= high < 1
    assert first["seconds"] > 0
    assert 1 < ready["baseline_mib"] <= first["peak_mib"] <= second["peak_mib"] < 1000


@pytest.mark.processes
def test_a_workers_end_is_told_with_its_last_line(tiny):
    words = r"a worker ended \(refsnn, 1-1:4-8, train\): FileNotFoundError: .*missing.npz"
    with pytest.raises(ValueError, match=words):
        single(replace(tiny, numbers="missing.npz"))


@pytest.mark.processes
def test_a_worker_that_is_killed(tiny):
    with measure.prepared(tiny) as (spec, _), Worker(spec) as worker:
        worker.answer()
        worker.process.kill()
        worker.process.wait()
        with pytest.raises(ValueError, match="killed by signal 9"):
            worker.ask("step")


@pytest.mark.processes
def test_only_refsnn_has_a_breakdown(tiny):
    pytest.importorskip("torch")
    with measure.prepared(tiny) as (spec, _), Worker(replace(spec, library="torch")) as worker:
        worker.answer()
        with pytest.raises(ValueError, match="want refsnn for a breakdown"):
            worker.ask("{}")
