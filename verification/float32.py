"""Checks of the float32 kernels against the NumPy equations.

These are convolutions by every method, pooling of spikes, and the optimisers' rules. Shapes are not
multiples of the kernels' blocks: vectors of 16 channels, 4x4 tiles, tasks of many images.
"""

from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.equations.conv import ConvCache
from refsnn.ops import NUMPY, AvgPool, Conv
from verification import cases
from verification.record import Recorder
from verification.registry import check
from verification.twins import agree, agrees_by_method

EPS = float(np.finfo(np.float32).eps)
CHANNELS = [1, 3, 5, 15, 16, 17, 32, 48, 64, 65, 80]
PRODUCTS = 3e7  # most products in a drawn convolution
DIRECTIONS = {"forward": "EQ1", "input_gradient": "EQ8", "weight_gradient": "EQ3"}


@st.composite
def convs(draw: Any) -> Any:
    """Draw (x, w, dy, p): half of the draws fit Winograd's method, half have spikes."""
    minimal = draw(st.booleans())
    channels = st.sampled_from([c for c in CHANNELS if not minimal or c % 16 == 0])
    c_in, c_out = draw(channels), draw(channels)
    kernel = draw(st.sampled_from([(3, 3)] if minimal else [(3, 3), (1, 1), (5, 3), (7, 7)]))
    padding = draw(st.sampled_from([(1, 1), (0, 0), (2, 1), (3, 3)][: 3 if minimal else 4]))
    strides = [(1, 1)] if minimal else [(1, 1), (2, 2), (1, 2), (3, 1), (2, 3)]
    p = Conv(draw(st.sampled_from(strides)), padding)
    size = [
        max(k - 2 * pad, 1) + draw(st.integers(0, 9))
        for k, pad in zip(kernel, padding, strict=True)
    ]
    each = np.prod(size) * np.prod(kernel) * c_in * c_out
    images = draw(st.sampled_from([n for n in (33, 5, 2, 1) if n * each < PRODUCTS] or [1]))
    rng = np.random.default_rng(draw(cases.SEEDS))
    x = rng.normal(size=(images, *size, c_in)).astype(np.float32)
    if draw(st.booleans()):
        rate = draw(st.sampled_from([0.1, 0.02, 0.3, 0.0, 1.0]))
        x = (rng.random(x.shape) < rate).astype(np.uint8)
    w = rng.normal(size=(*kernel, c_in, c_out)).astype(np.float32)
    shape = NUMPY.conv_forward(x.astype(w.dtype), w, p)[0].shape
    return x, w, rng.normal(size=shape).astype(np.float32), p


@check("convolution methods", "float32", "EQ1 EQ3 EQ8", convs(), quick=40, full=600)
def conv_methods(case: Any, record: Recorder) -> None:
    """Check each direction by each method that can do it, on one thread and on all."""
    x, w, dy, p = case
    products = {
        "forward": np.prod(w.shape[:3]),
        "input_gradient": w.size / w.shape[2],
        "weight_gradient": np.prod(dy.shape[:3]),
    }
    exact = ConvCache(x.astype(float), w.astype(float), p)
    sizes = ConvCache(np.abs(exact.x), np.abs(exact.w), p)
    for direction, clause in DIRECTIONS.items():
        want = convolve(NUMPY, direction, exact, dy.astype(float))
        bound = convolve(NUMPY, direction, sizes, np.abs(dy).astype(float))
        for method in methods(direction, x, w, p):
            kernels, name = cases.get_ops("numba", method), f"{direction} by {method}"
            (got,) = agree(
                record,
                clause,
                name,
                lambda ops=kernels, d=direction: (convolve(ops, d, ConvCache(x, w, p), dy),),
            )
            record.equal(clause, f"dtype of {name}", got.dtype, w.dtype)
            agrees_by_method(
                record, clause, name, got, want, products[direction], bound, EPS, method
            )
        record.values_ok()


