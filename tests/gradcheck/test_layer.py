"""The forms in which results may come, and those that are refused."""

import numpy as np
import pytest

from refsnn.gradcheck import gradcheck


@pytest.mark.parametrize("as_form", [tuple, list, lambda g: dict(zip("xwb", g, strict=True))])
def test_gradients_as_tuple_list_or_dict(dense, as_form):
    def backward(dy, cache):
        return as_form(dense.backward(dy, cache))

    assert gradcheck(dense.forward, backward, dense.inputs).passed


def test_a_number_out_and_a_number_back():
    report = gradcheck(
        lambda x: (float(x) ** 2, x), lambda dy, x: float(dy) * 2 * float(x), {"x": np.array(3.0)}
    )
    assert report.passed, report


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ((), ValueError, "backward: got 0 gradients, want 3, one for each of x, w, b"),
        ({"x": 0, "w": 0}, ValueError, "backward: got no gradient by b, want one by each of wrt"),
        ((0, None, 0), ValueError, "backward: got no gradient by w, want one by each of wrt"),
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
