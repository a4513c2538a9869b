"""The forms in which results may come, and those that are refused."""

import numpy as np
import pytest

from refsnn.gradcheck import gradcheck


@pytest.mark.parametrize("as_form", [tuple, list, lambda g: dict(zip("xwb", g, strict=True))])
def test_gradients_as_tuple_list_or_dict(dense, as_form):
    def backward(dy, cache):
        return as_form(dense.backward(dy, cache))

    assert gradcheck(dense.forward, backward, dense.inputs).passed


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_number_out_and_a_number_back(dtype):
    """Python's numbers have no dtype that could be wrong."""
    report = gradcheck(
        lambda x: (float(x) ** 2, float(x)),
        lambda dy, x: float(dy) * 2 * x,
        {"x": np.array(3.0, dtype)},
    )
    assert report.passed, report


def test_the_users_arrays_are_never_given_away():
    x = np.linspace(0.0, 1.0, 5)
    before, calls = x.copy(), 0

    def forward(x):
        nonlocal calls
        calls += 1
        y = x * x
        if calls > 2:  # too late for the check of values
            x[:] = 9
        return y, y

    gradcheck(forward, lambda dy, y: 2 * np.sqrt(y) * dy, {"x": x})
    assert calls > 2
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ((), ValueError, "backward: got 0 gradients, want 3, one for each of x, w, b"),
        (
            {"x": 0, "w": 0},
            ValueError,
            "backward: got no gradient with respect to b, want one for each of wrt",
        ),
        (
            (0, None, 0),
            ValueError,
            "backward: got no gradient with respect to w, want one for each of wrt",
        ),
        ("xyz", TypeError, "backward: got str, want a tuple or a dict"),
        (None, TypeError, "backward: got NoneType, want a tuple or a dict"),
    ],
)
def test_gradients_of_another_form_are_refused(dense, result, error, message):
    with pytest.raises(error, match=message):
        gradcheck(dense.forward, lambda dy, cache: result, dense.inputs)


@pytest.mark.parametrize("result", [np.ones(2), (1, 2, 3)], ids=["array", "three"])
def test_a_forward_without_cache_is_refused(dense, result):
    with pytest.raises(TypeError, match=r"forward: got .*, want a pair \(y, cache\)"):
        gradcheck(lambda **given: result, dense.backward, dense.inputs)