def methods(direction: str, x: Any, w: Any, p: Conv) -> list[str]:
    """List the methods that are used: one that can't do a layer is replaced by another."""
    chosen = {
        cases.get_ops("numba", method).conv_choice(direction, x, w, p)
        for method in cases.conv_methods()
    }
    return sorted(chosen)


def convolve(ops: Any, direction: str, cache: ConvCache, dy: Any) -> Any:
    if direction == "forward":
        return ops.conv_forward(*cache)[0]
    return getattr(ops, f"conv_{direction}")(dy, cache)


@check(
    "pooling of spikes",
    "float32",
    "R4 D12",
    st.tuples(cases.SEEDS, st.sampled_from([(2, 2, 0), (3, 2, 1), (3, 1, 1)])),
    quick=10,
    full=100,
)
def spike_pools(case: Any, record: Recorder) -> None:
    """Check that means of spikes (bytes) equal means of floats: counts are exact in float32."""
    seed, sizes = case
    rng, kernels = np.random.default_rng(seed), cases.get_ops("numba")
    shape = (int(rng.choice([1, 6, 35])), *rng.integers(3, 9, 2), int(rng.choice([1, 17, 40])))
    x, p = (rng.random(shape) < 0.3).astype(np.uint8), AvgPool(*sizes)
    of_windows = agree(record, "R4", "mean of a window", lambda: kernels.avgpool_forward(x, p)[:1])
    of_all = agree(record, "D12", "mean of all", lambda: kernels.global_avgpool_forward(x)[:1])
    for clause, name, got, want in (
        ("R4", "mean of a window", *of_windows, NUMPY.avgpool_forward(x.astype(np.float32), p)[0]),
        (
            "D12",
            "mean of all pixels",
            *of_all,
            NUMPY.global_avgpool_forward(x.astype(np.float32))[0],
        ),
    ):
        record.equal(clause, f"dtype of the {name}", got.dtype, want.dtype)
        record.equal(clause, name, got, want)


@st.composite
def updates(draw: Any) -> Any:
    """Draw arrays below, at and above a task's size, some of them in Fortran order."""
    shape = draw(st.sampled_from([(1,), (5,), (16384,), (16385,), (3, 3, 5, 7), (3, 3, 64, 64)]))
    rng, dtype = np.random.default_rng(draw(cases.SEEDS)), draw(cases.DTYPES)
    arrays = [rng.normal(size=shape).astype(dtype) for _ in range(4)]
    if draw(st.booleans()):
        arrays = [np.asfortranarray(x) for x in arrays]
    i, lr = draw(st.sampled_from([1, 2, 10, 5000])), draw(st.sampled_from([0.1, 0.01, 3e-4]))
    return arrays, i, lr, draw(st.sampled_from([0.0, 0.02, 1e-4]))


@check("updates", "float32", "D17 ALG1-TRAIN EQ5", updates(), quick=20, full=300)
def optimiser_updates(case: Any, record: Recorder) -> None:
    """Check both optimisers and the sum of two gradients bit for bit, in both precisions."""
    (w, g, mean, square), i, lr, decay = case
    kernels, square = cases.get_ops("numba"), np.abs(square)
    sgd, adamw = (w, g, mean, lr, 0.9, decay), (w, g, mean, square, i, lr, decay)
    for name, arguments in (("sgd_update", sgd), ("adamw_update", adamw)):
        update = partial(getattr(kernels, name), *arguments)
        got = agree(record, "D17", name, update)
        for a, b in zip(got, getattr(NUMPY, name)(*arguments), strict=True):
            record.equal("D17 ALG1-TRAIN", f"dtype of {name}", a.dtype, w.dtype)
            record.equal("D17 ALG1-TRAIN", name, a, b)
    total = np.ascontiguousarray(w).copy()
    kernels.add_into(total, g)
    record.equal("EQ5", "sum of two gradients", total, w + g)
