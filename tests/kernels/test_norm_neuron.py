"""The fused pass against the equations one after the other: batch norm, plus skip, LIF.

Forward bit for bit, where the statistics are the same to the bit: running ones, or those of
whole numbers whose sums nothing rounds. Backward within bounds that add up what is rounded on
the way (`delta_bound`, `norm_bounds`).
"""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, get_num_threads

from refsnn.equations.batchnorm import (
    BatchNorm,
    NormInput,
    Running,
    batchnorm_backward,
    batchnorm_forward,
    grouped_mean,
    grouped_sum,
)
from refsnn.equations.lif import LIF, lif_backward, lif_forward
from refsnn.equations.surrogate import Rectangular, Tanh, TanhLiteral, Triangular
from refsnn.kernels import fused_backward, fused_forward, norm_statistics, slopes
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
]
SKIPS = pytest.mark.parametrize("skip", ["none", "numbers", "spikes", "normed"])
#: (statistics, training)
MODES = pytest.mark.parametrize(
    ("statistics", "training"), [("pooled", True), ("per_step", True), ("pooled", False)]
)
#: (T, N, H, W, C); powers of two but for C, and no block parts a pair of pixels: `drawn`'s means
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
    of: NormInput
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

    def norm_input():
        x = numbers(*size)
        if whole:
            x = np.rint(3 * x)
            x[..., 1::2, :] = -x[..., : 2 * (size[3] // 2) : 2, :]
        running = Running(numbers(channels), abs(numbers(channels)))
        return NormInput(x, numbers(channels), numbers(channels), running)

    of, v = norm_input(), np.float32(v_th)
    of.gamma[1::2] = 0
    near = [np.nextafter(v, np.float32(0)), v, np.nextafter(v, np.float32(9))]
    of.beta[1::2] = rng.choice(near, channels // 2)
    kinds = {
        "none": lambda: None,
        "numbers": lambda: numbers(*size) * (rng.random(size) < 0.5).astype(np.float32),
        "spikes": lambda: (rng.random(size) < 0.2).astype(np.uint8),
        "normed": norm_input,
    }
    return Given(of, kinds[skip](), numbers(*size))


def composed(of, skip, norm, p, training):
    """(current, running statistics, LIF's spikes and cache) by the equations, in float32."""
    c_seq, moved, _ = batchnorm_forward(*of, norm, training)
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
    """What Eq. 3 in float32 is off at most, for (T, ...) of delta.

    A slope is off by 12 eps of the largest one: the rational tanh by 4 eps, which
    1 - tanh^2 doubles, the rest is rounding here and in the equations. Step by step,
    delta[t] = do h + tau delta[t+1] bracket passes on what its factors are off.
    """
    u, o, _, p = lif
    h = np.abs(p.surrogate.slope(u - p.v_th, p.v_th).astype(float))
    u, do = np.abs(u.astype(float)), np.abs(do.astype(float))
    off_h = 12 * EPS * top(p.surrogate)
    fed = 0 if p.reset_gradient == "detached" else u
    bracket, off_bracket = (1 - o) + fed * h, fed * off_h + 4 * EPS * (1 + fed * h)
    size, off = np.zeros_like(do), np.zeros_like(do)
    after = off_after = np.zeros_like(do[0])
    for t in reversed(range(len(do))):
        size[t] = do[t] * h[t] + p.tau * after * bracket[t]
        off[t] = do[t] * off_h + p.tau * (off_after * bracket[t] + after * off_bracket[t])
        off[t] += 6 * EPS * size[t]
        after, off_after = size[t], off[t]
    return off


def norm_bounds(of, delta, off, norm, training):
    """The exact NormGrads for a delta, and what float32 is off at most where delta is by `off`.

    Sums of n numbers are off by n eps of the sum of their sizes (Higham, Accuracy and
    Stability, 2nd ed., eq. 4.4), so mean, variance and everything behind them is.
    """
    exact = NormInput(*(a.astype(float) for a in of[:3]), Running(*of.running))
    exact = exact._replace(running=Running(*(a.astype(float) for a in of.running)))
    _, _, cache = batchnorm_forward(*exact, norm, training)
    want = batchnorm_backward(delta, cache)
    x_hat, size, axes = np.abs(cache.x_hat), np.abs(delta), cache.axes or (0, 1, 2, 3)
    few = (16 + delta.size // delta.shape[-1]) * EPS
    spread = np.abs(exact.x_seq) if training else np.abs(exact.running.mean)
    off_hat = few * (x_hat + cache.inv_std * grouped_mean(spread * np.ones_like(x_hat), axes))
    off_product = off * x_hat + size * off_hat + few * size * x_hat
    gain = np.abs(of.gamma.astype(float)) * norm.scale * cache.inv_std
    off_dx = off + few * size
    if training:
        along = grouped_mean(size * x_hat, axes)
        off_dx = off_dx + grouped_mean(off + few * size, axes)
        off_dx = off_dx + x_hat * grouped_mean(off_product, axes) + off_hat * along
        off_dx = off_dx + few * x_hat * along
    bounds = gain * off_dx, grouped_sum(off_product) * norm.scale, grouped_sum(off + few * size)
    return want, bounds


def assert_gradients(got, of, delta, off, norm, training):
    want, bounds = norm_bounds(of, delta.astype(float), off, norm, training)
    for name, a, b, bound in zip(got._fields, got, want, bounds, strict=True):
        assert (a.dtype, a.shape) == (np.float32, b.shape), name
        assert (np.abs(a - b) <= bound).all(), (name, np.max(np.abs(a - b) - bound))


def assert_backward(given_, norm, p, training):
    of, skip, do = given_
    _, _, cache = norm_neuron_forward(of, skip, norm, p, training)
    d, dskip = norm_neuron_backward(do, cache)
    delta, off = lif_backward(do, cache.lif, constants=False).dc_seq, delta_bound(do, cache.lif)
    assert_gradients(d, of, delta, off, norm, training)
    if skip is None:
        assert dskip is None
    elif isinstance(skip, NormInput):
        assert_gradients(dskip, skip, delta, off, norm, training)
    else:
        assert (dskip.dtype, dskip.shape) == (np.float32, do.shape)
        assert (np.abs(dskip - delta.astype(float)) <= off).all()
        assert not np.shares_memory(dskip, d.dx_seq)


@pytest.fixture(scope="session")
def assert_forward(assert_same_bits):
    def check(of, skip, norm, p, training):
        o, running, cache = norm_neuron_forward(of, skip, norm, p, training)
        want_running, want, want_cache = composed(of, skip, norm, p, training)
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
    of, other, _ = drawn(size, skip, 0.7, whole=True)
    o = assert_forward(of, other, norm, p, training)
    assert o.size < 99 or 0.01 < o.mean() < 0.99


@pytest.mark.parametrize("fire_at_threshold", [False, True])
@pytest.mark.parametrize("v_th", [0.1, 0.7, 1.0])  # the first two are rounded in float32
def test_potentials_on_the_threshold_fire_only_where_asked_to(
    v_th, fire_at_threshold, assert_forward
):
    of, *_ = drawn((2, 2, 4, 4, 99), v_th=v_th)
    o = assert_forward(
        of, None, BatchNorm(), LIF(0.5, v_th, fire_at_threshold=fire_at_threshold), False
    )
    on = of.beta[1::2] == np.float32(v_th)
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
    assert_backward(drawn((4, 2, 3, 3, 10), skip, 0.9), BatchNorm(scale=1.7), p, True)


@settings(deadline=None, max_examples=100 if COMPILED else 25, derandomize=True)
@given(data=st.data())
def test_any_layer(data, assert_forward):
    size = tuple(data.draw(st.integers(1, most)) for most in (5, 3, 5, 5, 70))
    skip = data.draw(st.sampled_from(["none", "numbers", "spikes", "normed"]))
    v_th, tau = data.draw(st.sampled_from([0.1, 0.7, 1.0])), data.draw(st.sampled_from([0.3, 1.0]))
    p = LIF(
        tau,
        v_th,
        data.draw(st.sampled_from(SURROGATES)),
        data.draw(st.sampled_from(["full", "detached"])),
        data.draw(st.booleans()),
    )
    norm = BatchNorm(
        data.draw(st.sampled_from(["pooled", "per_step"])), data.draw(st.sampled_from([1.0, v_th]))
    )
    layer = drawn(size, skip, v_th, seed=data.draw(st.integers(0, 2**32)))
    assert_forward(*layer[:2], norm, p, False)
    assert_backward(layer, norm, p, data.draw(st.booleans()))


@pytest.mark.parametrize("size", [(3, 16, 8, 8, 40), (4, 5, 3, 7, 33), (2, 1, 1, 3, 1200)], ids=str)
def test_of_whole_numbers_the_sum_of_the_deltas_is_exact(size):
    # slopes of 0 or 1, no reset in the gradient, halves of halves: nothing is rounded
    of, skip, do = drawn(size, "spikes")
    do = np.rint(4 * do)
    p = LIF(0.5, 1.0, Rectangular(), reset_gradient="detached")
    _, _, cache = norm_neuron_forward(of, skip, BatchNorm(), p, True)
    d, dskip = norm_neuron_backward(do, cache)
    want = lif_backward(do, cache.lif, constants=False).dc_seq
    assert np.array_equal(dskip, want)
    assert np.array_equal(d.dbeta, want.astype(float).sum(axis=(0, 1, 2, 3)))


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_slopes_over_the_whole_range_of_potentials(surrogate):
    edges = [0.0, 0.35, 0.5, 0.4, 1.0, 7.9, 7.91, 30.0, 1e4, 1e30]
    x = np.concatenate([np.linspace(-12, 12, 4001), edges, np.negative(edges)]).astype(np.float32)
    of, *_ = drawn((1, 1, 1, x.size, 1))
    of = of._replace(gamma=np.zeros(1, np.float32), beta=np.zeros(1, np.float32))
    skip, p = (
        (x + np.float32(0.7)).reshape(of.x_seq.shape),
        LIF(0.5, 0.7, surrogate, reset_gradient="detached"),
    )
    _, _, cache = norm_neuron_forward(of, skip, BatchNorm(), p, False)
    _, h = norm_neuron_backward(np.ones_like(skip), cache)  # one step: delta is the slope
    want = surrogate.slope(skip - np.float32(0.7), 0.7)
    tanh = isinstance(surrogate, Tanh | TanhLiteral)
    assert np.abs(h - want.astype(float)).max() <= (10 if tanh else 2) * EPS * top(surrogate)


@pytest.mark.parametrize("statistics", ["pooled", "per_step"])
@pytest.mark.parametrize("size", [(3, 8, 16, 16, 17), (2, 1, 3, 5, 1100), (4, 1, 1, 2, 3)], ids=str)
def test_statistics_of_numbers_far_from_zero(size, statistics):
    """Means and what they enter the variance with are in float64: a mean is rounded once, and
    the squares are those of a step of some 30 blocks, around a number near the mean."""
    rng = np.random.default_rng(1)
    drift = np.linspace(0, 3, size[0] * size[1]).reshape(*size[:2], 1, 1, 1)  # blocks differ
    x = (1000 + drift + rng.normal(size=size)).astype(np.float32)
    of = drawn(size)[0]._replace(x_seq=x)
    last = slice(0, None) if statistics == "pooled" else slice(-1, None)
    exact = x[last].astype(float).reshape(-1, size[-1])
    mean, var = exact.mean(axis=0), exact.var(axis=0, ddof=1)
    norm = BatchNorm(statistics, momentum=1.0)  # what is kept are the (last step's) statistics
    _, (running,), _ = norm_neuron_forward(of, None, norm, LIF(), True)
    # where nothing is compiled, a sum that begins with 0.0 takes the type of what is added to it
    np.testing.assert_allclose(running.mean, mean, rtol=EPS if COMPILED else 2 * EPS)
    np.testing.assert_allclose(
        running.var, var, rtol=norm_statistics.SHARE * EPS if COMPILED else 1e-3
    )


def everything(layer, norm, p, training):
    o, running, cache = norm_neuron_forward(*layer[:2], norm, p, training)
    d, dskip = norm_neuron_backward(layer.do, cache)
    skips = dskip if isinstance(dskip, tuple) else (dskip,)
    return [o, *(a for pair in running for a in pair), *d, *(s for s in skips if s is not None)]


@SKIPS
@MODES
def test_the_number_of_threads_does_not_change_a_bit(
    statistics, training, skip, with_threads, assert_same_bits
):
    size = (2, 20, 8, 8, 80) if COMPILED else (1, 8, 8, 8, 65)
    setting = drawn(size, skip), BatchNorm(statistics), LIF(), training
    many = with_threads(get_num_threads(), everything, *setting)
    for a, b in zip(with_threads(1, everything, *setting), many, strict=True):
        assert_same_bits(a, b)


def arrays(x):
    if isinstance(x, np.ndarray):
        return [x]
    return [a for part in x for a in arrays(part)] if isinstance(x, tuple) else []


@SKIPS
def test_nothing_given_is_written_and_each_call_gives_the_same_bits(skip, assert_same_bits):
    layer = drawn((3, 2, 4, 4, 20), skip)
    for a in arrays(layer):
        a.flags.writeable = False
    copies = [a.copy() for a in arrays(layer)]
    setting = layer, BatchNorm(), LIF(), True
    first = everything(*setting)
    everything(drawn((3, 2, 4, 4, 20), skip, seed=1), *setting[1:])
    for a, b in zip(everything(*setting), first, strict=True):
        assert_same_bits(a, b)
    for a, b in zip(arrays(layer), copies, strict=True):
        assert_same_bits(a, b)
    _, _, cache = norm_neuron_forward(*layer[:2], *setting[1:])
    d, _ = norm_neuron_backward(layer.do, cache)
    again, _ = norm_neuron_backward(layer.do, cache)
    assert_same_bits(d.dx_seq, again.dx_seq)
    assert not np.shares_memory(d.dx_seq, again.dx_seq)


@SKIPS
def test_inputs_that_are_not_contiguous_give_the_same_bits(skip, assert_same_bits):
    layer = drawn((3, 2, 4, 5, 6), skip)

    def turned(x):
        if isinstance(x, np.ndarray):
            return np.asfortranarray(x) if x.ndim == 5 else np.repeat(x, 2)[::2]
        return type(x)(*map(turned, x)) if isinstance(x, tuple) else x

    setting = BatchNorm(), LIF(), True
    assert not turned(layer).do.flags.c_contiguous
    for a, b in zip(everything(turned(layer), *setting), everything(layer, *setting), strict=True):
        assert_same_bits(a, b)


def test_a_skip_the_same_at_every_step_may_stand_in_memory_once(assert_same_bits):
    of, skip, do = drawn((4, 2, 3, 3, 5), "numbers")
    once = np.broadcast_to(skip[:1], skip.shape)
    setting = BatchNorm(), LIF(), True
    got, want = (everything(Given(of, s, do), *setting) for s in (once, once.copy()))
    for a, b in zip(got, want, strict=True):
        assert_same_bits(a, b)


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_neither_sizes_nor_layouts_make_anything_compile_again(compiled):
    def all_kinds(size):
        for skip in ("none", "numbers", "spikes", "normed"):
            for surrogate in SURROGATES:
                everything(drawn(size, skip), BatchNorm(), LIF(surrogate=surrogate), True)

    all_kinds((2, 1, 2, 2, 3))
    modules = fused_backward, fused_forward, norm_statistics, slopes
    before = compiled(*modules)
    all_kinds((3, 2, 1, 4, 5))
    assert compiled(*modules) == before > 0


def test_a_cotangent_unlike_the_spikes_is_refused():
    of, skip, do = drawn((2, 1, 2, 2, 3))
    _, _, cache = norm_neuron_forward(of, skip, BatchNorm(), LIF(), True)
    for wrong in (do[:1], do[..., :2], do.astype(float)):
        with pytest.raises(ValueError, match=r"^do_seq: got .* like o_seq"):
            norm_neuron_backward(wrong, cache)
    with pytest.raises(TypeError, match=r"^do_seq: got dtype uint8, want float"):
        norm_neuron_backward(cache.o_seq, cache)
    with pytest.raises(TypeError, match=r"^do_seq: got list"):
        norm_neuron_backward(do.tolist(), cache)


def test_a_normalised_skip_unlike_the_input_is_refused():
    of, skip, _ = drawn((2, 1, 2, 2, 3), "normed")
    for wrong in (skip.x_seq[:1], skip.x_seq[..., :2], skip.x_seq.astype(float)):
        with pytest.raises(ValueError, match=r"^skip: got .* like x_seq"):
            norm_neuron_forward(of, skip._replace(x_seq=wrong), BatchNorm(), LIF(), True)


@pytest.mark.parametrize(
    "skip",
    [
        np.ones((2, 1, 2, 2, 1), np.float32),
        np.ones((1, 1, 2, 2, 3), np.float32),
        np.ones((2, 1, 2, 2, 3)),
        np.ones((2, 1, 2, 2, 1), np.uint8),
    ],
    ids=["channels", "steps", "dtype", "spikes of other channels"],
)
def test_a_skip_unlike_the_input_never_reaches_the_kernel(skip):
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    of = NormInput(np.ones((2, 1, 2, 2, 3), np.float32), one, zero, Running(zero, one))
    with pytest.raises((ValueError, TypeError), match=r"^skip: got "):
        norm_neuron_forward(of, skip, BatchNorm(), LIF(), True)


@pytest.mark.parametrize("name", ["gamma", "beta", "running"])
@pytest.mark.parametrize("of_skip", [False, True])
def test_numbers_of_a_batch_norm_for_other_channels_are_refused(name, of_skip):
    of, skip, _ = drawn((2, 1, 2, 2, 3), "normed")
    short = np.ones(2, np.float32)
    wrong = {name: Running(short, short) if name == "running" else short}
    of, skip = (of, skip._replace(**wrong)) if of_skip else (of._replace(**wrong), skip)
    with pytest.raises(
        ValueError, match=rf"^{'mean' if name == 'running' else name}: got .*\(2,\)"
    ):
        norm_neuron_forward(of, skip, BatchNorm(), LIF(), True)


def test_what_the_fused_pass_cannot_compute_is_refused():
    of, _, _ = drawn((2, 1, 2, 2, 3))
    with pytest.raises(ValueError, match=r"^x_seq: got shape \(1, 2, 2, 3\)"):
        norm_neuron_forward(of._replace(x_seq=of.x_seq[0]), None, BatchNorm(), LIF(), True)
    with pytest.raises(ValueError, match=r"^p: got a smooth neuron"):
        norm_neuron_forward(of, None, BatchNorm(), LIF(smooth=True), True)
    x, one, zero = of.x_seq.astype(float), np.ones(3), np.zeros(3)
    of = NormInput(x, one, zero, Running(zero, one))
    with pytest.raises(TypeError, match=r"^x_seq: got dtype float64, want float32"):
        norm_neuron_forward(of, None, BatchNorm(), LIF(), True)


class Mine(Tanh):
    def slope(self, x, v_th):
        return 1 / (1 + x * x)


class Other:
    def slope(self, x, v_th):
        return np.ones_like(x)


@pytest.mark.parametrize(
    ("p", "norm", "words"),
    [
        (LIF(surrogate=Mine()), BatchNorm(), "surrogate: got Mine, want one of Tanh, TanhLiteral"),
        (LIF(surrogate=Other()), BatchNorm(), "surrogate: got Other, want one of Tanh"),
        (type("Kept", (LIF,), {})(), BatchNorm(), "p: got Kept, want exactly LIF"),
        (LIF(), type("Still", (BatchNorm,), {})(), "norm: got Still, want exactly BatchNorm"),
    ],
)
def test_classes_that_the_loops_do_not_know_are_refused(p, norm, words):
    of, _, do = drawn((2, 1, 2, 2, 3))
    with pytest.raises(TypeError, match=f"^{words}"):
        norm_neuron_forward(of, None, norm, p, True)
    _, _, cache = norm_neuron_forward(of, None, BatchNorm(), LIF(), True)
    if not isinstance(p.surrogate, Tanh) or isinstance(p.surrogate, Mine):
        with pytest.raises(TypeError, match=f"^{words}"):
            norm_neuron_backward(do, cache._replace(p=p))


@pytest.mark.parametrize(
    ("skip", "error", "words"),
    [
        ([1.0], TypeError, "skip: got list, want a numpy array"),
        (0.5, TypeError, "skip: got float, want a numpy array"),
        (np.ones((2, 1, 2, 2, 3), bool), TypeError, "skip: got dtype bool"),
        (np.ones((2, 1, 2, 2, 3)), ValueError, "skip: got float64 .* want float32"),
        (np.ones((2, 1, 2, 2, 1), np.uint8), ValueError, r"skip: got shape .* \(2, 1, 2, 2, 3\)"),
    ],
)
def test_what_is_no_skip_is_refused(skip, error, words):
    with pytest.raises(error, match=f"^{words}"):
        norm_neuron_forward(drawn((2, 1, 2, 2, 3))[0], skip, BatchNorm(), LIF(), True)


@pytest.mark.parametrize("size", [(0, 1, 2, 2, 3), (2, 1, 2, 2, 0)])
def test_no_step_and_no_channel_are_no_layer(size):
    with pytest.raises(ValueError, match=r"^x_seq: got shape .* at least one step and one channel"):
        norm_neuron_forward(drawn(size)[0], None, BatchNorm(), LIF(), False)


def test_a_skip_of_bytes_is_added_as_numbers(assert_forward):
    of, _, _ = drawn((3, 2, 4, 4, 5), v_th=0.7)
    skip = np.random.default_rng(0).integers(0, 256, of.x_seq.shape).astype(np.uint8)
    assert_forward(of, skip, BatchNorm(), LIF(0.3, 0.7), False)


@SKIPS
@MODES
@pytest.mark.parametrize("size", [(1, 1, 1, 1, 1), (3, 2, 3, 5, 7), (2, 1, 1, 3, 1100)], ids=str)
def test_every_element_is_written(size, statistics, training, skip, poisons, assert_same_bits):
    first, *others = poisons(everything, drawn(size, skip), BatchNorm(statistics), LIF(), training)
    for other in others:
        for a, b in zip(other, first, strict=True):
            assert_same_bits(a, b)
