"""Convolutions refuse wrong inputs as the equations do, and take empty ones."""

import re
from itertools import product

import numpy as np
import pytest
from convolutions import (
    DIRECTION,
    DIRECTIONS,
    F4,
    F8,
    METHOD,
    METHODS,
    SMALL,
    U1,
    Layer,
    Problem,
    by_kernel,
    drawn,
    exactly,
)

from refsnn.equations.conv import Conv, ConvCache
from refsnn.kernels import conv as kernels


def test_methods_and_directions_that_are_none_are_refused():
    x, w, dy, p = drawn(SMALL)
    for call in (
        lambda: kernels.conv_choice("forward", x, w, p, "fft"),
        lambda: kernels.conv_forward(x, w, p, method="fft"),
        lambda: kernels.conv_input_gradient(dy, ConvCache(x, w, p), method="fft"),
        lambda: kernels.conv_weight_gradient(dy, ConvCache(x, w, p), method="fft"),
    ):
        with pytest.raises(ValueError, match=r"^conv: got 'fft', want one of auto, direct, dense"):
            call()
    with pytest.raises(ValueError, match=r"^direction: got 'backward', want one of forward, input"):
        kernels.conv_choice("backward", x, w, p)


X, W = np.ones((1, 5, 5, 3)), np.ones((3, 3, 3, 2))


@pytest.mark.parametrize(
    ("x", "w", "error", "message"),
    [
        (X, np.ones((3, 3, 4, 2)), ValueError, "w: got 4 input channels, want 3"),
        (X, W.astype(F4), TypeError, "w: got dtype float32, want float64"),
        (X.astype(F4), W, TypeError, "w: got dtype float64, want float32"),
        (X.astype(int), W.astype(F4), TypeError, "x: got dtype int64, want float32 or float64"),
        (X.astype(U1), W, TypeError, "x: got dtype uint8, want float32 or float64"),
        (X.astype(bool), W.astype(F4), TypeError, "x: got dtype bool, want float32 or float64"),
        (X.tolist(), W, TypeError, "x: got list, want a numpy array"),
        (X[:, :2], W, ValueError, "x: got (2, 5) pixels"),
        (X[:, :2].astype(U1), W.astype(F4), ValueError, "x: got (2, 5) pixels"),
        (X[0], W, ValueError, "x: got shape (5, 5, 3)"),
        (X[0].astype(U1), W.astype(F4), ValueError, "x: got shape (5, 5, 3)"),
        (np.array(1, U1), W.astype(F4), ValueError, "x: got shape ()"),
        (X.astype(U1), W[..., :1, :].astype(F4), ValueError, "w: got 1 input channels, want 3"),
        (X, W[0], ValueError, "w: got shape (3, 3, 2)"),
    ],
)
def test_wrong_inputs_are_refused_as_by_the_equations(x, w, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        kernels.conv_forward(x, w, Conv())


@METHOD
def test_spikes_are_zeros_and_ones(method):
    """A spike of 2 would take two places in an event-driven list."""
    x = X.astype(U1)
    x[0, 4, 4, 2] = 2
    with pytest.raises(ValueError, match=r"^x: got 2 among spikes, want 0 and 1"):
        kernels.conv_forward(x, W.astype(F4), Conv(), method)


DTYPES = pytest.mark.parametrize(("x_dtype", "w_dtype"), [(F4, F4), (U1, F4), (F8, F8)])


@DIRECTION
@DTYPES
def test_no_images_are_a_batch_too(direction, x_dtype, w_dtype):
    dy = np.ones((0, 3, 3, 2), w_dtype)
    problem = Problem(X[:0].astype(x_dtype), W.astype(w_dtype), dy, Conv())
    want = exactly(direction, problem, w_dtype)
    for method in METHODS:
        got = by_kernel(direction, problem, method)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        assert not got.any()


@DTYPES
@pytest.mark.parametrize("direction", DIRECTIONS[1:])
def test_a_cotangent_unlike_the_output_never_reaches_a_kernel(direction, x_dtype, w_dtype):
    problem = drawn(SMALL, x_dtype, w_dtype)
    n, height, width, columns = problem.dy.shape
    wrong = [
        np.ones(shape, w_dtype)
        for shape in (
            (n - 1, height, width, columns),
            (n, height, width, columns - 1),
            (n, height - 1, width, columns),
            (n, height, width + 1, columns),
        )
    ]
    wrong.append(problem.dy.astype(F8 if w_dtype == F4 else F4))
    for method, dy in product(METHODS, wrong):
        with pytest.raises(ValueError, match=r"^dy: got "):
            by_kernel(direction, problem._replace(dy=dy), method)


@METHOD
def test_bytes_that_are_no_spikes_never_reach_a_weight_gradient(method):
    """A spike of 2 would take two places in a list that has room for one each."""
    problem = drawn(SMALL, U1, density=1)
    with pytest.raises(ValueError, match=r"^x: got 200 among spikes, want 0 and 1"):
        by_kernel("weight_gradient", problem._replace(x=200 * problem.x), method)


@DIRECTION
@pytest.mark.parametrize("channels", [(0, 3), (3, 0), (0, 16), (16, 0), (0, 0)], ids=str)
def test_no_channels_are_a_layer_too(direction, channels):
    for method, x_dtype in product(METHODS, (F4, U1)):
        problem = drawn(Layer((2, 4, 5), channels, (3, 3), Conv((1, 1), (1, 1))), x_dtype)
        got = by_kernel(direction, problem, method)
        like = dict(zip(DIRECTIONS, (problem.dy, problem.x, problem.w), strict=True))[direction]
        assert (got.shape, got.dtype) == (like.shape, F4)
        assert not got.any()
