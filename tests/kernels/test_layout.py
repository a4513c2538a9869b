"""Where things stand, against NumPy and against searches over all pixels and taps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.equations import conv as equations
from refsnn.equations.conv import Conv, ConvCache
from refsnn.kernels import layout
from refsnn.kernels.simd import LANES

modest = settings(deadline=None, max_examples=150, derandomize=True)
small = st.integers(1, 7)


@pytest.mark.parametrize("vectors", [1, 2, 4])
@pytest.mark.parametrize("depth", [1, 5])
@pytest.mark.parametrize("columns", [1, 3, LANES - 1, LANES, LANES + 1, 2 * LANES, 5 * LANES + 2])
def test_weights_in_blocks_of_columns(columns, depth, vectors):
    """A block's rows stand one after the other, then the next block's; a narrow last block's too,
    where a vector is enough for it."""
    width = vectors * LANES
    w = np.random.default_rng(0).normal(size=(depth, columns)).astype(np.float32)
    size = depth * layout.packed_columns(columns, width)
    packed = np.full(size + 3, np.nan, np.float32)
    layout.pack(w, width, packed)
    at = 0
    for first in range(0, columns, width):
        step = width if columns - first > LANES else LANES
        block = packed[at : at + depth * step].reshape(depth, step)
        held = min(columns - first, step)
        assert np.array_equal(block[:, :held], w[:, first : first + held])
        assert not block[:, held:].any()
        at += depth * step
    assert at == size
    assert np.isnan(packed[size:]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@modest
@given(data=st.data())
def test_padded_images_are_numpys(dtype, data):
    height, width, channels = (data.draw(small) for _ in range(3))
    top, left = (data.draw(st.integers(-9, 9)) for _ in range(2))  # below 0: pixels are cut off
    rows, columns, at = data.draw(small), data.draw(small), data.draw(st.integers(0, 3))
    x = np.random.default_rng(0).integers(1, 99, (height, width, channels)).astype(dtype)
    far = 20
    wide = np.pad(x, ((far, far), (far, far), (0, 0)))
    want = wide[far - top :, far - left :][:rows, :columns]
    target = np.full(at + want.size + 3, -1, np.float32)
    layout.pad_image(x, layout.Padded(top, left, rows, columns), target, at)
    assert np.array_equal(target[at : at + want.size].reshape(want.shape), want)
    assert (target[:at] == -1).all()
    assert (target[at + want.size :] == -1).all()


axis = st.tuples(small, st.integers(1, 5), st.integers(1, 4), st.integers(0, 6))


@modest
@given(axis)
def test_residues_name_each_pair_of_a_pixel_and_a_tap_once(given_axis):
    size, kernel, stride, padding = given_axis
    found = []
    for first, step, pixels, tap, taps, shift in layout.residues(size, kernel, stride, padding):
        assert step == stride
        for n in range(pixels):
            for m in range(taps):
                found.append((first + stride * n, tap + stride * m, n + shift - m))
    meeting = [
        (pixel, tap, (pixel + padding - tap) // stride)
        for pixel in range(size)
        for tap in range(kernel)
        if (pixel + padding - tap) % stride == 0
    ]
    assert sorted(found) == sorted(meeting)


def correlated(x, w, c, y):
    """`Correlation`'s sentence, word by word, for one channel."""
    (top, left), (height, width) = c.before, x.shape
    for r in range(c.out[0]):
        for s in range(c.out[1]):
            total = 0
            for i in range(c.kernel[0]):
                for j in range(c.kernel[1]):
                    row, column = r * c.stride[0] + i - top, s * c.stride[1] + j - left
                    if 0 <= row < height and 0 <= column < width:
                        total += x[row, column] * w[i, j]
            y[c.first[0] + r * c.step[0], c.first[1] + s * c.step[1]] += total


@modest
@given(axis, axis)
def test_input_correlations_make_the_input_gradient(rows, columns):
    size, kernel, stride, padding = zip(rows, columns, strict=True)
    p = Conv(stride, padding)
    if any(n + 2 * pad < k for n, k, pad in zip(size, kernel, padding, strict=True)):
        return
    rng = np.random.default_rng(0)
    x, w = np.zeros((1, *size, 1)), rng.integers(-9, 9, (*kernel, 1, 1)).astype(float)
    dy = rng.integers(-9, 9, equations.output_shape(x, w, p)).astype(float)
    dx, times = np.zeros(size), np.zeros(size, int)
    for taps, c in layout.input_correlations(size, kernel, p):
        turned = w[taps][::-1, ::-1, 0, 0]
        assert turned.shape == c.kernel
        correlated(dy[0, ..., 0], turned, c, dx)
        times[c.first[0] :: c.step[0], c.first[1] :: c.step[1]] += 1
    assert np.array_equal(dx, equations.conv_input_gradient(dy, ConvCache(x, w, p))[0, ..., 0])
    assert times.max() <= 1
    assert (times[dx != 0] == 1).all()


@modest
@given(axis, axis)
def test_a_forward_correlation_is_the_convolution(rows, columns):
    extra, kernel, stride, padding = zip(rows, columns, strict=True)
    size, p = tuple(e + k - 1 for e, k in zip(extra, kernel, strict=True)), Conv(stride, padding)
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-9, 9, shape).astype(float) for shape in ((1, *size, 1), (*kernel, 1, 1)))
    want = equations.conv_forward(x, w, p)[0]
    c = layout.forward_correlation(want.shape[1:3], kernel, p)
    y = np.zeros(c.out)
    correlated(x[0, ..., 0], w[..., 0, 0], c, y)
    assert np.array_equal(y, want[0, ..., 0])
    _, _, *held = layout.padded_of(c.window(x.shape, 1))
    for padded, n, pad, s in zip(held, size, padding, stride, strict=True):
        assert 0 <= n + 2 * pad - padded < s  # fewer than a stride are left over


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 16, 16), (2, 5, 33), (9, 33, 17), (1, 40, 3)])
def test_a_transpose_is_numpys(shape):
    w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    turned = np.full((shape[0], shape[2], shape[1]), np.nan, np.float32)
    layout.transpose(w, turned)
    assert np.array_equal(turned, w.swapaxes(1, 2))
