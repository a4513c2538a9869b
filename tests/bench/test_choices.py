"""Every algorithm of every convolution is timed, beside the one that is chosen."""

from dataclasses import replace

import pytest

from refsnn.bench import choices, report
from refsnn.bench.workload import Spec, fresh_numbers, save_numbers


@pytest.fixture
def spec(tmp_path):
    made = Spec(arch="1-1:16-32", size=8, batch_size=2, steps=2)
    path = tmp_path / "numbers.npz"
    save_numbers(str(path), *fresh_numbers(made))
    return replace(made, numbers=str(path))


def test_each_algorithm_that_can_be_used_is_timed_and_the_fastest_is_named(spec, monkeypatch):
    ticks, now = {"dense": 3, "event": 5, "lookup": 2, "winograd": 4}, [0]
    kept, called = choices.examples(spec), []

    def timed(*arguments, method):
        called.append(method)
        now[0] += ticks[method]

    given = {kind: example._replace(function=timed) for kind, example in kept.items()}
    monkeypatch.setattr(choices, "examples", lambda spec: given)
    monkeypatch.setattr(choices, "perf_counter", lambda: now[0])
    rows = choices.choices(spec)
    by_kind = {(row["shape"], row["direction"]): row for row in rows}
    assert ("2x8x8x3 3x3/1 -> 16", "input_gradient") not in by_kind  # of the data
    first = by_kind["4x8x8x16 3x3/1 -> 16", "forward"]
    assert first["seconds"] == ticks
    assert (first["choice"], first["best"], first["ratio"]) == ("lookup", "lookup", 1)
    dx = by_kind["4x8x8x16 3x3/1 -> 16", "input_gradient"]
    assert dx["seconds"] == {"winograd": 4, "dense": 3}
    assert (dx["choice"], dx["best"], dx["ratio"]) == ("winograd", "dense", 4 / 3)
    strided = by_kind["4x8x8x16 3x3/2 -> 32", "weight_gradient"]
    assert set(strided["seconds"]) == {"dense", "event", "lookup"}
    assert set(called) == set(ticks)
    lines = report.choices_table("1-1:16-32", "train", rows).splitlines()
    assert len(lines) == len(rows) + 2
    assert any(
        line.split()[-5:] == ["winograd", "4000.00", "dense", "3000.00", "1.33"] for line in lines
    )


def test_the_chosen_algorithm_computes_what_the_step_does(spec):
    for kind, (function, arguments, density, methods) in choices.examples(spec).items():
        assert methods[0] == kind.choice
        assert len(set(methods)) == len(methods)
        assert 0 <= density <= 1
        results = [function(*arguments, method=method) for method in methods]
        first, *others = (r[0] if kind.direction == "forward" else r for r in results)
        assert all(abs(first - other).max() <= 1e-4 * abs(first).max() for other in others)
