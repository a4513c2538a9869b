"""Convolution against SciPy's correlation, its gradients as adjoints of it."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from refsnn.equations.conv import (
    Conv,
    conv_forward,
    conv_input_gradient,
    conv_weight_gradient,
)


def gradients(dy, cache):
    return conv_input_gradient(dy, cache), conv_weight_gradient(dy, cache)


modest = settings(deadline=None, max_examples=80, derandomize=True)


@st.composite
def layers(draw):
    """x, w and a Conv; the window fits, often with pixels left over."""
    n, c_in, c_out = (draw(st.integers(1, 4)) for _ in range(3))
    kernel = [draw(st.sampled_from([1, 2, 3, 5, 7])) for _ in range(2)]
    padding = tuple(draw(st.integers(0, 4)) for _ in range(2))
    size = [
        max(1, k - 2 * p) + draw(st.integers(0, 6)) for k, p in zip(kernel, padding, strict=True)
    ]
    stride = tuple(draw(st.integers(1, 3)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x, w = rng.normal(size=(n, *size, c_in)), rng.normal(size=(*kernel, c_in, c_out))
    x.flags.writeable = w.flags.writeable = False
    return x, w, Conv(stride, padding)


def by_scipy(x, w, p):
    (ph, pw), (sh, sw) = p.padding, p.stride
    x = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    maps = [
        [correlate(image, w[..., k], mode="valid", method="direct")[..., 0] for image in x]
        for k in range(w.shape[3])
    ]
    return np.array(maps)[:, :, ::sh, ::sw].transpose(1, 2, 3, 0)


@modest
@given(layers())
def test_forward_is_scipys_correlation(layer):
    x, w, p = layer
    y, _ = conv_forward(x, w, p)
    np.testing.assert_allclose(y, by_scipy(x, w, p), rtol=1e-12, atol=1e-12)


@modest
@given(layers())
def test_gradients_are_the_adjoints_of_the_forward(layer):
    x, w, p = layer
    rng = np.random.default_rng(0)
    y, cache = conv_forward(x, w, p)
    dy, x_step, w_step = (rng.normal(size=a.shape) for a in (y, x, w))
    dy.flags.writeable = False
    dx, dw = gradients(dy, cache)
    assert (dx.shape, dw.shape) == (x.shape, w.shape)
    assert dx.flags.c_contiguous
    # y is linear in x and in w, so these hold exactly, not to first order
    close = {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose((dx * x_step).sum(), (dy * by_scipy(x_step, w, p)).sum(), **close)
    np.testing.assert_allclose((dw * w_step).sum(), (dy * by_scipy(x, w_step, p)).sum(), **close)


def test_two_pixels_two_taps_worked_by_hand():
    x = np.array([2.0, 3, 5]).reshape(1, 1, 3, 1)
    w = np.array([10.0, 100]).reshape(1, 2, 1, 1)  # no flip: the first tap meets the left pixel
    dy = np.array([1.0, 7]).reshape(1, 1, 2, 1)
    y, cache = conv_forward(x, w, Conv())
    assert y.ravel().tolist() == [320, 530]
    assert conv_input_gradient(dy, cache).ravel().tolist() == [10, 170, 700]
    assert conv_weight_gradient(dy, cache).ravel().tolist() == [2 + 21, 3 + 35]


@pytest.mark.parametrize(
    ("p", "y"),
    [
        (Conv(padding=(0, 1)), [20, 32, 53, 5]),
        (Conv((1, 2), (0, 1)), [20, 53]),
        (Conv((1, 2)), [32]),
        (Conv((1, 3), (0, 2)), [0, 53]),  # the first window lies in the padding
    ],
)
def test_where_windows_lie_with_stride_and_padding(p, y):
    x = np.array([2.0, 3, 5]).reshape(1, 1, 3, 1)
    w = np.array([1.0, 10]).reshape(1, 2, 1, 1)
    assert conv_forward(x, w, p)[0].ravel().tolist() == y


def test_rows_and_columns_have_their_own_stride_and_padding():
    x, w = np.ones((1, 9, 9, 1)), np.ones((3, 1, 1, 1))
    assert conv_forward(x, w, Conv((2, 3), (1, 0)))[0].shape == (1, 5, 3, 1)
    assert conv_forward(x, w, Conv((3, 2), (0, 1)))[0].shape == (1, 3, 6, 1)


def test_pixels_that_no_window_meets_get_no_gradient():
    x, w = np.ones((1, 6, 6, 2)), np.ones((1, 1, 2, 3))
    y, cache = conv_forward(x, w, Conv((3, 2)))
    dx = conv_input_gradient(np.ones_like(y), cache)
    met = np.zeros((6, 6), bool)
    met[::3, ::2] = True
    assert np.array_equal(dx[0, :, :, 0], 3.0 * met)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(2, 5, 5, 3)), rng.normal(size=(3, 3, 3, 4))
    p = Conv((2, 2), (1, 1))
    exact, cache = conv_forward(x, w, p)
    y, own_cache = conv_forward(x.astype(dtype), w.astype(dtype), p)
    got = y, *gradients(y, own_cache)
    for a, want in zip(got, (exact, *gradients(exact, cache)), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, want, rtol=1e-4, atol=1e-4)


X, W = np.ones((1, 5, 5, 3)), np.ones((3, 3, 3, 2))


@pytest.mark.parametrize(
    ("x", "w", "error", "message"),
    [
        (X, np.ones((3, 3, 4, 2)), ValueError, "w: got 4 input channels, want 3 like x"),
        (X, W.astype("f4"), TypeError, "w: got dtype float32, want float64 like x"),
        (X.astype(int), W, TypeError, "x: got dtype int64, want float32 or float64"),
        (X, W.astype(int), TypeError, "w: got dtype int64, want float32 or float64"),
        (X[0], W, ValueError, "x: got shape (5, 5, 3), want (N, H, W, C_in)"),
        (X, W[0], ValueError, "w: got shape (3, 3, 2), want (kh, kw, C_in, C_out)"),
        (
            X[:, :2],
            W,
            ValueError,
            "x: got (2, 5) pixels with padding (0, 0), want at least the window's (3, 3)",
        ),
        (
            X[:, :, :2],
            W,
            ValueError,
            "x: got (5, 2) pixels with padding (0, 0), want at least the window's (3, 3)",
        ),
        (X.tolist(), W, TypeError, "x: got list, want a numpy array"),
    ],
)
def test_wrong_inputs_are_refused(x, w, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        conv_forward(x, w, Conv())


def test_padding_can_make_a_small_input_fit():
    assert conv_forward(X[:, :1, :2], W, Conv(padding=(1, 1)))[0].shape == (1, 1, 2, 2)


@pytest.mark.parametrize("stride", [(0, 1), (1, 0), (-1, 1)])
def test_a_stride_below_one_is_refused(stride):
    with pytest.raises(ValueError, match=r"^stride: got .* at least 1"):
        Conv(stride=stride)


def test_negative_padding_is_refused():
    with pytest.raises(ValueError, match=r"^padding: got -1, .* at least 0"):
        Conv(padding=(0, -1))


@pytest.mark.parametrize("gradient", [conv_input_gradient, conv_weight_gradient])
@pytest.mark.parametrize(
    ("dy", "message"),
    [
        (np.ones((1, 3, 3, 2)), "dy: got float64 (1, 3, 3, 2), want float64 (2, 3, 3, 2) like y"),
        (np.ones((2, 3, 3, 1)), "dy: got float64 (2, 3, 3, 1)"),
        (np.ones((2, 3, 3, 2), np.float32), "dy: got float32"),
    ],
)
def test_a_cotangent_unlike_the_output_is_refused(gradient, dy, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        gradient(dy, conv_forward(np.concatenate([X, X]), W, Conv())[1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": 2}, "stride: got 2, want a pair"),
        ({"stride": (2,)}, "stride: got (2,), want a pair"),
        ({"padding": (1.5, 1)}, "padding: got 1.5, want a whole number"),
    ],
)
def test_strides_and_paddings_are_pairs_of_whole_numbers(fields, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Conv(**fields)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, type("Count", (int,), {})])
def test_strides_and_paddings_of_few_bits_do_not_overflow(kind):
    p = Conv((kind(2), kind(1)), (kind(1), kind(2)))
    assert p == Conv((2, 1), (1, 2))
    assert {type(n) for n in (*p.stride, *p.padding)} == {int}
    x = np.ones((1, 300, 2, 1))  # more rows than a byte counts
    assert conv_forward(x, np.ones((3, 3, 1, 1)), p)[0].shape == (1, 150, 4, 1)
