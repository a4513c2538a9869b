"""The fused pass of batch norm, skip and a neuron with gates, against the equations one by one.

Forward bit for bit, where the statistics are the same to the bit. Backward against the equations
in float64, on the same potentials.
"""

import numpy as np
import pytest
from fused_layers import COMPILED, drawn

from refsnn.equations.batchnorm import (
    BatchNorm,
    NormInput,
    Running,
    batchnorm_backward,
    batchnorm_forward,
)
from refsnn.equations.lif import LIF, lif_forward
from refsnn.equations.neurons import GLIF, MPBN, NEURONS, PLIF, Diet, RealSpike
from refsnn.equations.neurons.gated import (
    Gated,
    from_lif,
    gated_backward,
    gated_forward,
    leak_gradient,
)
from refsnn.equations.surrogate import Rectangular, Triangular
from refsnn.kernels.gated import neuron_backward, neuron_forward
from refsnn.kernels.norm_gated import norm_gated_backward, norm_gated_forward
from refsnn.ops import get_ops

EPS = float(np.finfo(np.float32).eps)
#: a neuron with gates, and the LIF that it starts from
LAYERS = {
    "plif": (PLIF(), LIF(0.3, 0.7)),
    "plif, c[t]": (PLIF(input_decay=False), LIF(0.3, 0.7, reset_gradient="detached")),
    "plif, subtract": (PLIF(), LIF(0.3, 0.7, reset="subtract", reset_amount=0.4)),
    "glif": (GLIF(), LIF(0.3, 0.7)),
    "glif, detached": (GLIF(), LIF(0.3, 0.7, reset_gradient="detached")),
    "diet": (Diet(), LIF(0.3, 0.7, reset="subtract")),
    "diet, at": (Diet(False), LIF(0.3, 0.7, reset="subtract", fire_at_threshold=True)),
    "real_spike": (RealSpike(), LIF(0.3, 0.7)),
}
LAYER = pytest.mark.parametrize("layer", LAYERS)
SIZES = [(4, 1, 1, 1, 3), (2, 2, 2, 4, 7), (4, 2, 4, 8, 48)]
SIZE = pytest.mark.parametrize("size", SIZES if COMPILED else SIZES[:2], ids=str)
#: (statistics, training, skip): each statistics, and each skip in training and after it
MODES = pytest.mark.parametrize(
    ("statistics", "training", "skip"),
    [
        ("pooled", True, "none"),
        ("pooled", True, "normed"),
        ("pooled", True, "spikes"),
        ("per_step", True, "numbers"),
        ("per_step", True, "normed"),
        ("pooled", False, "none"),
        ("pooled", False, "normed"),
    ],
)


def parameters(neuron, p, size, seed=1):
    """A layer's parameters off their start, in float32."""
    rng = np.random.default_rng(seed)
    start = neuron.initial(p, size[-1], size[0])
    return {name: (x + rng.normal(0, 0.2, x.shape)).astype(np.float32) for name, x in start.items()}


def currents(norm_input, skip, norm, training):
    """(currents, caches of both batch norms, running statistics) by the equations."""
    c_seq, moved, cache = batchnorm_forward(*norm_input, norm, training)
    running, caches = [moved], [cache]
    if isinstance(skip, NormInput):
        skip, moved, cache = batchnorm_forward(*skip, norm, training)
        running.append(moved)
        caches.append(cache)
    return c_seq if skip is None else c_seq + skip, caches, running


def wide(x):
    """The same numbers in float64."""
    if isinstance(x, NormInput | Running):
        return type(x)(*map(wide, x))
    return x.astype(float) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x


