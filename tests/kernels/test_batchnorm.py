"""Batch norm alone in float32 against the equations in float64, and bit for bit where it can be."""

from dataclasses import dataclass

import numpy as np
import pytest
from fused_layers import MODES, SIZE, drawn

from refsnn.equations import batchnorm as equations
from refsnn.equations.batchnorm import BatchNorm, NormInput, Running
from refsnn.kernels.batchnorm import batchnorm_backward, batchnorm_forward
from refsnn.ops import NUMPY, get_ops

EPS = float(np.finfo(np.float32).eps)
BY_STEP = pytest.mark.parametrize("by_step", [False, True])


def layer(size, by_step, whole=False):
    """A batch norm's input, where `by_step` with parameters and statistics of each step."""
    norm_input, _, dy = drawn(size, "none", 0.7, whole)
    if not by_step:
        return norm_input, dy
    rows = np.linspace(0.5, 2, size[0], dtype=np.float32)[:, None]
    gamma, beta, mean, var = (
        rows * x for x in (norm_input.gamma, norm_input.beta, *norm_input.running)
    )
    return NormInput(norm_input.x_seq, gamma, beta, Running(mean, var)), dy


def wide(norm_input):
    x_seq, gamma, beta, running = norm_input
    numbers = (x.astype(float) for x in (x_seq, gamma, beta))
    return NormInput(*numbers, Running(*(x.astype(float) for x in running)))


@BY_STEP
@MODES
@SIZE
def test_forward_has_the_same_bits(size, statistics, training, by_step, assert_same_bits):
    norm = BatchNorm(statistics, 0.6)
    if by_step and statistics == "pooled":
        norm = BatchNorm("per_step", 0.6)
    norm_input, _ = layer(size, by_step, whole=True)
    y, running, cache = batchnorm_forward(*norm_input, norm, training)
    want, moved, by_equations = equations.batchnorm_forward(*norm_input, norm, training)
    assert_same_bits(y, want)
    for got, value in zip(running, moved, strict=True):
        assert_same_bits(got, value)
    assert_same_bits(cache.x_hat, by_equations.x_hat)


@BY_STEP
@MODES
@SIZE
def test_gradients_are_those_of_the_equations(size, statistics, training, by_step):
    norm = BatchNorm("per_step" if by_step else statistics, 0.6)
    norm_input, dy = layer(size, by_step)
    given = dy.copy()
    *_, cache = batchnorm_forward(*norm_input, norm, training)
    d = batchnorm_backward(dy, cache)
    assert np.array_equal(dy, given)
    *_, by_equations = equations.batchnorm_forward(*wide(norm_input), norm, training)
    want = equations.batchnorm_backward(dy.astype(float), by_equations)
    x_hat = np.abs(by_equations.x_hat)
    terms = equations.parameter_sum(np.abs(dy) * (1 + x_hat), norm_input.gamma)
    for got, value in ((d.dgamma, want.dgamma), (d.dbeta, want.dbeta)):
        assert got.dtype == np.float32
        assert got.shape == norm_input.gamma.shape
        np.testing.assert_array_less(np.abs(got - value), 40 * EPS * terms + EPS)
    size_of = np.abs(want.dx_seq).max() + np.abs(norm_input.gamma).max() * np.abs(
        by_equations.inv_std
    ).max() * np.abs(dy).max() * (1 + x_hat.max())
    np.testing.assert_allclose(d.dx_seq, want.dx_seq, rtol=0, atol=100 * EPS * size_of)


def test_the_gradient_of_images_that_are_the_same_at_every_step():
    """They are one step in memory; what comes back has all steps."""
    rng = np.random.default_rng(0)
    x = np.broadcast_to(rng.normal(size=(3, 4, 4, 5)).astype(np.float32), (4, 3, 4, 4, 5))
    one = np.ones(5, np.float32)
    norm_input, dy = (
        NormInput(x, one, 0 * one, Running(0 * one, one)),
        rng.normal(size=x.shape).astype(np.float32),
    )
    found = []
    for ops in (NUMPY, get_ops("numba")):
        y, _, cache = ops.batchnorm_forward(*norm_input, BatchNorm(), True)
        found.append((y, ops.batchnorm_backward(dy, cache)))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-5)
    for a, b in zip(found[1][1], found[0][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_float64_and_other_classes_are_computed_by_the_equations():
    @dataclass(frozen=True)
    class Own(BatchNorm):
        pass

    x = np.random.default_rng(0).normal(size=(2, 3, 2, 2, 4))
    one = np.ones(4)
    given = x, one, one, Running(0 * one, one)
    *_, cache = batchnorm_forward(*given, BatchNorm(), True)
    assert isinstance(cache, equations.BatchNormCache)
    narrow = [a.astype(np.float32) for a in given[:3]]
    running = Running(*(a.astype(np.float32) for a in given[3]))
    *_, cache = batchnorm_forward(*narrow, running, Own(), True)
    assert isinstance(cache, equations.BatchNormCache)
    *_, cache = batchnorm_forward(*narrow, running, BatchNorm(), True)
    with pytest.raises(ValueError, match="dy_seq"):
        batchnorm_backward(narrow[0][:1], cache)
