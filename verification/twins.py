"""Checks of the Numba kernels against the NumPy equations, and against themselves on one thread.

Sizes are too large for loops in Python: more neurons than a task, more channels than a vector.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.equations.conv import ConvCache
from refsnn.equations.surrogate import Tanh
from refsnn.kernels.threads import get_num_threads, set_num_threads
from refsnn.ops import LIF, NUMPY, AvgPool, BatchNorm, Conv
from verification import cases
from verification.poison import poisoned
from verification.record import Recorder
from verification.registry import check

EPS = float(np.finfo(np.float32).eps)


def on_each_count_of_threads(call: Any) -> list[Any]:
    """Return the results of `call` on one thread, and twice on all threads.

    Each time, the kernels' uninitialised memory holds other values, so that an element that no
    kernel writes differs.
    """
    most = get_num_threads()
    results = []
    for threads, held in ((1, np.nan), (most, 1e30), (most, -0.5)):
        set_num_threads(threads)
        try:
            with poisoned(held):
                results.append(call())
        finally:
            set_num_threads(most)
    return results


def agree(record: Recorder, clause: str, name: str, call: Any) -> tuple[Any, ...]:
    """Check that results have the same bits on any number of threads, and return them."""
    first, *others = on_each_count_of_threads(call)
    for other in others:
        for index, (a, b) in enumerate(zip(first, other, strict=True)):
            record.equal(clause, f"{name} {index} on other threads", b, a)
    return first


@st.composite
def many_neurons(draw: Any) -> Any:
    shape = draw(st.sampled_from([(3, 1023), (2, 1024), (2, 1025), (4, 2500), (1, 3, 700)]))
    rng, dtype = np.random.default_rng(draw(cases.SEEDS)), draw(cases.DTYPES)
    u0 = rng.normal(size=shape[1:]).astype(dtype) if draw(st.booleans()) else None
    c_seq, do_seq = rng.normal(0.5, 1, shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    return draw(cases.neurons()), c_seq, u0, do_seq


@check("LIF kernels", "twin", "EQ1 EQ2 EQ3 D2 D3 R1 D6", many_neurons(), quick=12, full=300)
def lif_twins(case: Any, record: Recorder) -> None:
    """Compare bit for bit, in both precisions, with inputs in Fortran order.

    A slope in float32 that the kernels round otherwise may be off by 16 eps of the steepest.
    """
    neuron, c_seq, u0, do_seq = case
    p, kernels = cases.lif_of(neuron), cases.get_ops("numba")
    o_seq, want = NUMPY.lif_forward(c_seq, u0, p)
    turned = np.asfortranarray(c_seq)
    u_pre_seq, o = agree(record, "EQ1", "LIF", lambda: run_forward(kernels, turned, u0, p))
    record.equal("EQ1", "u_pre_seq", u_pre_seq, want.u_pre_seq)
    record.equal("D2 EQ2" if neuron["fire_at_threshold"] else "EQ2 D2", "o_seq", o, o_seq)
    record.equal("D6", "u0", kernels.lif_forward(turned, u0, p)[1].u0, want.u0)
    record.values_ok()
    clause = "D3 EQ3" if neuron["reset_gradient"] == "detached" else "EQ3 D3"
    wanted = NUMPY.lif_backward(do_seq, want)
    got = agree(
        record, clause, "gradient", lambda: kernels.lif_backward(np.asfortranarray(do_seq), want)
    )
    rounded = c_seq.dtype == np.float32 and neuron["surrogate"] in cases.ROUNDED
    slack = 24 * len(c_seq) * EPS if rounded else 0.0
    for name, a, b in zip(wanted._fields, got, wanted, strict=True):
        size = np.abs(wanted.dc_seq).sum() if np.ndim(b) == 0 else np.abs(wanted.dc_seq).max()
        record.close("R1" if name == "dv_th" else clause, name, a, b, slack, max(size, 1.0))
    short = kernels.lif_backward(do_seq, want, constants=False)
    record.equal(clause, "dc_seq without constants", short.dc_seq, got[0])
    record.equal("R1", "constants left out", (short.dtau, short.dv_th), (None, None))


def run_forward(ops: Any, c_seq: Any, u0: Any, p: Any) -> tuple[Any, Any]:
    o_seq, cache = ops.lif_forward(c_seq, u0, p)
    return cache.u_pre_seq, o_seq


@st.composite
def large_convs(draw: Any) -> Any:
    """Draw convolutions with more channels than a task of the kernels, and odd sizes."""
    c_in, c_out = draw(st.sampled_from([(3, 17), (17, 5), (33, 19), (16, 16), (40, 1)]))
    kernel = draw(st.sampled_from([(3, 3), (1, 1), (5, 3), (2, 4)]))
    images = draw(st.sampled_from([2, 5, 7, 35, 70]))
    size = draw(st.tuples(st.integers(5, 9), st.integers(5, 9) if images < 9 else st.just(5)))
    p = Conv(
        draw(st.sampled_from([(1, 1), (2, 2), (1, 3)])),
        draw(st.sampled_from([(0, 0), (1, 1), (2, 1)])),
    )
    rng, dtype = np.random.default_rng(draw(cases.SEEDS)), draw(cases.DTYPES)
    x = rng.normal(size=(images, *size, c_in))
    if draw(st.booleans()):
        x = (x > 0.8).astype(float)
    w = rng.normal(size=(*kernel, c_in, c_out))
    return x.astype(dtype), w.astype(dtype), p, rng


@check("convolution kernels", "twin", "EQ1 EQ3 EQ8", large_convs(), quick=12, full=300)
def conv_twins(case: Any, record: Recorder) -> None:
    """Compare sums of the same n products, which differ by at most 2 n eps sum |x||w|."""
    x, w, p, rng = case
    kernels, eps = cases.get_ops("numba"), float(np.finfo(x.dtype).eps)
    taken = {
        direction: kernels.conv_choice(direction, x, w, p)
        for direction in ("forward", "input_gradient", "weight_gradient")
    }
    y, cache = NUMPY.conv_forward(x, w, p)
    (got,) = agree(
        record,
        "EQ1",
        "c",
        lambda: kernels.conv_forward(np.asfortranarray(x), np.asfortranarray(w), p)[:1],
    )
    absolute = ConvCache(np.abs(x), np.abs(w), p)
    agrees_by_method(
        record,
        "EQ1",
        "c",
        got,
        y,
        np.prod(w.shape[:3]),
        NUMPY.conv_forward(*absolute)[0],
        eps,
        taken["forward"],
    )
    record.values_ok()
    dy = rng.normal(size=y.shape).astype(x.dtype)
    turned = np.asfortranarray(dy)
    got_dx, got_dw = agree(
        record, "EQ3", "gradient", lambda: cases.conv_backward(kernels, turned, cache)
    )
    dx, dw = cases.conv_backward(NUMPY, dy, cache)
    bound_x, bound_w = cases.conv_backward(NUMPY, np.abs(dy), absolute)
    agrees_by_method(
        record, "EQ8", "dx", got_dx, dx, w.size / w.shape[2], bound_x, eps, taken["input_gradient"]
    )
    agrees_by_method(
        record,
        "EQ3",
        "dw",
        got_dw,
        dw,
        np.prod(dy.shape[:3]),
        bound_w,
        eps,
        taken["weight_gradient"],
    )
    alone = kernels.conv_weight_gradient(dy, cache)
    record.equal("EQ3", "dw alone", alone, got_dw)


OF_LARGEST = 1e-4  # tolerance of every method in float32, relative to the largest element


def agrees_by_method(
    record: Recorder,
    clause: str,
    name: str,
    got: Any,
    want: Any,
    n: float,
    bound: Any,
    eps: float,
    method: str,
) -> None:
    """Compare within the derived bound, except for Winograd's method, which sums other products.

    In float32, also compare within OF_LARGEST of the largest element, which finds a single missing
    product even if n is large.
    """
    if method != "winograd":
        within(record, clause, name, got, want, n, bound, eps)
    if got.dtype == np.float32:
        typical = float(bound.max()) / n**0.5  # n products of random signs
        scale = max(float(np.abs(want).max()), 0.1 * typical) or 1.0
        record.close(clause, name, got, want, OF_LARGEST, scale)


def within(
    record: Recorder, clause: str, name: str, got: Any, want: Any, n: float, bound: Any, eps: float
) -> None:
    """Compare each element's error with its own bound."""
    scale = np.maximum(2 * n * eps * bound, np.finfo(bound.dtype).tiny)  # bound 0: exactly 0
    record.equal(clause, f"shape of {name}", got.shape, want.shape)
    record.close(clause, f"{name}, in units of its bound", got / scale, want / scale, 1.0, 1.0)