@MODES
@SIZE
@LAYER
def test_forward_has_the_same_bits(layer, size, statistics, training, skip, assert_same_bits):
    neuron, p = LAYERS[layer]
    norm_input, other, _ = drawn(size, skip, 0.7, whole=True)
    norm, params = BatchNorm(statistics, 0.6), parameters(neuron, p, size)
    y, running, cache = norm_gated_forward(norm_input, other, norm, neuron, params, p, training)
    c_seq, _, want_running = currents(norm_input, other, norm, training)
    want, want_cache = gated_forward(neuron, c_seq, params, p)
    assert_same_bits(y, want.astype(np.uint8) if neuron.binary else want)
    assert_same_bits(cache.o_seq, want_cache.o_seq.astype(np.uint8))
    assert_same_bits(cache.lif.u_pre_seq, want_cache.u_pre_seq)
    for got, moved in zip(running, want_running, strict=True):
        assert_same_bits(got.mean, moved.mean)
        assert_same_bits(got.var, moved.var)


@MODES
@SIZE
@LAYER
def test_backward_is_that_of_the_equations(layer, size, statistics, training, skip):
    neuron, p = LAYERS[layer]
    norm_input, other, dy = drawn(size, skip, 0.7, whole=True)
    norm, params = BatchNorm(statistics, 0.6), parameters(neuron, p, size)
    *_, cache = norm_gated_forward(norm_input, other, norm, neuron, params, p, training)
    given = dy.copy()
    d, dskip, grads = norm_gated_backward(dy, cache)
    assert np.array_equal(dy, given)
    c_seq, caches, _ = currents(wide(norm_input), wide(other), norm, training)
    own = {name: wide(x) for name, x in params.items()}
    _, want_cache = gated_forward(neuron, c_seq, own, p)
    # the spikes of float32, where rounding could move a potential over its threshold
    u_pre = cache.lif.u_pre_seq.astype(float)
    want_cache = want_cache._replace(u_pre_seq=u_pre, o_seq=cache.o_seq.astype(float))
    dc_seq, want = gated_backward(neuron, wide(dy), want_cache)
    size_of = float(np.abs(dc_seq).max() + np.abs(dy).max())
    terms = dy[..., 0].size * (1 + float(np.abs(u_pre).max())) ** 2
    for name, g in grads.items():
        assert g.dtype == np.float32
        assert g.shape == params[name].shape
        bound = 8 * EPS * terms * (size[-1] if g.size == 1 else 1) * size_of
        np.testing.assert_allclose(g, want[name], rtol=0, atol=bound)
    wants = [batchnorm_backward(dc_seq, at) for at in caches]
    if isinstance(other, NormInput):
        pairs = list(zip((d, dskip), wants, strict=True))
    else:
        pairs = [(d, wants[0])]
        if other is None:
            assert dskip is None
        else:
            np.testing.assert_allclose(dskip, dc_seq, rtol=0, atol=40 * EPS * size_of)
    for got, by_equations in pairs:
        for x, y in zip(got, by_equations, strict=True):
            scale = float(np.abs(y).max()) + size_of * (terms if x.ndim == 1 else 1)
            np.testing.assert_allclose(x, y, rtol=0, atol=100 * EPS * scale)


def test_in_place_gives_the_same_bits(assert_same_bits):
    neuron, p = LAYERS["glif"]
    norm_input, other, dy = drawn((4, 2, 4, 8, 48), "normed")
    params = parameters(neuron, p, dy.shape)
    *_, cache = norm_gated_forward(norm_input, other, BatchNorm(), neuron, params, p, True)
    kept = norm_gated_backward(dy.copy(), cache)
    taken = norm_gated_backward(dy.copy(), cache, True)
    for a, b in zip((*kept[0], *kept[1]), (*taken[0], *taken[1]), strict=True):
        assert_same_bits(a, b)
    for name, g in kept[2].items():
        assert_same_bits(taken[2][name], g)


