"""The convolution kernels stay within the bound that their module states."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, get_num_threads, set_num_threads

from refsnn.equations import conv as equations
from refsnn.equations.conv import Conv
from refsnn.kernels import conv as kernels

CHANNELS = kernels.CHANNELS
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def results(module, x, w, dy, p):
    """(y, dx, dw)"""
    y, cache = module.conv_forward(x, w, p)
    return y, module.conv_input_gradient(dy, cache), module.conv_weight_gradient(dy, cache)


def bounds(x, w, dy, p):
    """2 n eps sum |a||b| for each element of y, dx and dw; n its number of products.

    Both factors come from the twin itself, run in double precision: on absolute
    values it gives the sums, on ones the numbers of products.
    """
    eps = np.finfo(x.dtype).eps
    sums = results(equations, *(np.abs(a).astype(float) for a in (x, w, dy)), p)
    counts = results(equations, *(np.ones(a.shape) for a in (x, w, dy)), p)
    slack = 1 + 1e-9  # of the sums' own rounding
    return [2 * n * eps * total * slack for n, total in zip(counts, sums, strict=True)]


def assert_twins(x, w, dy, p):
    got, want = results(kernels, x, w, dy, p), results(equations, x, w, dy, p)
    for name, a, b, bound in zip(("y", "dx", "dw"), got, want, bounds(x, w, dy, p), strict=True):
        assert (a.dtype, a.shape) == (x.dtype, b.shape), name
        assert a.flags.c_contiguous, name
        assert (np.abs(a.astype(float) - b) <= bound).all(), name


def drawn(seed, size, kernel, c_in, c_out, p, dtype, density=None):
    """x, w, dy, p; x holds spikes of that density, or normal numbers where it is None."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*size, c_in)) if density is None else rng.random((*size, c_in)) < density
    w = rng.normal(size=(*kernel, c_in, c_out)).astype(dtype)
    x = x.astype(dtype)
    return x, w, rng.normal(size=equations.output_shape(x, w, p)).astype(dtype), p


LAYERS = [
    # size (N, H, W), kernel, stride, padding
    pytest.param((2, 6, 5), (3, 3), Conv((1, 1), (1, 1)), id="3x3"),
    pytest.param((3, 7, 6), (3, 3), Conv((2, 2), (1, 1)), id="3x3 stride 2"),
    pytest.param((2, 5, 7), (1, 1), Conv((2, 2), (0, 0)), id="1x1 stride 2"),
    pytest.param((1, 11, 9), (7, 7), Conv((2, 2), (3, 3)), id="7x7 stride 2"),
    pytest.param((2, 8, 9), (2, 5), Conv((3, 1), (0, 4)), id="2x5 stride 3,1"),
    pytest.param((2, 3, 4), (3, 1), Conv((1, 3), (4, 2)), id="windows in the padding alone"),
]


@DTYPES
@pytest.mark.parametrize("density", [None, 0.0, 0.15, 1.0], ids=lambda d: f"density {d}")
@pytest.mark.parametrize(("size", "kernel", "p"), LAYERS)
@pytest.mark.parametrize(
    ("c_in", "c_out"), [(1, 3), (CHANNELS - 1, CHANNELS + 1), (CHANNELS, 2), (2 * CHANNELS + 1, 5)]
)
def test_twins_agree_within_the_bound(c_in, c_out, size, kernel, p, density, dtype):
    assert_twins(*drawn(0, size, kernel, c_in, c_out, p, dtype, density))


@DTYPES
@settings(deadline=None, max_examples=100, derandomize=True)
@given(data=st.data())
def test_twins_agree_for_any_layer(dtype, data):
    def pair(low, high):
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    kernel, p = pair(1, 5), Conv(pair(1, 3), pair(0, 5))
    n, *extra = data.draw(st.tuples(st.integers(1, 3), st.integers(0, 6), st.integers(0, 6)))
    size = [max(1, k - 2 * pad) + e for k, pad, e in zip(kernel, p.padding, extra, strict=True)]
    c_in, c_out = pair(1, 2 * CHANNELS + 2)
    density = data.draw(st.sampled_from([None, 0.0, 0.1, 0.5, 1.0]))
    seed = data.draw(st.integers(0, 2**32))
    assert_twins(*drawn(seed, (n, *size), kernel, c_in, c_out, p, dtype, density))


