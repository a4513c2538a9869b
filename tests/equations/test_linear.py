"""The fully connected layer by hand and as adjoints."""

import numpy as np
import pytest

from refsnn.equations.linear import linear_backward, linear_forward


def test_a_small_layer_worked_by_hand():
    x = np.array([[1.0, 2], [3, 4], [0, 1]])
    w = np.array([[1.0, 10, 100, 0], [2, 20, 200, 1]])
    y, cache = linear_forward(x, w, np.array([0.5, 0, 0, -1]))
    assert y.tolist() == [[5.5, 50, 500, 1], [11.5, 110, 1100, 3], [2.5, 20, 200, 0]]
    dy = np.array([[1.0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    dx, dw, db = linear_backward(dy, cache)
    assert dx.tolist() == [[1, 2], [10, 21], [100, 200]]
    assert dw.tolist() == [[1, 3, 0, 3], [2, 4, 1, 4]]
    assert db.tolist() == [1, 1, 1, 1]


def test_gradients_equal_differences(numeric_gradient):
    rng = np.random.default_rng(0)
    x, w, b, dy = (rng.normal(size=s) for s in [(3, 5), (5, 2), (2,), (3, 2)])
    for a in (x, w, b, dy):
        a.flags.writeable = False
    dx, dw, db = linear_backward(dy, linear_forward(x, w, b)[1])
    close = {"rtol": 1e-7, "atol": 1e-8}
    for got, f, at in [
        (dx, lambda a: (dy * linear_forward(a, w, b)[0]).sum(), x),
        (dw, lambda a: (dy * linear_forward(x, a, b)[0]).sum(), w),
        (db, lambda a: (dy * linear_forward(x, w, a)[0]).sum(), b),
    ]:
        np.testing.assert_allclose(got, numeric_gradient(f, at), **close)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    x, w, b = (np.ones(s, dtype) for s in [(3, 5), (5, 2), (2,)])
    y, cache = linear_forward(x, w, b)
    assert {a.dtype for a in (y, *linear_backward(y, cache))} == {np.dtype(dtype)}


@pytest.mark.parametrize(("w", "b"), [((4, 2), (2,)), ((5, 2), (3,)), ((5, 2), (1,)), ((5, 2), ())])
def test_weights_that_do_not_fit_are_refused(w, b):
    name, want = ("w", r"\(5, 2\) like x") if w[0] != 5 else ("b", r"\(2,\) like w")
    with pytest.raises(ValueError, match=rf"^{name}: got .*, want float64 {want}"):
        linear_forward(np.ones((3, 5)), np.ones(w), np.ones(b))


def test_an_input_that_is_no_batch_of_vectors_is_refused():
    with pytest.raises(ValueError, match=r"^x: got shape \(5,\), want \(N, in\)"):
        linear_forward(np.ones(5), np.ones((5, 2)), np.ones(2))
    with pytest.raises(TypeError, match=r"^x: got dtype int64"):
        linear_forward(np.ones((3, 5), int), np.ones((5, 2)), np.ones(2))