@LAYER
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_alone_have_the_bits_of_numpy(layer, dtype, assert_same_bits):
    """But slopes, which are the same where the surrogate is computed without tanh."""
    neuron, p = LAYERS[layer]
    p = LIF(p.tau, p.v_th, Rectangular(1.5), p.reset_gradient, p.fire_at_threshold, reset=p.reset)
    rng, size = np.random.default_rng(2), (3, 4, 5, 5, 6)
    c = rng.normal(0.4, 1, size).astype(dtype)
    params = {name: x.astype(dtype) for name, x in parameters(neuron, p, size).items()}
    y, running, cache = neuron_forward(neuron, c, params, None, p, True)
    want, want_cache = gated_forward(neuron, c, params, p)
    spikes = np.uint8 if dtype == np.float32 and neuron.binary else dtype
    assert_same_bits(y, want.astype(spikes))
    assert_same_bits(cache.u_pre_seq, want_cache.u_pre_seq)
    dy = rng.normal(size=size).astype(dtype)
    dc, grads = neuron_backward(neuron, dy, cache)
    want_dc, want = gated_backward(neuron, dy, want_cache)
    assert_same_bits(dc, want_dc)
    for name, g in want.items():
        np.testing.assert_allclose(grads[name], g, rtol=200 * EPS)
        assert grads[name].dtype == dtype
    assert running is None


def test_which_neurons_take_the_fused_pass():
    fuses, norm = get_ops("numba").fuses, BatchNorm()
    tanh, triangle = LIF(0.5, 0.5), LIF(0.5, 0.5, Triangular())
    kept = LIF(0.5, 0.5, Triangular(width=0.5))
    for name, kind in NEURONS.items():
        assert fuses(np.float32, tanh, norm, kind()) == (kind is not MPBN), name
        assert not fuses(np.float64, tanh, norm, kind())
    # a triangle as wide as the threshold is another one for each channel of GLIF
    assert fuses(np.float32, triangle, norm, PLIF())
    assert not fuses(np.float32, triangle, norm, GLIF())
    assert fuses(np.float32, kept, norm, GLIF())


def test_a_neuron_of_the_users_own_methods_is_called():
    class Louder(PLIF):
        def forward(self, c_seq, params, running, p, training):
            return super().forward(2 * c_seq, params, running, p, training)

        def backward(self, dy_seq, cache):
            dc, grads = super().backward(dy_seq, cache)
            return 2 * dc, grads

    neuron, p, ops = Louder(), LIF(), get_ops("numba")
    assert not ops.fuses(np.float32, p, BatchNorm(), neuron)
    c = np.full((1, 1, 1, 1, 1), 1.5)
    y, _, cache = neuron_forward(neuron, c, neuron.initial(p, 1, 1), None, p, True)
    assert y.item() == 1  # 0.5 * 2 * 1.5 = 1.5; the current alone would stay below 1
    dc, _ = neuron_backward(neuron, np.ones_like(c), cache)
    want, _ = PLIF().backward(np.ones_like(c), cache)
    assert dc.item() == 2 * want.item() > 0


class Halved(Gated):
    """A user's neuron with the leak `half`/2 as its only map, which the kernels take."""

    def shapes(self, channels, steps):
        return {"half": (1,)}

    def initial(self, p, channels, steps):
        return {"half": np.ones(1)}

    def constants(self, params, p, channels, steps):
        return from_lif(p, params["half"] / 2, channels, steps)

    def gradients(self, d, params, p):
        return {"half": leak_gradient(d, p).sum(keepdims=True) / 2}


def test_a_users_map_takes_the_fused_pass_and_is_the_lif():
    p, size = LIF(0.5, 0.7), (4, 2, 3, 3, 5)
    norm_input, _, _ = drawn(size)
    params = {"half": np.ones(1, np.float32)}
    assert get_ops("numba").fuses(np.float32, p, BatchNorm(), Halved())
    y, *_ = norm_gated_forward(norm_input, None, BatchNorm(), Halved(), params, p, False)
    c_seq, *_ = batchnorm_forward(*norm_input, BatchNorm(), False)
    assert np.array_equal(y, lif_forward(c_seq, None, p)[0])
