"""Timing of operations."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn.bench import timing, workload
from refsnn.ops import NUMPY, Conv


@pytest.fixture
def passes(monkeypatch):
    """`passes(seconds)` lets the time that a watch sees pass."""
    now = [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_an_inner_call_is_not_its_callers_time(passes):
    watch = timing.Watch(replace(NUMPY, add_into=lambda: passes(2), side_coefficient=lambda f: f()))

    def outer():
        passes(3)
        watch.ops.add_into()
        watch.ops.add_into()

    watch.ops.side_coefficient(outer)
    assert [(call.name, call.seconds) for call in watch.calls] == [
        ("add_into", 2),
        ("add_into", 2),
        ("side_coefficient", 3),
    ]


def test_time_spent_on_recording_is_not_counted(passes, monkeypatch):
    watch = timing.Watch(replace(NUMPY, add_into=lambda: None, side_coefficient=lambda f: f()))
    describe = watch.describe

    def slowly(*args):
        passes(2)
        return describe(*args)

    monkeypatch.setattr(watch, "describe", slowly)
    watch.ops.side_coefficient(watch.ops.add_into)
    assert [call.seconds for call in watch.calls] == [0, 0]
    assert watch.aside == 4


def test_a_convolution_is_counted_as_a_direct_one():
    x = np.zeros((2, 6, 6, 3))
    x[0, 0, 0] = 1
    watch = timing.Watch(NUMPY, look=True)
    y, cache = watch.ops.conv_forward(x, np.ones((3, 3, 3, 4)), Conv((2, 2), (1, 1)))
    watch.ops.conv_weight_gradient(y, cache)
    forward, gradient = watch.calls
    assert forward.gflop == gradient.gflop == pytest.approx(2e-9 * (2 * 3 * 3 * 4) * 27)
    assert forward.density == gradient.density == 1 / 72
    assert forward.convolution.shape == "2x6x6x3 3x3/2 -> 4"
    assert (forward.convolution.direction, gradient.convolution.direction) == (
        "forward",
        "weight_gradient",
    )


def test_bytes_of_an_array_that_occurs_twice_count_once():
    x, y = np.zeros(10), np.zeros(3, np.uint8)
    assert sum(timing.distinct((x, [y, {"again": x}], None, 3.0)).values()) == 83
    assert sum(timing.distinct((x[:5], x[5:])).values()) == 80


def test_parts_make_up_the_step(tiny):
    params, buffers = workload.fresh_numbers(tiny)
    step = workload.refsnn_step(tiny, params, buffers)
    took, calls = timing.watch(step, NUMPY, repeats=2)
    result = timing.breakdown(took, calls, gemm_gflops=100.0, copy_gib_s=10.0)
    parts = {row["part"]: row for row in result["parts"]}
    assert sum(row["seconds"] for row in parts.values()) == pytest.approx(took)
    assert all(row["seconds"] > 0 for row in parts.values())
    forward = parts["convolution forward"]
    assert forward["gflops"] == pytest.approx(forward["gflop"] / forward["seconds"])
    assert forward["of_gemm_peak"] == pytest.approx(forward["gflops"] / 100)
    neuron = parts["norm and neuron"]
    assert neuron["of_copy_peak"] == pytest.approx(neuron["gib"] / neuron["seconds"] / 10)
    assert "gflop" not in neuron
    by_shape = {
        row["shape"]: row for row in result["convolutions"] if row["direction"] == "forward"
    }
    assert by_shape["2x8x8x3 3x3/1 -> 4"]["density"] == 1  # the stem: images, at one step
    same = by_shape["4x8x8x4 3x3/1 -> 4"]  # both of the first block
    assert same["calls"] == 2
    assert 0 < same["density"] < 0.5
