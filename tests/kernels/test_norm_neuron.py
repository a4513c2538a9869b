"""The fused pass against the equations one after the other: batch norm, plus skip, LIF.

Forward bit for bit, where the statistics are the same to the bit: running ones, or those of
whole numbers whose sums nothing rounds. Backward within bounds that add up what is rounded on
the way (`delta_bound`, `norm_bounds`).
"""

from dataclasses import replace

import numpy as np
import pytest
from fused_layers import (
    APPROXIMATE,
    COMPILED,
    EPS,
    MODES,
    SIZE,
    SKIPS,
    SURROGATES,
    assert_backward,
    composed,
    drawn,
    top,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.equations.batchnorm import BatchNorm
from refsnn.equations.lif import LIF, lif_backward
from refsnn.equations.surrogate import Rectangular
from refsnn.kernels import norm_statistics
from refsnn.kernels.norm_neuron import norm_neuron_backward, norm_neuron_forward


@pytest.fixture(scope="session")
def assert_forward(assert_same_bits):
    def check(norm_input, skip, norm, p, training):
        o, running, cache = norm_neuron_forward(norm_input, skip, norm, p, training)
        want_running, want, want_cache = composed(norm_input, skip, norm, p, training)
        assert_same_bits(o, want.astype(np.uint8))
        assert cache.o_seq is o
        for a, b in zip(running, want_running, strict=True):
            assert_same_bits(a.mean, b.mean)
            assert_same_bits(a.var, b.var)
        for a, b in zip(cache.lif[:3], want_cache[:3], strict=True):
            assert_same_bits(a, b)
        assert cache.lif.p is p
        return o

    return check


@SKIPS
@MODES
@SIZE
def test_same_statistics_give_the_same_spikes_and_potentials(
    size, statistics, training, skip, assert_forward
):
    norm, p = BatchNorm(statistics, 0.6), LIF(0.3, 0.7)
    norm_input, other, _ = drawn(size, skip, 0.7, whole=True)
    o = assert_forward(norm_input, other, norm, p, training)
    assert o.size < 99 or 0.01 < o.mean() < 0.99


@pytest.mark.parametrize("fire_at_threshold", [False, True])
@pytest.mark.parametrize("v_th", [0.1, 0.7, 1.0])  # the first two are rounded in float32
def test_potentials_on_the_threshold_fire_only_where_asked_to(
    v_th, fire_at_threshold, assert_forward
):
    norm_input, *_ = drawn((2, 2, 4, 4, 99), v_th=v_th)
    o = assert_forward(
        norm_input, None, BatchNorm(), LIF(0.5, v_th, fire_at_threshold=fire_at_threshold), False
    )
    on = norm_input.beta[1::2] == np.float32(v_th)
    assert on.sum() > 9
    assert (o[0, ..., 1::2][..., on] == fire_at_threshold).all()


@SKIPS
@MODES
@SIZE
def test_gradients_are_those_of_the_equations(size, statistics, training, skip):
    assert_backward(drawn(size, skip), BatchNorm(statistics, 0.6), LIF(0.3, 0.7), training)


@SKIPS
@pytest.mark.parametrize("fire_at_threshold", [False, True])
@pytest.mark.parametrize("reset_gradient", ["full", "detached"])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_gradients_for_every_surrogate(surrogate, reset_gradient, fire_at_threshold, skip):
    p = LIF(0.4, 0.9, surrogate, reset_gradient, fire_at_threshold)
    layer = drawn((4, 2, 3, 3, 10), skip, 0.9)
    subtract = {"reset": "subtract"}, {"reset": "subtract", "reset_amount": 1.3}
    for way in ({}, *(subtract if skip == "numbers" else ())):
        assert_backward(layer, BatchNorm(scale=1.7), replace(p, **way), True)


@settings(deadline=None, max_examples=100 if COMPILED else 25, derandomize=True)
@given(data=st.data())
def test_any_layer_is_that_of_the_equations(data, assert_forward):
    size = tuple(data.draw(st.integers(1, most)) for most in (5, 3, 5, 5, 70))
    skip = data.draw(st.sampled_from(["none", "numbers", "spikes", "normed"]))
    v_th, tau = data.draw(st.sampled_from([0.1, 0.7, 1.0])), data.draw(st.sampled_from([0.3, 1.0]))
    p = LIF(
        tau,
        v_th,
        data.draw(st.sampled_from(SURROGATES)),
        data.draw(st.sampled_from(["full", "detached"])),
        data.draw(st.booleans()),
        reset=data.draw(st.sampled_from(["zero", "subtract"])),
    )
    norm = BatchNorm(
        data.draw(st.sampled_from(["pooled", "per_step"])), data.draw(st.sampled_from([1.0, v_th]))
    )
    layer = drawn(size, skip, v_th, seed=data.draw(st.integers(0, 2**32)))
    assert_forward(*layer[:2], norm, p, False)
    assert_backward(layer, norm, p, data.draw(st.booleans()))


@pytest.mark.parametrize("size", [(3, 16, 8, 8, 40), (4, 5, 3, 7, 33), (2, 1, 1, 3, 1200)], ids=str)
def test_deltas_of_whole_numbers_are_summed_exactly(size):
    # slopes of 0 or 1, no reset in the gradient, halves of halves: nothing is rounded
    norm_input, skip, do = drawn(size, "spikes")
    do = np.rint(4 * do)
    p = LIF(0.5, 1.0, Rectangular(), reset_gradient="detached")
    _, _, cache = norm_neuron_forward(norm_input, skip, BatchNorm(), p, True)
    d, dskip = norm_neuron_backward(do, cache)
    want = lif_backward(do, cache.lif, constants=False).dc_seq
    assert np.array_equal(dskip, want)
    assert np.array_equal(d.dbeta, want.astype(float).sum(axis=(0, 1, 2, 3)))


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_slopes_over_the_whole_range_of_potentials(surrogate):
    edges = [0.0, 0.35, 0.5, 0.4, 1.0, 7.9, 7.91, 30.0, 1e4, 1e30]
    x = np.concatenate([np.linspace(-12, 12, 4001), edges, np.negative(edges)]).astype(np.float32)
    norm_input, *_ = drawn((1, 1, 1, x.size, 1))
    norm_input = norm_input._replace(gamma=np.zeros(1, np.float32), beta=np.zeros(1, np.float32))
    skip, p = (
        (x + np.float32(0.7)).reshape(norm_input.x_seq.shape),
        LIF(0.5, 0.7, surrogate, reset_gradient="detached"),
    )
    _, _, cache = norm_neuron_forward(norm_input, skip, BatchNorm(), p, False)
    _, h = norm_neuron_backward(np.ones_like(skip), cache)  # one step: delta is the slope
    want = surrogate.slope(skip - np.float32(0.7), 0.7)
    some = 10 if isinstance(surrogate, APPROXIMATE) else 2
    assert np.abs(h - want.astype(float)).max() <= some * EPS * top(surrogate)


@pytest.mark.parametrize("statistics", ["pooled", "per_step"])
@pytest.mark.parametrize("size", [(3, 8, 16, 16, 17), (2, 1, 3, 5, 1100), (4, 1, 1, 2, 3)], ids=str)
def test_statistics_of_numbers_far_from_zero(size, statistics):
    """Means and what they enter the variance with are in float64: a mean is rounded once, and
    the squares are those of a step of some 30 blocks, around a number near the mean."""
    rng = np.random.default_rng(1)
    drift = np.linspace(0, 3, size[0] * size[1]).reshape(*size[:2], 1, 1, 1)  # blocks differ
    x = (1000 + drift + rng.normal(size=size)).astype(np.float32)
    norm_input = drawn(size)[0]._replace(x_seq=x)
    last = slice(0, None) if statistics == "pooled" else slice(-1, None)
    exact = x[last].astype(float).reshape(-1, size[-1])
    mean, var = exact.mean(axis=0), exact.var(axis=0, ddof=1)
    norm = BatchNorm(statistics, momentum=1.0)  # what is kept are the (last step's) statistics
    _, (running,), _ = norm_neuron_forward(norm_input, None, norm, LIF(), True)
    # where nothing is compiled, a sum that begins with 0.0 takes the type of what is added to it
    np.testing.assert_allclose(running.mean, mean, rtol=EPS if COMPILED else 2 * EPS)
    np.testing.assert_allclose(
        running.var, var, rtol=norm_statistics.FEW * EPS if COMPILED else 1e-3
    )


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("size", [1e2, 1e4, 1e6, 1e7, 1e30])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_large_potentials_let_no_gradient_of_the_slope_through(surrogate, size):
    """Eq. 3 multiplies the slope by the potential, so that a slope of some eps would count."""
    norm_input, *_ = drawn((3, 1, 1, 16, 1))
    norm_input = norm_input._replace(gamma=np.zeros(1, np.float32), beta=np.zeros(1, np.float32))
    skip = np.full(norm_input.x_seq.shape, -size, np.float32)
    skip[-1] = 1
    do = np.zeros_like(skip)
    do[-1] = 1
    p = LIF(0.5, 1.0, surrogate)
    _, _, cache = norm_neuron_forward(norm_input, skip, BatchNorm(), p, False)
    got, want = norm_neuron_backward(do, cache)[1], lif_backward(do, cache.lif, False).dc_seq
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_skip_of_bytes_is_added_as_numbers(assert_forward):
    norm_input, _, _ = drawn((3, 2, 4, 4, 5), v_th=0.7)
    skip = np.random.default_rng(0).integers(0, 256, norm_input.x_seq.shape).astype(np.uint8)
    assert_forward(norm_input, skip, BatchNorm(), LIF(0.3, 0.7), False)