@st.composite
def large_pools(draw: Any) -> Any:
    rng, dtype = np.random.default_rng(draw(cases.SEEDS)), draw(cases.DTYPES)
    shape = (draw(st.sampled_from([1, 6, 9, 35])), 9, 7, draw(st.sampled_from([1, 17, 40])))
    p = AvgPool(*draw(st.sampled_from([(2, 2, 0), (3, 2, 1), (3, 1, 1), (4, 3, 2)])))
    return rng.normal(size=shape).astype(dtype), p, rng


@check("pooling kernels", "twin", "R4", large_pools(), quick=10, full=200)
def pool_twins(case: Any, record: Recorder) -> None:
    x, p, rng = case
    kernels = cases.get_ops("numba")
    y, cache = NUMPY.avgpool_forward(x, p)
    (got,) = agree(record, "R4", "y", lambda: kernels.avgpool_forward(np.asfortranarray(x), p)[:1])
    record.equal("R4", "y", got, y, "nhwc")
    dy = rng.normal(size=y.shape).astype(x.dtype)
    (dx,) = agree(
        record, "R4", "dx", lambda: (kernels.avgpool_backward(np.asfortranarray(dy), cache),)
    )
    record.equal("R4", "dx", dx, NUMPY.avgpool_backward(dy, cache), "nhwc")


