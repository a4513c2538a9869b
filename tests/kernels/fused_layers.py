"""Fused layers to try the kernel with, what they should give, and how near it must come."""

from typing import NamedTuple

import numpy as np
import pytest
from numba import config

from refsnn.equations import common_surrogates as common
from refsnn.equations.batchnorm import (
    NormInput,
    Running,
    batchnorm_backward,
    batchnorm_forward,
    grouped_mean,
    grouped_sum,
)
from refsnn.equations.lif import lif_backward, lif_forward, reset_slopes
from refsnn.equations.surrogate import Rectangular, Tanh, TanhLiteral, Triangular
from refsnn.kernels.norm_neuron import norm_neuron_backward, norm_neuron_forward

COMPILED = not config.DISABLE_JIT
EPS = float(np.finfo(np.float32).eps)
SURROGATES = [
    Tanh(),
    Tanh(0.8),
    TanhLiteral(),
    Rectangular(),
    Rectangular(0.7, edge="inside"),
    Triangular(),
    Triangular(0.3, width=0.4),
    common.Sigmoid(3.0),
    common.ATan(1.5),
    common.FastSigmoid(4.0),
    common.SoftSign(1.5),
    common.SuperSpike(0.6),
    common.PiecewiseQuadratic(1.4),
    common.Exponential(1.3),
    common.Gaussian(0.6),
    common.Dspike(2.0),
    common.Dspike(3.0, 0.7, edge="outside"),
]
#: those that are computed from tanh, or by divisions in another order
APPROXIMATE = (Tanh, TanhLiteral, common.Sigmoid, common.Exponential, common.Gaussian)
APPROXIMATE += (common.Dspike, common.PiecewiseQuadratic)
SKIPS = pytest.mark.parametrize("skip", ["none", "numbers", "spikes", "normed"])
#: (statistics, training)
MODES = pytest.mark.parametrize(
    ("statistics", "training"), [("pooled", True), ("per_step", True), ("pooled", False)]
)
#: (T, N, H, W, C); powers of two but for C, and no part parts a pair of pixels: `drawn`'s means
#: of whole numbers are exact
SIZES = [
    (1, 1, 1, 1, 1),
    (4, 1, 1, 1, 3),
    (2, 2, 2, 4, 7),
    (4, 2, 4, 8, 48),  # blocks of 22 pixels, the last in part
    (1, 2, 2, 2, 1024),  # one pixel a block
    (2, 1, 1, 4, 1500),  # more channels than a block has elements
    (1, 2, 8, 4, 1024),  # two tasks of one pixel a block
    (1, 16, 8, 8, 64),  # two tasks
    (2, 64, 4, 4, 93) if COMPILED else (1, 32, 4, 4, 93),  # the last in part
]
SIZE = pytest.mark.parametrize("size", SIZES, ids=str)


class Given(NamedTuple):
    norm_input: NormInput
    skip: object
    do: np.ndarray