@DTYPES
@pytest.mark.parametrize("spikes", range(10))
def test_any_number_of_spikes_at_a_pixel_adds_their_weights_exactly(spikes, dtype):
    # four non-zero values are added a pass; whole numbers leave no rounding to hide in
    rng = np.random.default_rng(spikes)
    x = np.zeros((1, 1, 50, 12), dtype)
    for pixel in x[0, 0]:
        pixel[rng.choice(12, spikes, replace=False)] = rng.integers(1, 9, spikes)
    w = rng.integers(-99, 99, (1, 1, 12, 5)).astype(dtype)
    y, _ = kernels.conv_forward(x, w, Conv())
    assert np.array_equal(y, x @ w[0, 0])


@DTYPES
@pytest.mark.parametrize(("size", "kernel", "p"), LAYERS)
def test_whole_numbers_give_the_twins_numbers_exactly(size, kernel, p, dtype):
    rng = np.random.default_rng(1)
    x, w, dy, _ = drawn(1, size, kernel, CHANNELS + 1, CHANNELS + 3, p, dtype)
    x, w, dy = (rng.integers(-9, 9, a.shape).astype(dtype) for a in (x, w, dy))
    for a, b in zip(results(kernels, x, w, dy, p), results(equations, x, w, dy, p), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
@DTYPES
def test_inputs_that_are_not_contiguous_give_the_same_bits_without_compiling_again(dtype):
    p = Conv((2, 1), (1, 0))
    x, w, dy, _ = drawn(2, (3, 6, 7), (3, 2), 5, 4, p, dtype)
    want = results(kernels, x, w, dy, p)
    compiled = len(kernels.gather.signatures), len(kernels.weight_gradient.signatures)
    views = [np.asfortranarray(a) for a in (x, w, dy)]
    assert not any(a.flags.c_contiguous for a in views)
    for a, b in zip(results(kernels, *views, p), want, strict=True):
        assert a.tobytes() == b.tobytes()
    assert_twins(np.broadcast_to(x[:1], x.shape), w, dy, p)  # as an image at every step
    assert compiled == (len(kernels.gather.signatures), len(kernels.weight_gradient.signatures))


@DTYPES
def test_the_number_of_threads_does_not_change_a_bit(dtype):
    p = Conv((1, 1), (1, 1))
    layer = drawn(3, (5, 9, 9), (3, 3), 2 * CHANNELS + 1, 7, p, dtype)
    threads = get_num_threads()
    many = results(kernels, *layer)
    set_num_threads(1)
    try:
        one = results(kernels, *layer)
    finally:
        set_num_threads(threads)
    for a, b in zip(one, many, strict=True):
        assert a.tobytes() == b.tobytes()


@DTYPES
def test_each_gradient_alone_is_the_one_of_the_pair_and_nothing_given_is_written(dtype):
    x, w, dy, p = drawn(4, (2, 5, 5), (3, 3), 6, 7, Conv((2, 2), (1, 1)), dtype)
    copies = [a.copy() for a in (x, w, dy)]
    _, cache = kernels.conv_forward(x, w, p)
    for _ in range(2):
        kernels.conv_input_gradient(dy, cache)
        kernels.conv_weight_gradient(dy, cache)
    for a, b in zip((x, w, dy), copies, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("x", "w", "error", "message"),
    [
        ((1, 5, 5, 3), np.ones((3, 3, 4, 2)), ValueError, "w: got 4 input channels, want 3"),
        (
            (1, 5, 5, 3),
            np.ones((3, 3, 3, 2), "f4"),
            TypeError,
            "w: got dtype float32, want float64",
        ),
        ((1, 2, 5, 3), np.ones((3, 3, 3, 2)), ValueError, r"x: got \(2, 5\) pixels"),
        ((5, 5, 3), np.ones((3, 3, 3, 2)), ValueError, r"x: got shape \(5, 5, 3\)"),
    ],
)
def test_wrong_inputs_are_refused_as_by_the_equations(x, w, error, message):
    with pytest.raises(error, match=f"^{message}"):
        kernels.conv_forward(np.ones(x), w, Conv())


def test_a_cotangent_unlike_the_output_never_reaches_a_kernel():
    x, w = np.ones((2, 5, 5, 3)), np.ones((3, 3, 3, 2))
    _, cache = kernels.conv_forward(x, w, Conv())
    for gradient in (kernels.conv_input_gradient, kernels.conv_weight_gradient):
        for shape in ((1, 3, 3, 2), (2, 3, 3, 1), (2, 2, 3, 2)):
            with pytest.raises(ValueError, match=r"^dy: got "):
                gradient(np.ones(shape), cache)
