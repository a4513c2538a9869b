"""Every method of convolution against the NumPy equations in float64.

direct, dense, event and lookup sum the products of the equations in orders of their own, so each
element is within n eps sum |x||w| of the exact one (see `kernels.direct`); of whole numbers
nothing is rounded. winograd multiplies other numbers: 1e-4 of the largest element.
"""

import numpy as np
import pytest
from convolutions import (
    COMPILED,
    DIRECTION,
    DIRECTIONS,
    F4,
    F8,
    LAYERS,
    METHOD,
    METHODS,
    ODD,
    U1,
    USED,
    Layer,
    allowed,
    assert_exact,
    assert_within,
    bound,
    by_kernel,
    crossed,
    drawn,
    exactly,
    expected,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.equations.conv import Conv
from refsnn.kernels import conv as kernels
from refsnn.kernels import event, lookup


@crossed(LAYERS)
def test_float32_is_near_the_exact_result_for_every_layer(direction, layer, method, x_dtype):
    problem, want = expected(layer, direction, x_dtype)
    got = by_kernel(direction, problem, method)
    assert got.dtype == F4
    if method == "winograd":
        assert_within(got, want, 1e-4 * np.abs(want).max())
    else:
        assert_within(got, want, allowed(layer, direction, x_dtype))


@crossed(USED, each_dtype=True)
def test_whole_numbers_are_not_rounded(direction, layer, method, x_dtype):
    problem, want = expected(layer, direction, x_dtype, numbers=True)
    got = by_kernel(direction, problem, method)
    assert_exact(method, got, want)


@pytest.mark.parametrize("density", [0.0, 1.0], ids=["silence", "all fire"])
@METHOD
@DIRECTION
def test_silent_and_saturated_layers(direction, method, density):
    for layer in ODD:
        problem = drawn(layer, U1, density=density, numbers=True)
        got, want = by_kernel(direction, problem, method), exactly(direction, problem)
        assert_exact(method, got, want)


@DIRECTION
@pytest.mark.parametrize(
    ("layer", "density"),
    [(layer, (None, 0.0, 0.15, 1.0)[k % 4]) for k, layer in enumerate(ODD)],
    ids=str,
)
def test_float64_is_direct_and_within_its_bound_whatever_is_forced(layer, density, direction):
    problem = drawn(layer, F8 if density is None else U1, F8, density or 0)
    problem = problem._replace(x=problem.x.astype(F8))
    got, limit = by_kernel(direction, problem), bound(direction, problem)
    assert got.dtype == F8
    assert_within(got, exactly(direction, problem), 2 * limit)
    for method in METHODS if COMPILED else ("winograd",):
        assert by_kernel(direction, problem, method).tobytes() == got.tobytes()


@pytest.mark.parametrize(
    ("module", "limit"),
    [
        *((event, name) for name in ("CHUNK", "CACHE", "PIXELS")),
        *((lookup, name) for name in ("CACHE", "PIXELS", "PARTS")),
    ],
)
@DIRECTION
def test_working_in_the_smallest_parts_changes_nothing(direction, module, limit, monkeypatch):
    monkeypatch.setattr(module, limit, 1)
    for layer in ODD:
        problem, want = expected(layer, direction, U1, numbers=True)
        for method in ("event", "lookup", "dense"):
            assert np.array_equal(by_kernel(direction, problem, method), want)


def test_event_takes_as_many_taps_at_a_time_as_its_cache_holds():
    size = event.CACHE // 4
    assert event.taps_at_once(3, 5, size // 15) == (3, 5)
    assert event.taps_at_once(3, 5, size // 15 + 1) == event.taps_at_once(3, 5, size // 5) == (1, 5)
    assert event.taps_at_once(3, 5, size // 5 + 1) == event.taps_at_once(3, 5, 2 * size) == (1, 1)


@settings(deadline=None, max_examples=150 if COMPILED else 50, derandomize=True)
@given(data=st.data())
def test_any_layer_is_near_the_exact_result_by_any_method(data):
    def pair(low, high):
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    kernel, p = pair(1, 5), Conv(pair(1, 3), pair(0, 5))
    n, *extra = data.draw(st.tuples(st.integers(1, 3), st.integers(0, 6), st.integers(0, 6)))
    size = [max(1, k - 2 * pad) + e for k, pad, e in zip(kernel, p.padding, extra, strict=True)]
    most = 70 if COMPILED else 18
    channels = data.draw(st.one_of(st.just((16, 16)), st.tuples(*[st.integers(1, most)] * 2)))
    layer = Layer((n, *size), channels, kernel, p)
    x_dtype, w_dtype = data.draw(st.sampled_from([(F4, F4), (U1, F4), (F8, F8)]))
    method, direction = data.draw(st.sampled_from(METHODS)), data.draw(st.sampled_from(DIRECTIONS))
    density = data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    problem = drawn(layer, x_dtype, w_dtype, density, seed=data.draw(st.integers(0, 2**32)))
    chosen = kernels.conv_choice(direction, problem.x, problem.w, p, method)
    got, want = by_kernel(direction, problem, method), exactly(direction, problem)
    limit = 2 * bound(direction, problem)
    assert_within(got, want, 1e-4 * np.abs(want).max() if chosen == "winograd" else limit)


def test_more_spikes_in_an_image_than_a_byte_counts():
    layer = Layer((1, 6, 6), (8, 1), (1, 1), Conv())
    problem = drawn(layer, U1, density=1, numbers=True)
    assert np.array_equal(by_kernel("forward", problem, "event"), exactly("forward", problem))


def test_a_narrow_last_block_of_columns_of_events():
    layer = Layer((1, 1, 4), (2, 65), (1, 1), Conv())
    problem, want = expected(layer, "forward", U1, numbers=True)
    assert np.array_equal(by_kernel("forward", problem, "event"), want)


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("spikes", range(10))
def test_any_number_of_spikes_at_a_pixel_adds_their_weights_exactly(spikes, dtype):
    # four non-zero values are added a pass
    rng = np.random.default_rng(spikes)
    x = np.zeros((1, 1, 50, 12), dtype)
    for pixel in x[0, 0]:
        pixel[rng.choice(12, spikes, replace=False)] = rng.integers(1, 9, spikes)
    w = rng.integers(-99, 99, (1, 1, 12, 5)).astype(dtype)
    y, _ = kernels.conv_forward(x, w, Conv(), method="direct")
    assert np.array_equal(y, x @ w[0, 0])