@st.composite
def layers_of_channels(draw: Any) -> Any:
    """Draw sequences of more elements in a step than a task of the kernel takes, and of fewer."""
    steps, channels = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 3, 16, 17, 40]))
    rows = draw(st.sampled_from([1, 2, 31, 513, 2**13 // channels + 1]))
    rng = np.random.default_rng(draw(cases.SEEDS))
    mean, deviation = rng.normal(0, 3, channels), rng.uniform(0.1, 3, channels)
    x_seq = rng.normal(mean, deviation, (steps, 2, rows, 1, channels))
    return x_seq.astype(np.float32)


@check("moments of channels", "float32", "IMLOSS MPD", layers_of_channels(), quick=10, full=200)
def moments_of_channels(x_seq: Any, record: Recorder) -> None:
    """Compare each channel's mean and variance with NumPy's, in float64."""
    kernels = cases.get_ops("numba")
    wanted = NUMPY.channel_moments(x_seq)
    got = agree(
        record, "IMLOSS MPD", "moment", lambda: kernels.channel_moments(np.asfortranarray(x_seq))
    )
    size = float(np.sqrt(wanted[1].max()) + np.abs(wanted[0]).max())
    for name, a, b, scale in zip(
        ("mean", "variance"), got, wanted, (size, wanted[1].max()), strict=True
    ):
        record.close("IMLOSS MPD", name, a, b, 2e-5, scale or 1.0)


@check("races", "twin", "EQ1 EQ3 EQ8 R4", cases.SEEDS, quick=2, full=20)
def races(seed: int, record: Recorder) -> None:
    """Check that bits are the same every time on arrays so large that threads overlap in time."""
    rng, kernels, same = np.random.default_rng(seed), cases.get_ops("numba"), Conv((1, 1), (1, 1))
    x, w = rng.normal(size=(128, 16, 16, 16)), rng.normal(size=(3, 3, 16, 16))
    (y,) = agree(record, "EQ1", "c", lambda: kernels.conv_forward(x, w, same)[:1])
    agree(
        record,
        "EQ3 EQ8",
        "gradient",
        lambda: cases.conv_backward(kernels, y, ConvCache(x, w, same)),
    )
    p = LIF()
    agree(record, "EQ1", "o", lambda: kernels.lif_forward(x, None, p)[:1])
    _, cache = kernels.lif_forward(x, None, p)
    agree(record, "EQ3", "delta", lambda: kernels.lif_backward(x, cache)[:2])
    half = AvgPool(2, 2)
    (y,) = agree(record, "R4", "y", lambda: kernels.avgpool_forward(x, half)[:1])
    _, cache = kernels.avgpool_forward(x, half)
    agree(record, "R4", "dx", lambda: (kernels.avgpool_backward(y, cache),))


class Flat(Tanh):
    """A surrogate that has its own constant slope."""

    def slope(self, x: Any, v_th: float) -> Any:
        return np.full_like(x, self.k)


@check("operations by name", "twin", "EQ9 EQ4", quick=1)
def choice_of_operations(case: Any, record: Recorder) -> None:
    """Check that operations without kernels are NumPy's own functions, which need no comparison.

    Also check that the fused pass is not used for a surrogate that it does not know.
    """
    kernels = cases.get_ops("numba")
    shared = replace(
        NUMPY,
        name="numba",
        **{
            name: getattr(kernels, name)
            for name in (
                "lif_forward",
                "lif_backward",
                "neuron_forward",
                "neuron_backward",
                "batchnorm_forward",
                "batchnorm_backward",
                "channel_moments",
                "conv_forward",
                "conv_input_gradient",
                "conv_add_input_gradient",
                "conv_weight_gradient",
                "avgpool_forward",
                "avgpool_backward",
                "global_avgpool_forward",
                "linear_forward",
                "linear_backward",
                "sgd_update",
                "adamw_update",
                "add_into",
                "count_spikes",
                "norm_neuron_forward",
                "norm_neuron_backward",
                "norm_gated_forward",
                "norm_gated_backward",
                "fused_surrogates",
                "conv_choice",
                "precompile",
            )
        },
    )
    record.equal("EQ9", "operations that have kernels", kernels, shared)
    for own, surrogate in ((False, Tanh()), (True, Flat())):
        fuses = kernels.fuses(np.float32, LIF(surrogate=surrogate), BatchNorm())
        record.true("EQ4", "a slope is computed by its own class", fuses != own)
