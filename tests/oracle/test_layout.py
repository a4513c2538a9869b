"""Axis orders: each element goes where PyTorch has it, and comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsnn.oracle import layout
from refsnn.oracle.layout import (
    image_from_torch,
    image_to_torch,
    param_from_torch,
    param_to_torch,
    sequence_from_torch,
    sequence_to_torch,
)

PAIRS = {
    "sequence": (sequence_to_torch, sequence_from_torch, (5,)),
    "image": (image_to_torch, image_from_torch, (4,)),
    "param": (param_to_torch, param_from_torch, (1, 2, 4)),
}


@st.composite
def array_of(draw, dims):
    shape = draw(st.tuples(*[st.integers(0, 4)] * draw(st.sampled_from(dims))))
    dtype = draw(st.sampled_from(["float32", "float64", "int64", "uint8", "bool"]))
    x = np.random.default_rng(0).integers(0, 2**31, shape).astype(dtype)
    return x[::-1] if draw(st.booleans()) else x  # not contiguous


@pytest.mark.parametrize("kind", PAIRS)
@given(data=st.data())
def test_there_and_back_is_the_same_in_a_copy(kind, data):
    there, back, dims = PAIRS[kind]
    x = data.draw(array_of(dims))
    for first, second in ((there, back), (back, there)):
        moved = first(x)
        again = second(moved)
        assert again.dtype == moved.dtype == x.dtype
        assert np.array_equal(again, x)
        assert again.flags.c_contiguous
        assert moved.flags.c_contiguous
        assert not np.shares_memory(moved, x)


def test_every_axis_goes_where_pytorch_has_it():
    assert sequence_to_torch(np.zeros((2, 3, 5, 7, 11))).shape == (2, 3, 11, 5, 7)
    assert image_to_torch(np.zeros((3, 5, 7, 11))).shape == (3, 11, 5, 7)
    assert param_to_torch(np.zeros((5, 7, 3, 11))).shape == (11, 3, 5, 7)
    assert param_to_torch(np.zeros((3, 11))).shape == (11, 3)
    assert param_to_torch(np.zeros(11)).shape == (11,)
    for shape in ((5, 7, 3, 11), (3, 11), (11,)):
        assert layout.torch_shape(shape) == param_to_torch(np.zeros(shape)).shape


def test_named_parameters():
    rng = np.random.default_rng(1)
    params = {
        "stem.conv0.weight": rng.normal(size=(3, 2, 4, 5)),
        "head.fc.weight": rng.normal(size=(4, 5)),
        "head.fc.bias": rng.normal(size=5),
    }
    moved = layout.params_to_torch(params)
    assert list(moved) == list(params)
    assert moved["stem.conv0.weight"][4, 3, 2, 1] == params["stem.conv0.weight"][2, 1, 3, 4]
    assert moved["head.fc.weight"][4, 3] == params["head.fc.weight"][3, 4]
    back = layout.params_from_torch(moved)
    assert all(np.array_equal(back[name], params[name]) for name in params)


@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [
        (sequence_to_torch, (2, 3, 4, 5), r"x: got shape \(2, 3, 4, 5\), want \(T, N, H, W, C\)"),
        (sequence_from_torch, (2, 3), r"x: got shape \(2, 3\), want \(T, N, C, H, W\)"),
        (image_to_torch, (2,), r"x: got shape \(2,\), want \(N, H, W, C\)"),
        (image_from_torch, (2,) * 5, r"x: got shape .*, want \(N, C, H, W\)"),
        (param_to_torch, (2, 3, 4), r"x: got shape \(2, 3, 4\), want a parameter of 1, 2 or 4"),
        (param_from_torch, (), r"x: got shape \(\), want a parameter of 1, 2 or 4"),
    ],
)
def test_other_numbers_of_axes_are_refused(function, shape, message):
    with pytest.raises(ValueError, match=message):
        function(np.zeros(shape))


@pytest.mark.parametrize("function", [f for pair in PAIRS.values() for f in pair[:2]])
def test_an_object_that_is_no_array_is_refused(function):
    with pytest.raises(TypeError, match="x: got list, want a numpy array"):
        function([1.0])
