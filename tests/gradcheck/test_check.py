"""The entry: what it takes, what it refuses, what it hands back."""

import numpy as np
import pytest

from refsnn.gradcheck import assert_gradients, gradcheck


def test_a_right_layer_passes_line_by_line(dense):
    report = gradcheck(dense.forward, dense.backward, dense.inputs)
    assert report.passed
    assert [line.split(":")[0] for line in str(report).splitlines()] == [
        "forward",
        "backward",
        "x",
        "w",
        "b",
    ]
    assert_gradients(dense.forward, dense.backward, dense.inputs)


def test_a_transposed_weight_gradient_raises_with_the_report(dense):
    def backward(dy, cache):
        dx, dw, db = dense.backward(dy, cache)
        return dx, dw.T.copy(), db

    with pytest.raises(AssertionError, match=r"\nw: differences failed: .* expected .*, got "):
        assert_gradients(dense.forward, backward, dense.inputs)


def test_the_same_generator_gives_the_same_report(dense):
    first, second, other = (
        str(gradcheck(dense.forward, dense.backward, dense.inputs, rng=np.random.default_rng(s)))
        for s in (1, 1, 2)
    )
    assert first == second != other


def test_only_what_is_asked_for_is_checked(dense):
    def backward(dy, cache):
        dx, _, _ = dense.backward(dy, cache)
        return dx, None, None

    report = gradcheck(dense.forward, backward, dense.inputs, wrt=["x"])
    assert report.passed
    assert [c.subject for c in report.checks] == ["forward", "backward", "x"]


def test_a_larger_rtol_accepts_more(dense):
    def backward(dy, cache):
        return tuple(g * 1.001 for g in dense.backward(dy, cache))

    assert not gradcheck(dense.forward, backward, dense.inputs).passed
    assert gradcheck(dense.forward, backward, dense.inputs, rtol=0.01).passed


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"forward": 3}, TypeError, "forward: got int, want a function"),
        ({"backward": None}, TypeError, "backward: got NoneType, want a function"),
        ({"inputs": [1]}, TypeError, "inputs: got list, want a dict of arrays by name"),
        ({"inputs": {"x": 1.0}}, TypeError, "x: got float, want a numpy array"),
        ({"inputs": {}}, ValueError, "wrt: got no name, want at least one input"),
        ({"inputs": {"n": np.ones(2, int)}}, ValueError, "wrt: got no name, want at least one"),
        ({"inputs": {"n": np.ones(2, int)}, "wrt": "n"}, TypeError, "n: got dtype int64, want"),
        ({"inputs": {"x": np.ones(2, "f2")}}, TypeError, "x: got dtype float16, want float32 or"),
        (
            {"inputs": {"x": np.ones(2), "y": np.ones(2, "f4")}},
            TypeError,
            "y: got dtype float32, want float64 like x",
        ),
        ({"inputs": {"x": np.ones((0, 3))}}, ValueError, r"x: got shape \(0, 3\), want at least"),
        ({"inputs": {"x": np.array([np.nan])}}, ValueError, "x: got NaN or infinity, want finite"),
        ({"wrt": ("x", "z")}, ValueError, "wrt: got 'z', want names among x, w, b"),
        ({"linear_in": "z"}, ValueError, "linear_in: got 'z', want names among x, w, b"),
        ({"jvp": 1}, TypeError, "jvp: got int, want a function"),
        ({"rng": 0}, TypeError, "rng: got int, want a numpy.random.Generator"),
        ({"directions": 0}, ValueError, "directions: got 0, want a whole number of at least 1"),
        ({"rtol": -1.0}, ValueError, "rtol: got -1.0, want a number between 0 and 1"),
        ({"adjoint_rtol": 2}, ValueError, "adjoint_rtol: got 2, want a number between 0 and 1"),
        (
            {"smooth": False, "linear_in": "x"},
            ValueError,
            "smooth: got False, which needs jvp, or linear_in for w, b",
        ),
    ],
)
def test_arguments_that_are_refused(dense, change, error, message):
    arguments = {"forward": dense.forward, "backward": dense.backward, "inputs": dense.inputs}
    with pytest.raises(error, match=message):
        gradcheck(**(arguments | change))
