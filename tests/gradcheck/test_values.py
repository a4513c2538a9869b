"""Faults that need no derivative: shapes, dtypes, NaN, what is written, what is kept."""

import numpy as np
import pytest

from refsnn.gradcheck import gradcheck

X = {"x": np.linspace(-1.0, 1.0, 6).reshape(2, 3)}


def square(x):
    return x * x, x


def slope(dy, x):
    return 2 * x * dy


def notes(forward, backward, inputs=X):
    """Return the notes of what failed; no derivative is then looked at."""
    report = gradcheck(forward, backward, inputs)
    assert {c.kind for c in report.checks if c.verdict != "passed"} <= {"values"}
    return [f"{c.subject}: {c.note}" for c in report.checks if c.verdict != "passed"]


def test_nothing_is_found_where_nothing_is_wrong():
    assert notes(square, slope) == []


def test_an_input_that_is_read_only_or_not_contiguous_is_as_good():
    x = np.linspace(-1.0, 1.0, 12).reshape(3, 4).T[::2]
    x.flags.writeable = False
    assert notes(square, slope, {"x": x}) == []


def test_forward_that_writes_its_input():
    def forward(x):
        y = x * x
        x += 1
        return y, x - 1

    before = X["x"].copy()
    assert notes(forward, slope) == ["forward: writes into x"]
    np.testing.assert_array_equal(X["x"], before)


def test_backward_that_writes_its_input_or_its_cotangent():
    def into_x(dy, x):
        g = slope(dy, x)
        x *= 2
        return g

    def into_dy(dy, x):
        dy *= 2 * x
        return dy

    assert notes(square, into_x) == ["backward: writes into x"]
    assert notes(square, into_dy) == ["backward: writes into dy[0]"]


def test_backward_that_uses_its_cache_up():
    def forward(x):
        return x * x, x.copy()

    def backward(dy, cache):
        g = slope(dy, cache)
        cache[:] = 0
        return g

    (note,) = notes(forward, backward)
    assert note == "backward: another gradient with respect to x for the same dy and the same cache"


def test_state_kept_by_forward():
    u = np.zeros((2, 3))

    def forward(x):
        nonlocal u
        u = 0.5 * u + x
        return u.copy(), None

    assert "forward: another y for the same inputs: is state kept?" in notes(
        forward, lambda dy, _: dy
    )


def test_gradients_added_up_between_calls():
    total = np.zeros((2, 3))

    def backward(dy, x):
        nonlocal total
        total = total + slope(dy, x)
        return total

    assert any("another gradient with respect to x" in note for note in notes(square, backward))


def test_a_cache_kept_outside_of_the_call():
    kept = None

    def forward(x):
        nonlocal kept
        kept = x
        return x * x, None

    def backward(dy, _):
        return slope(dy, kept)

    # right as long as nobody calls forward in between
    assert notes(forward, backward) == [
        "backward: another gradient with respect to x for the same dy and the same cache"
    ]


def test_state_that_only_a_later_cache_shows():
    calls = 0

    def forward(x):
        nonlocal calls
        calls += 1
        return x * x, (x, calls)

    def backward(dy, cache):
        x, count = cache
        return slope(dy, x) * count

    assert notes(forward, backward) == [
        "backward: another gradient with respect to x for the same dy and a new cache"
    ]


def test_a_later_call_that_overwrites_a_result_is_noted():
    y, g = np.empty((2, 3)), np.empty((2, 3))

    def forward(x):
        return np.multiply(x, x, out=y), x

    def backward(dy, x):
        return np.multiply(2 * x, dy, out=g)

    assert notes(forward, slope)[0] == "forward: a later call writes into the y returned before"
    assert notes(square, backward) == [
        "backward: a later call writes into the gradient with respect to x",
    ]


def test_nan_and_infinity_are_noted_with_their_place():
    def with_value(value):
        def spoil(a):
            a = a.copy()
            a[1, 2] = value
            return a

        return spoil

    nan, inf = with_value(np.nan), with_value(-np.inf)
    assert notes(lambda x: (nan(x), x), slope) == ["forward: y[0] is nan at [1, 2]"]
    assert notes(square, lambda dy, x: inf(slope(dy, x))) == ["x: gradient is -inf at [1, 2]"]


@pytest.mark.parametrize(
    ("backward", "note"),
    [
        (lambda dy, x: slope(dy, x).T, "gradient's shape is (3, 2), want (2, 3)"),
        (lambda dy, x: slope(dy, x).sum(0), "gradient's shape is (3,), want (2, 3)"),
        (lambda dy, x: slope(dy, x).astype("f4"), "gradient's dtype is float32, want float64"),
    ],
)
def test_a_gradient_of_another_shape_or_dtype(backward, note):
    assert notes(square, backward) == [f"x: {note}"]


def test_an_output_cast_on_its_way():
    note = "forward: y[0] is float32, want float64 as the inputs"
    assert notes(lambda x: ((x * x).astype("f4"), x), slope) == [note]