def drawn(size, skip="none", v_th=1.0, whole=False, seed=0) -> Given:
    """Where `whole`, neighbouring pixels have opposite whole numbers, and means are 0.

    Every second channel has gamma 0 and a beta on the threshold or beside it: there the
    potential meets it exactly.
    """
    rng = np.random.default_rng(seed)
    channels = size[-1]

    def numbers(*shape):
        return rng.normal(0.2, 1.3, shape).astype(np.float32)

    def draw_norm_input():
        x = numbers(*size)
        if whole:
            x = np.rint(3 * x)
            x[..., 1::2, :] = -x[..., : 2 * (size[3] // 2) : 2, :]
        running = Running(numbers(channels), abs(numbers(channels)))
        return NormInput(x, numbers(channels), numbers(channels), running)

    norm_input, v = draw_norm_input(), np.float32(v_th)
    norm_input.gamma[1::2] = 0
    near = [np.nextafter(v, np.float32(0)), v, np.nextafter(v, np.float32(9))]
    norm_input.beta[1::2] = rng.choice(near, channels // 2)
    kinds = {
        "none": lambda: None,
        "numbers": lambda: numbers(*size) * (rng.random(size) < 0.5).astype(np.float32),
        "spikes": lambda: (rng.random(size) < 0.2).astype(np.uint8),
        "normed": draw_norm_input,
    }
    return Given(norm_input, kinds[skip](), numbers(*size))


def composed(norm_input, skip, norm, p, training):
    """(current, running statistics, LIF's spikes and cache) by the equations, in float32."""
    c_seq, moved, _ = batchnorm_forward(*norm_input, norm, training)
    running = [moved]
    if isinstance(skip, NormInput):
        other, moved, _ = batchnorm_forward(*skip, norm, training)
        running.append(moved)
        c_seq = c_seq + other
    elif skip is not None:
        c_seq = c_seq + skip
    assert c_seq.dtype == np.float32
    return running, *lif_forward(c_seq, None, p)


def top(surrogate) -> float:
    """The largest slope."""
    return float(surrogate.slope(np.array([-50.0, 0.0]), 1.0).max())


def delta_bound(do, lif):
    """Bound the rounding error of Eq. 3 in float32, for (T, ...) of delta.

    A slope is off by 12 eps of the largest one: the rational tanh by 4 eps, which
    1 - tanh^2 doubles, the rest is rounding here and in the equations. Step by step,
    delta[t] = do h + tau delta[t+1] bracket passes on what its factors are off.
    """
    u, o, _, p = lif
    h = np.abs(p.surrogate.slope(u - p.v_th, p.v_th).astype(float))
    u, do = np.abs(u.astype(float)), np.abs(do.astype(float))
    off_h = 12 * EPS * top(p.surrogate)
    kept, fed = (np.abs(x) for x in reset_slopes(u, o.astype(float), p))
    fed = 0 if p.reset_gradient == "detached" else fed
    bracket, off_bracket = kept + fed * h, fed * off_h + 4 * EPS * (1 + fed * h)
    size, off = np.zeros_like(do), np.zeros_like(do)
    after = off_after = np.zeros_like(do[0])
    for t in reversed(range(len(do))):
        size[t] = do[t] * h[t] + p.tau * after * bracket[t]
        off[t] = do[t] * off_h + p.tau * (off_after * bracket[t] + after * off_bracket[t])
        off[t] += 6 * EPS * size[t]
        after, off_after = size[t], off[t]
    return off


def norm_bounds(norm_input, delta, off, norm, training):
    """The exact NormGrads for a delta, and what float32 is off at most where delta is by `off`.

    Sums of n numbers are off by n eps of the sum of their sizes (Higham, Accuracy and
    Stability, 2nd ed., eq. 4.4), so mean, variance and everything behind them is.
    """
    exact = NormInput(*(a.astype(float) for a in norm_input[:3]), Running(*norm_input.running))
    exact = exact._replace(running=Running(*(a.astype(float) for a in norm_input.running)))
    _, _, cache = batchnorm_forward(*exact, norm, training)
    want = batchnorm_backward(delta, cache)
    x_hat, size, axes = np.abs(cache.x_hat), np.abs(delta), cache.axes or (0, 1, 2, 3)
    few = (16 + delta.size // delta.shape[-1]) * EPS
    spread = np.abs(exact.x_seq) if training else np.abs(exact.running.mean)
    off_hat = few * (x_hat + cache.inv_std * grouped_mean(spread * np.ones_like(x_hat), axes))
    off_product = off * x_hat + size * off_hat + few * size * x_hat
    gain = np.abs(norm_input.gamma.astype(float)) * norm.scale * cache.inv_std
    off_dx = off + few * size
    if training:
        along = grouped_mean(size * x_hat, axes)
        off_dx = off_dx + grouped_mean(off + few * size, axes)
        off_dx = off_dx + x_hat * grouped_mean(off_product, axes) + off_hat * along
        off_dx = off_dx + few * x_hat * along
    bounds = gain * off_dx, grouped_sum(off_product) * norm.scale, grouped_sum(off + few * size)
    return want, bounds


def assert_gradients(got, norm_input, delta, off, norm, training):
    want, bounds = norm_bounds(norm_input, delta.astype(float), off, norm, training)
    for name, a, b, bound in zip(got._fields, got, want, bounds, strict=True):
        assert (a.dtype, a.shape) == (np.float32, b.shape), name
        assert (np.abs(a - b) <= bound).all(), (name, np.max(np.abs(a - b) - bound))


def assert_backward(given_, norm, p, training):
    norm_input, skip, do = given_
    _, _, cache = norm_neuron_forward(norm_input, skip, norm, p, training)
    d, dskip = norm_neuron_backward(do, cache)
    delta, off = lif_backward(do, cache.lif, constants=False).dc_seq, delta_bound(do, cache.lif)
    assert_gradients(d, norm_input, delta, off, norm, training)
    if skip is None:
        assert dskip is None
    elif isinstance(skip, NormInput):
        assert_gradients(dskip, skip, delta, off, norm, training)
    else:
        assert (dskip.dtype, dskip.shape) == (np.float32, do.shape)
        assert (np.abs(dskip - delta.astype(float)) <= off).all()
        assert not np.shares_memory(dskip, d.dx_seq)


def everything(layer, norm, p, training):
    o, running, cache = norm_neuron_forward(*layer[:2], norm, p, training)
    d, dskip = norm_neuron_backward(layer.do, cache)
    skips = dskip if isinstance(dskip, tuple) else (dskip,)
    return [o, *(a for pair in running for a in pair), *d, *(s for s in skips if s is not None)]


def arrays(x):
    if isinstance(x, np.ndarray):
        return [x]
    return [a for part in x for a in arrays(part)] if isinstance(x, tuple) else []
