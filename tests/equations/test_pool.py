"""Average pooling against plain loops, its gradient as the adjoint."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.equations.pool import (
    AvgPool,
    avgpool_backward,
    avgpool_forward,
    global_avgpool_backward,
    global_avgpool_forward,
)

modest = settings(deadline=None, max_examples=60, derandomize=True)


@st.composite
def layers(draw):
    kernel = draw(st.integers(1, 4))
    p = AvgPool(kernel, draw(st.integers(1, 5)), draw(st.integers(0, kernel // 2)))
    n, height, width, channels = (draw(st.integers(1, 3)) for _ in range(4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.normal(size=(n, kernel - 1 + 2 * height, kernel - 1 + 3 * width, channels))
    x.flags.writeable = False
    return x, p


def by_loops(x, p):
    n, height, width, channels = x.shape
    count = [(size + 2 * p.padding - p.kernel) // p.stride + 1 for size in (height, width)]
    y = np.zeros((n, *count, channels))
    for i, r, s, c in np.ndindex(y.shape):
        top, left = r * p.stride - p.padding, s * p.stride - p.padding
        total = 0.0
        for row in range(top, top + p.kernel):
            for column in range(left, left + p.kernel):
                if 0 <= row < height and 0 <= column < width:
                    total += x[i, row, column, c]
        y[i, r, s, c] = total / (p.kernel * p.kernel)
    return y


@modest
@given(layers())
def test_forward_is_the_mean_of_each_window(layer):
    x, p = layer
    np.testing.assert_allclose(avgpool_forward(x, p)[0], by_loops(x, p), rtol=1e-12, atol=1e-12)


@modest
@given(layers())
def test_backward_is_the_adjoint_of_the_forward(layer):
    x, p = layer
    rng = np.random.default_rng(0)
    y, cache = avgpool_forward(x, p)
    dy, step = rng.normal(size=y.shape), rng.normal(size=x.shape)
    dy.flags.writeable = False
    dx = avgpool_backward(dy, cache)
    assert dx.shape == x.shape
    assert dx.flags.c_contiguous
    np.testing.assert_allclose((dx * step).sum(), (dy * by_loops(step, p)).sum(), rtol=1e-10)


def test_padding_counts_as_zeros_in_the_mean():
    x = np.full((1, 2, 2, 1), 9.0)
    y, cache = avgpool_forward(x, AvgPool(3, 2, 1))
    assert y.ravel().tolist() == [4.0]  # four pixels of nine
    assert avgpool_backward(y, cache).ravel().tolist() == [4 / 9] * 4


def test_a_two_by_two_window_worked_by_hand():
    x = np.arange(6.0).reshape(1, 2, 3, 1)  # the third column is left over
    y, cache = avgpool_forward(x, AvgPool())
    assert y.ravel().tolist() == [2.0]
    assert avgpool_backward(y, cache).ravel().tolist() == [0.5, 0.5, 0, 0.5, 0.5, 0]


def test_overlapping_windows_add_up_in_the_gradient():
    x = np.ones((1, 2, 3, 1))
    y, cache = avgpool_forward(x, AvgPool(2, 1))
    dy = np.array([1.0, 10]).reshape(y.shape)
    assert avgpool_backward(dy, cache)[0, 0].ravel().tolist() == [0.25, 2.75, 2.5]


def test_global_pooling_is_the_mean_over_pixels():
    x = np.arange(12.0).reshape(1, 2, 3, 2)
    y, shape = global_avgpool_forward(x)
    assert y.tolist() == [[5, 6]]
    dx = global_avgpool_backward(np.array([[6.0, 12]]), shape)
    assert dx.tolist() == np.broadcast_to([1.0, 2], x.shape).tolist()
    dx[0, 0, 0, 0] = 7  # a gradient of its own, not a view that repeats one number
    assert dx.sum() == 24


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    x = np.random.default_rng(1).normal(size=(2, 5, 5, 3)).astype(dtype)
    y, cache = avgpool_forward(x, AvgPool(3, 2, 1))
    z, shape = global_avgpool_forward(x)
    gradients = avgpool_backward(y, cache), global_avgpool_backward(z, shape)
    assert {a.dtype for a in (y, z, *gradients)} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    "forward", [lambda x: avgpool_forward(x, AvgPool()), global_avgpool_forward]
)
def test_images_without_a_batch_or_with_integers_are_refused(forward):
    with pytest.raises(ValueError, match=r"^x: got shape \(4, 4, 2\), want \(N, H, W, C\)"):
        forward(np.ones((4, 4, 2)))
    with pytest.raises(TypeError, match=r"^x: got dtype int64"):
        forward(np.ones((1, 4, 4, 2), int))


def test_an_image_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match=r"^x: got \(1, 4\) pixels .* window's \(2, 2\)"):
        avgpool_forward(np.ones((1, 1, 4, 1)), AvgPool())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((0, 1, 0), "kernel: got 0"),
        ((2, 0, 0), "stride: got 0"),
        ((3, 1, -1), "padding: got -1, want a whole number"),
        ((3, 1, 2), "padding: got 2, want 0 to 1"),
    ],
)
def test_impossible_windows_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        AvgPool(*fields)


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (2, 2, 2, 1), (2, 1, 2, 3)])
def test_a_cotangent_unlike_the_output_is_refused(shape):
    _, cache = avgpool_forward(np.ones((2, 4, 4, 3)), AvgPool())
    with pytest.raises(ValueError, match=r"^dy: got .*, want float64 \(2, 2, 2, 3\) like y"):
        avgpool_backward(np.ones(shape), cache)


def test_windows_of_few_bits_do_not_overflow():
    p = AvgPool(np.uint8(3), np.uint8(2), np.uint8(1))
    assert {type(n) for n in vars(p).values()} == {int}
    assert avgpool_forward(np.ones((1, 300, 3, 1)), p)[0].shape == (1, 150, 2, 1)
