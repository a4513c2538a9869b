"""The pooling kernels equal their NumPy twin bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.equations import pool as equations
from refsnn.equations.pool import AvgPool
from refsnn.kernels import pool as kernels

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def assert_same_bits(got, want):
    """Equal in dtype, shape and every bit, the sign of zero too."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert got.tobytes() == want.tobytes()


def assert_twins(x, p, seed=0):
    y, cache = kernels.avgpool_forward(x, p)
    want, want_cache = equations.avgpool_forward(x, p)
    assert_same_bits(y, want)
    assert cache == want_cache
    dy = np.random.default_rng(seed).normal(size=y.shape).astype(x.dtype)
    assert_same_bits(kernels.avgpool_backward(dy, cache), equations.avgpool_backward(dy, cache))


@DTYPES
@settings(deadline=None, max_examples=50, derandomize=True)
@given(data=st.data())
def test_twins_agree(dtype, data):
    kernel = data.draw(st.integers(1, 5))
    p = AvgPool(kernel, data.draw(st.integers(1, 6)), data.draw(st.integers(0, kernel // 2)))
    n, height, width, channels = (data.draw(st.integers(1, 7)) for _ in range(4))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    assert_twins(rng.normal(size=(n, height + kernel, width + kernel, channels)).astype(dtype), p)


@DTYPES
@pytest.mark.parametrize("p", [AvgPool(), AvgPool(3, 2, 1), AvgPool(7, 7), AvgPool(3, 1)], ids=repr)
@pytest.mark.parametrize("channels", [1, 17, 64])
def test_twins_agree_at_the_sizes_of_networks(p, channels, dtype):
    rng = np.random.default_rng(1)
    assert_twins(rng.normal(size=(3, 13, 15, channels)).astype(dtype), p)
    assert_twins((rng.random((3, 13, 15, channels)) < 0.2).astype(dtype), p)  # spikes


@pytest.mark.parametrize("p", [AvgPool(), AvgPool(3, 2, 1), AvgPool(7, 7), AvgPool(3, 1)], ids=repr)
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_spikes_as_bytes_are_pooled_as_if_they_were_float32(density, p):
    x = (np.random.default_rng(4).random((3, 13, 15, 17)) < density).astype(np.uint8)
    y, cache = kernels.avgpool_forward(x, p)
    want, want_cache = equations.avgpool_forward(x.astype(np.float32), p)
    assert_same_bits(y, want)
    assert cache == want_cache
    assert_same_bits(kernels.avgpool_backward(y, cache), equations.avgpool_backward(want, cache))
    for view in (x[:, ::-1], np.asfortranarray(x), np.broadcast_to(x[:1], x.shape)):
        assert_same_bits(
            kernels.avgpool_forward(view, p)[0], kernels.avgpool_forward(view.copy(), p)[0]
        )


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 5), (20, 15)], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_the_mean_of_spikes_as_bytes_is_their_count_over_the_pixels(density, size):
    # more than a byte counts; the count is exact, and rounded once by the division
    x = (np.random.default_rng(5).random((3, *size, 7)) < density).astype(np.uint8)
    count, pixels = x.sum(axis=(1, 2), dtype=int), size[0] * size[1]
    x.flags.writeable = False
    y, shape = kernels.global_avgpool_forward(x)
    assert shape == x.shape
    assert_same_bits(y, count.astype(np.float32) / np.float32(pixels))
    assert_same_bits(kernels.global_avgpool_forward(np.asfortranarray(x))[0], y)
    by_equations, _ = equations.global_avgpool_forward(x.astype(np.float32))
    np.testing.assert_allclose(y, by_equations, rtol=1e-6)


@DTYPES
def test_the_mean_of_numbers_is_left_to_the_equations(dtype):
    x = np.random.default_rng(6).normal(size=(2, 5, 3, 4)).astype(dtype)
    (y, shape), (want, _) = kernels.global_avgpool_forward(x), equations.global_avgpool_forward(x)
    assert_same_bits(y, want)
    assert shape == x.shape


@DTYPES
def test_inputs_that_are_not_contiguous(dtype):
    x = np.random.default_rng(2).normal(size=(4, 8, 7, 6)).astype(dtype)
    for view in (x[:, ::2], x[..., ::-1], x.transpose(3, 2, 1, 0)):
        assert_twins(view, AvgPool(3, 2, 1))
    y, cache = kernels.avgpool_forward(x, AvgPool())
    dy = np.broadcast_to(y[:, :1], y.shape)
    assert_same_bits(kernels.avgpool_backward(dy, cache), equations.avgpool_backward(dy, cache))


@DTYPES
def test_nothing_given_is_written(dtype):
    x = np.random.default_rng(3).normal(size=(2, 4, 4, 3)).astype(dtype)
    y, cache = kernels.avgpool_forward(x, AvgPool())
    copies = x.copy(), y.copy()
    kernels.avgpool_forward(x, AvgPool())
    kernels.avgpool_backward(y, cache)
    assert_same_bits(x, copies[0])
    assert_same_bits(y, copies[1])


def test_wrong_inputs_are_refused_as_by_the_equations():
    with pytest.raises(ValueError, match=r"^x: got shape \(4, 4, 2\), want \(N, H, W, C\)"):
        kernels.avgpool_forward(np.ones((4, 4, 2)), AvgPool())
    with pytest.raises(ValueError, match=r"^x: got \(1, 4\) pixels"):
        kernels.avgpool_forward(np.ones((1, 1, 4, 2), np.uint8), AvgPool())
    for pool in (lambda x: kernels.avgpool_forward(x, AvgPool()), kernels.global_avgpool_forward):
        for wrong in (np.int64, bool):
            with pytest.raises(TypeError, match=rf"^x: got dtype {np.dtype(wrong)}"):
                pool(np.ones((1, 4, 4, 2), wrong))
        with pytest.raises(TypeError, match=r"^x: got dtype uint8"):
            pool(np.ones((4, 4, 2), np.uint8))
        with pytest.raises(ValueError, match=r"^x: got shape \(4, 4, 2\)"):
            pool(np.ones((4, 4, 2)))
        with pytest.raises(TypeError, match=r"^x: got list"):
            pool([[1.0]])
    with pytest.raises(ValueError, match=r"^x: got \(1, 4\) pixels"):
        kernels.avgpool_forward(np.ones((1, 1, 4, 2)), AvgPool())


def test_a_cotangent_unlike_the_output_never_reaches_a_kernel():
    _, cache = kernels.avgpool_forward(np.ones((2, 4, 4, 3)), AvgPool())
    for shape in ((1, 2, 2, 3), (2, 2, 2, 1), (2, 1, 2, 3)):
        with pytest.raises(ValueError, match=r"^dy: got "):
            kernels.avgpool_backward(np.ones(shape), cache)


def test_every_element_is_written(poisons, assert_same_bits):
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    spikes = (x > 0).astype(np.uint8)

    def everything():
        for p in (AvgPool(2, 2), AvgPool(3, 2, 1), AvgPool(1, 3)):
            y, cache = kernels.avgpool_forward(x, p)
            yield from (
                y,
                kernels.avgpool_backward(y, cache),
                kernels.avgpool_forward(spikes, p)[0],
            )
        yield kernels.global_avgpool_forward(spikes)[0]

    first, *others = poisons(lambda: list(everything()))
    for other in others:
        for a, b in zip(other, first, strict=True):
            assert_same_bits(a, b)
