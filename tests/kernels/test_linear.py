"""Large fully connected layers in float32, against the equations."""

import numpy as np
import pytest
from numba import config

from refsnn.equations import linear as equations
from refsnn.kernels import linear as kernels
from refsnn.kernels.threads import get_num_threads

COMPILED = not config.DISABLE_JIT


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    """Python's loops take too long for layers that are large."""
    if not COMPILED:
        monkeypatch.setattr(kernels, "LARGE", 1)


LARGE = [(1, 2048, 2048), (33, 400, 333), (1000, 65, 70)] if COMPILED else [(3, 5, 7), (9, 17, 2)]


def drawn(rows, inputs, outputs, dtype=np.float32):
    rng = np.random.default_rng(rows)
    shapes = (rows, inputs), (inputs, outputs), (outputs,), (rows, outputs)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def near(got, want, terms, sizes):
    """A float32 sum of products is off by eps times its terms times the sum of their sizes."""
    assert got.dtype == np.float32
    assert got.shape == want.shape
    assert (np.abs(got - want) <= (terms + 1) * np.finfo(np.float32).eps * sizes).all()


@pytest.mark.parametrize("size", LARGE, ids=str)
def test_large_layers_are_near_the_exact_sums(size):
    x, w, b, dy = drawn(*size)
    y, cache = kernels.linear_forward(x, w, b)
    gradients = kernels.linear_backward(dy, cache)
    exact, absolute = ([f(a.astype(float)) for a in (x, w, b, dy)] for f in (np.asarray, np.abs))
    (want, kept), (limit, sizes) = (equations.linear_forward(*a[:3]) for a in (exact, absolute))
    near(y, want, size[1], limit)
    for got, value, bound, terms in zip(
        gradients,
        equations.linear_backward(exact[3], kept),
        equations.linear_backward(absolute[3], sizes),
        (size[2], size[0], size[0]),
        strict=True,
    ):
        near(got, value, terms, bound)


def test_other_layouts_give_the_same_bits():
    x, w, b, dy = drawn(*LARGE[1])
    y, cache = kernels.linear_forward(x, w, b)
    want = y, *kernels.linear_backward(dy, cache)
    turned = [np.asfortranarray(a) for a in (x, w, b, dy)]
    y, cache = kernels.linear_forward(*turned[:3])
    for a, b in zip((y, *kernels.linear_backward(turned[3], cache)), want, strict=True):
        assert a.tobytes() == b.tobytes()


def test_any_number_of_threads_gives_the_same_bits(with_threads):
    x, w, b, dy = drawn(*LARGE[1])

    def everything():
        y, cache = kernels.linear_forward(x, w, b)
        return [a.tobytes() for a in (y, *kernels.linear_backward(dy, cache))]

    assert with_threads(1, everything) == with_threads(get_num_threads(), everything)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_layers_and_float64_are_left_to_the_equations(dtype, monkeypatch):
    monkeypatch.setattr(kernels, "LARGE", 1 << 22)
    size = (3, 4, 5) if dtype == np.float32 else (64, 300, 300)
    x, w, b, dy = drawn(*size, dtype)
    (y, cache), (want, kept) = (m.linear_forward(x, w, b) for m in (kernels, equations))
    assert y.tobytes() == want.tobytes()
    for a, c in zip(
        kernels.linear_backward(dy, cache), equations.linear_backward(dy, kept), strict=True
    ):
        assert a.tobytes() == c.tobytes()


def test_wrong_arguments_are_refused_as_by_the_equations():
    x, w, b, dy = drawn(*LARGE[0])
    for wrong in ((x[:, 1:], w, b), (x, w, b[1:]), (x, w, b.astype(float)), (x[0], w, b)):
        with pytest.raises((TypeError, ValueError)) as want:
            equations.linear_forward(*wrong)
        with pytest.raises(type(want.value)) as got:
            kernels.linear_forward(*wrong)
        assert str(got.value) == str(want.value)
    _, cache = kernels.linear_forward(x, w, b)
    with pytest.raises(ValueError, match=r"^dy: got "):
        kernels.linear_backward(dy[:, 1:], cache)
