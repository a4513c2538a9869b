"""The kernels that float32 has to itself, against the NumPy equations: convolutions by every
method, batch norm with the skip and LIF in one pass, pooling of spikes, the optimisers' rules.

Shapes cross the kernels' blocks: vectors of 16 channels, 4x4 tiles, tasks of many images.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from refsnn.equations.conv import ConvCache
from refsnn.ops import NUMPY, AvgPool, BatchNorm, Conv, NormGrads, NormInput, Running
from verification import cases
from verification.record import Recorder
from verification.registry import check
from verification.twins import agree, agrees_by_method

EPS = float(np.finfo(np.float32).eps)
CHANNELS = [1, 3, 5, 15, 16, 17, 32, 48, 64, 80]
PRODUCTS = 3e7  # of a drawn convolution, at most
DIRECTIONS = {"forward": "EQ1", "input_gradient": "EQ8", "weight_gradient": "EQ3"}


@st.composite
def convs(draw: Any) -> Any:
    """(x, w, dy, p); half of the draws are what Winograd's method can do, half have spikes."""
    minimal = draw(st.booleans())
    channels = st.sampled_from([c for c in CHANNELS if not minimal or c % 16 == 0])
    c_in, c_out = draw(channels), draw(channels)
    kernel = draw(st.sampled_from([(3, 3)] if minimal else [(3, 3), (1, 1), (5, 3), (7, 7)]))
    padding = draw(st.sampled_from([(1, 1), (0, 0), (2, 1), (3, 3)][: 3 if minimal else 4]))
    p = Conv(draw(st.sampled_from([(1, 1)] if minimal else [(1, 1), (2, 2), (1, 2)])), padding)
    size = [
        max(k - 2 * pad, 1) + draw(st.integers(0, 9))
        for k, pad in zip(kernel, padding, strict=True)
    ]
    each = np.prod(size) * np.prod(kernel) * c_in * c_out
    images = draw(st.sampled_from([n for n in (33, 5, 2, 1) if n * each < PRODUCTS] or [1]))
    rng = np.random.default_rng(draw(cases.SEEDS))
    x = rng.normal(size=(images, *size, c_in)).astype(np.float32)
    if draw(st.booleans()):
        share = draw(st.sampled_from([0.1, 0.02, 0.3, 0.0, 1.0]))
        x = (rng.random(x.shape) < share).astype(np.uint8)
    w = rng.normal(size=(*kernel, c_in, c_out)).astype(np.float32)
    shape = NUMPY.conv_forward(x.astype(w.dtype), w, p)[0].shape
    return x, w, rng.normal(size=shape).astype(np.float32), p


@check("convolution methods", "float32", "EQ1 EQ3 EQ8", convs(), quick=40, full=600)
def conv_methods(case: Any, record: Recorder) -> None:
    """Each direction by each method that can do it, on one thread and on all."""
    x, w, dy, p = case
    products = {
        "forward": np.prod(w.shape[:3]), "input_gradient": w.size / w.shape[2],
        "weight_gradient": np.prod(dy.shape[:3]),
    }  # fmt: skip
    exact = ConvCache(x.astype(float), w.astype(float), p)
    sizes = ConvCache(np.abs(exact.x), np.abs(exact.w), p)
    for direction, clause in DIRECTIONS.items():
        want = convolve(NUMPY, direction, exact, dy.astype(float))
        bound = convolve(NUMPY, direction, sizes, np.abs(dy).astype(float))
        for method in methods(direction, x, w, p):
            kernels, name = cases.get_ops("numba", method), f"{direction} by {method}"
            (got,) = agree(
                record, clause, name,
                lambda ops=kernels, d=direction: (convolve(ops, d, ConvCache(x, w, p), dy),),
            )  # fmt: skip
            record.equal(clause, f"dtype of {name}", got.dtype, w.dtype)
            agrees_by_method(
                record, clause, name, got, want, products[direction], bound, EPS, method
            )
        record.values_ok()


def methods(direction: str, x: Any, w: Any, p: Conv) -> list[str]:
    """Those that are really taken: one that can't do a layer gives way to another."""
    chosen = {
        cases.get_ops("numba", method).conv_choice(direction, x, w, p)
        for method in cases.conv_methods()
    }
    return sorted(chosen - event_faults(direction, w, p))


def event_faults(direction: str, w: Any, p: Conv) -> set[str]:
    """Known faults, left out until they are repaired: a last block of columns that is narrower
    than the others, and taps that meet no pixel where only one of the strides is above 1."""
    narrow = w.shape[3] > 64 and 0 < w.shape[3] % 64 <= 16
    one_stride = direction == "weight_gradient" and min(p.stride) == 1 < max(p.stride)
    return {"event"} if narrow or one_stride else set()


def convolve(ops: Any, direction: str, cache: ConvCache, dy: Any) -> Any:
    if direction == "forward":
        return ops.conv_forward(*cache)[0]
    return getattr(ops, f"conv_{direction}")(dy, cache)


@dataclass(repr=False)
class LayerCase:
    neuron: dict[str, Any]
    norm: dict[str, Any]
    of: NormInput
    skip: Any  # None, an array, or a NormInput
    do_seq: Any
    training: bool


#: (T, N, H, W, C): below a block of the kernels, a few blocks, more than a task of them
LAYERS = [
    (3, 2, 3, 3, 5), (4, 2, 5, 7, 17), (2, 3, 20, 20, 1), (2, 2, 3, 3, 1100), (1, 2, 9, 9, 64),
    (2, 9, 16, 16, 16), (3, 5, 13, 11, 48),
]  # fmt: skip


@st.composite
def layers(draw: Any, training: bool) -> LayerCase:
    neuron, norm = draw(cases.neurons()), draw(cases.NORMS)
    shape = draw(st.sampled_from(LAYERS))
    rng = np.random.default_rng(draw(cases.SEEDS))
    of = norm_input(shape, rng)
    skip = draw(st.sampled_from(["none", "array", "spikes", "normed"]))
    given = {
        "none": None, "array": rng.normal(size=shape).astype(np.float32),
        "spikes": (rng.random(shape) < 0.2).astype(np.uint8), "normed": norm_input(shape, rng),
    }[skip]  # fmt: skip
    if not training and skip == "none" and draw(st.booleans()):
        of, norm = critical_input(neuron, shape, rng), norm | {"eps": 2.0**-10, "scale": 1.0}
    do_seq = rng.normal(size=shape).astype(np.float32)
    return LayerCase(neuron, norm, of, given, do_seq, training)


def norm_input(shape: tuple[int, ...], rng: Any) -> NormInput:
    c = shape[-1]
    x_seq = rng.normal(rng.normal(size=c), rng.uniform(0.5, 2, c), shape)
    numbers = [rng.uniform(0.5, 1.5, c), rng.normal(size=c), rng.normal(size=c)]
    *affine, mean, var = (x.astype(np.float32) for x in [*numbers, rng.uniform(0.5, 2, c)])
    return NormInput(x_seq.astype(np.float32), *affine, Running(mean, var))


def critical_input(neuron: dict[str, Any], shape: tuple[int, ...], rng: Any) -> NormInput:
    """Potentials on the threshold and the slope's edges, past a batch norm that changes nothing;
    every other step fires for certain, since after a reset u_pre = c."""
    c_seq = rng.choice(cases.critical_potentials(neuron, "float32"), shape)
    c_seq[1::2] = 16.0
    zero, one = np.zeros(shape[-1], np.float32), np.ones(shape[-1], np.float32)
    return NormInput(c_seq.astype(np.float32), one, zero, Running(zero, one - np.float32(2**-10)))


class Composed(NamedTuple):
    lif: Any
    running: list[Running]  # of each batch norm, after this batch
    norms: list[Any]  # their caches


def composed(case: LayerCase, dtype: Any) -> Composed:
    """The equations one after the other."""
    found = Composed(None, [], [])
    c_seq = 0
    for of in (case.of, case.skip):
        if not isinstance(of, NormInput):
            c_seq = c_seq if of is None else c_seq + of.astype(dtype)
            continue
        x_seq, gamma, beta, mean, var = (x.astype(dtype) for x in (*of[:3], *of.running))
        y_seq, running, cache = NUMPY.batchnorm_forward(
            x_seq, gamma, beta, Running(mean, var), BatchNorm(**case.norm), case.training
        )
        found.running.append(running)
        found.norms.append(cache)
        c_seq = c_seq + y_seq
    return found._replace(lif=NUMPY.lif_forward(c_seq, None, cases.lif_of(case.neuron))[1])


def composed_gradients(case: LayerCase, of: Composed, do_seq: Any) -> list[Any]:
    """dx, dgamma, dbeta of each batch norm, and then the skip's dx where it has none."""
    dtype = of.lif.u_pre_seq.dtype
    delta_seq = NUMPY.lif_backward(do_seq.astype(dtype), of.lif, constants=False).dc_seq
    grads = [x for norm in of.norms for x in NUMPY.batchnorm_backward(delta_seq, norm)]
    return [*grads, delta_seq] if plain_skip(case) else grads


def plain_skip(case: LayerCase) -> bool:
    return isinstance(case.skip, np.ndarray)


class Fused(NamedTuple):
    o_seq: Any
    cache: Any
    statistics: list[Any]
    grads: list[Any]  # as `composed_gradients` has them


def fused(case: LayerCase, do_seq: Any) -> Fused:
    """What the kernels give."""
    ops, p = cases.get_ops("numba"), cases.lif_of(case.neuron)
    o_seq, running, cache = ops.norm_neuron_forward(
        case.of, case.skip, BatchNorm(**case.norm), p, case.training
    )
    d, dskip = ops.norm_neuron_backward(do_seq, cache)
    if not isinstance(dskip, NormGrads):  # absent where there is no skip, or of no use
        dskip = [dskip] if plain_skip(case) else []
    return Fused(o_seq, cache, [x for r in running for x in r], [*d, *dskip])


def fused_on_all_threads(case: LayerCase, do_seq: Any, record: Recorder) -> Fused:
    """The same bits on any number of threads, and inputs that stay as they were."""
    before, runs = [case.of.x_seq.copy(), do_seq.copy()], []

    def run() -> list[Any]:
        runs.append(fused(case, do_seq))
        return [runs[-1].o_seq, *runs[-1].statistics, *runs[-1].grads]

    agree(record, "EQ1 EQ3", "fused layer", run)
    for name, now, then in zip(("c_seq", "do_seq"), (case.of.x_seq, do_seq), before, strict=True):
        record.equal("EQ1 EQ3", f"{name} unmutated", now, then)
    return runs[0]


def steepest(neuron: dict[str, Any]) -> float:
    shape = neuron["shape"]
    return {"tanh_literal": 4 * shape, "rectangular": 1 / shape}.get(neuron["surrogate"], shape)


def gradient_sizes(case: LayerCase, of: Composed, do_seq: Any) -> list[Any]:
    """The sum of the terms of each gradient without their signs, the slope at its steepest."""
    h, tau = steepest(case.neuron), case.neuron["tau"]
    size_seq, size = np.empty(do_seq.shape), 0.0
    for t in reversed(range(len(do_seq))):
        size = np.abs(do_seq[t]) * h + tau * (1 + np.abs(of.lif.u_pre_seq[t]) * h) * size
        size_seq[t] = size
    found, axes = [], (0, 1, 2, 3)
    for norm in of.norms:
        x_hat, scale = np.abs(norm.x_hat), case.norm["scale"]
        through = size_seq
        if norm.axes:
            along = (size_seq * x_hat).mean(axis=norm.axes, keepdims=True)
            through = size_seq + size_seq.mean(axis=norm.axes, keepdims=True) + x_hat * along
        found += [
            through * np.abs(norm.gamma * scale) * norm.inv_std,
            (size_seq * x_hat).sum(axis=axes) * scale, size_seq.sum(axis=axes),
        ]  # fmt: skip
    return [*found, size_seq] if plain_skip(case) else found


def compare_gradients(
    case: LayerCase, of: Composed, do_seq: Any, grads: list[Any], tolerance: float, record: Recorder
) -> None:
    """Each within `tolerance` of its terms' sizes."""
    slope = "D5" if case.neuron["surrogate"].startswith("tanh") else "EQ4"
    clauses = f"{'D3' if case.neuron['detach_reset'] else 'EQ3'} {slope} EQ5 D8"
    wanted, sizes = composed_gradients(case, of, do_seq), gradient_sizes(case, of, do_seq)
    record.values_ok()
    record.equal(clauses, "number of gradients", len(grads), len(wanted))
    names = ["dx_seq", "dgamma", "dbeta", "skip's dx_seq", "skip's dgamma", "skip's dbeta"]
    for name, got, want, size in zip(names, grads, wanted, sizes, strict=False):
        size = np.maximum(size, 1e-30)  # where the terms are all 0, so is the gradient
        record.equal(clauses, f"dtype of {name}", got.dtype, np.float32)
        record.close(clauses, f"{name}, as a share of its terms", got / size, want / size,
                     tolerance, 1.0)  # fmt: skip


LAYER = "EQ1 EQ2 EQ5 D2 EQ3 D3 EQ4 D5 D8"


@check("fused layers, given statistics", "float32", LAYER, layers(False), quick=25, full=400)
def layers_given_statistics(case: Any, record: Recorder) -> None:
    """The potentials are those of the float32 equations bit for bit, critical ones too, and so are
    the brackets. A slope is off by 16 eps of the steepest at most (its tanh by 4), products and
    the two sums by a few more, at each step."""
    want, steps = composed(case, np.float32), len(case.do_seq)
    got = fused_on_all_threads(case, case.do_seq, record)
    u_pre_seq, clause = got.cache.lif.u_pre_seq, "D2" if case.neuron["inclusive"] else "EQ2"
    record.equal(f"{clause} EQ5", "spikes", got.o_seq, want.lif.o_seq, "tnhwc")
    record.equal("EQ1 D8", "potentials computed again", u_pre_seq, want.lif.u_pre_seq, "tnhwc")
    chain = 32 + 1024 // case.of.gamma.size + sum(case.do_seq.shape[:4])  # of sums in float32
    tolerance = (24 * steps + chain) * EPS
    compare_gradients(case, want, case.do_seq, got.grads, tolerance, record)


NEAR = 1e-4  # of the threshold or a kink: there float32 may decide otherwise
OF_BATCH = 2e-5  # as of every single operation in float32


@check("fused layers, the batch's statistics", "float32", f"{LAYER} D25", layers(True),
       quick=25, full=400)  # fmt: skip
def layers_of_batch(case: Any, record: Recorder) -> None:
    """Against float64. A neuron that at any step is near its threshold or a kink is left out: its
    spikes are not compared, and dL/do is 0 there, so that it adds nothing to any gradient."""
    want = composed(case, np.float64)
    away = np.full(case.do_seq.shape, np.inf)
    for kink in [0.0, *cases.kinks(case.neuron)]:
        away = np.minimum(away, np.abs(want.lif.u_pre_seq - case.neuron["v_th"] - kink))
    clear = (away > NEAR).all(axis=0)
    if clear.mean() < 0.98 or max(norm.inv_std.max() for norm in want.norms) > 100:
        record.reject()
    do_seq = case.do_seq * clear
    got = fused_on_all_threads(case, do_seq, record)
    running = [x for r in want.running for x in r]
    for name, now, then in zip(["mean", "variance"] * 2, got.statistics, running, strict=False):
        record.close("D25 D8", f"running {name}", now, then, OF_BATCH)
    clause = "D2" if case.neuron["inclusive"] else "EQ2"
    record.equal(f"{clause} EQ5 D8", "spikes", got.o_seq * clear, want.lif.o_seq * clear, "tnhwc")
    compare_gradients(case, want, do_seq, got.grads, OF_BATCH, record)


@check("pooling of spikes", "float32", "R4 D12",
       st.tuples(cases.SEEDS, st.sampled_from([(2, 2, 0), (3, 2, 1), (3, 1, 1)])),
       quick=10, full=100)  # fmt: skip
def spike_pools(case: Any, record: Recorder) -> None:
    """Counts are exact in float32, so that a mean of bytes is rounded once, as of floats."""
    seed, sizes = case
    rng, kernels = np.random.default_rng(seed), cases.get_ops("numba")
    shape = (int(rng.choice([1, 6, 35])), *rng.integers(3, 9, 2), int(rng.choice([1, 17, 40])))
    x, p = (rng.random(shape) < 0.3).astype(np.uint8), AvgPool(*sizes)
    for clause, name, got, want in (
        ("R4", "mean of a window", kernels.avgpool_forward(x, p)[0],
         NUMPY.avgpool_forward(x.astype(np.float32), p)[0]),
        ("D12", "mean of all pixels", kernels.global_avgpool_forward(x)[0],
         NUMPY.global_avgpool_forward(x.astype(np.float32))[0]),
    ):  # fmt: skip
        record.equal(clause, f"dtype of the {name}", got.dtype, want.dtype)
        record.equal(clause, name, got, want)


@st.composite
def updates(draw: Any) -> Any:
    """Arrays below, at and above a task's size, some laid out by columns."""
    shape = draw(st.sampled_from([(1,), (5,), (16384,), (16385,), (3, 3, 5, 7), (3, 3, 64, 64)]))
    rng, dtype = np.random.default_rng(draw(cases.SEEDS)), draw(cases.DTYPES)
    arrays = [rng.normal(size=shape).astype(dtype) for _ in range(4)]
    if draw(st.booleans()):
        arrays = [np.asfortranarray(x) for x in arrays]
    i, lr = draw(st.sampled_from([1, 2, 10, 5000])), draw(st.sampled_from([0.1, 0.01, 3e-4]))
    return arrays, i, lr, draw(st.sampled_from([0.0, 0.02, 1e-4]))


@check("updates", "float32", "D17 ALG1-TRAIN", updates(), quick=20, full=300)
def optimiser_updates(case: Any, record: Recorder) -> None:
    """Both rules bit for bit, in both precisions."""
    (w, g, mean, square), i, lr, decay = case
    kernels, square = cases.get_ops("numba"), np.abs(square)
    sgd, adamw = (w, g, mean, lr, 0.9, decay), (w, g, mean, square, i, lr, decay)
    for name, arguments in (("sgd_update", sgd), ("adamw_update", adamw)):
        update = partial(getattr(kernels, name), *arguments)
        got = agree(record, "D17", name, update)
        for a, b in zip(got, getattr(NUMPY, name)(*arguments), strict=True):
            record.equal("D17 ALG1-TRAIN", f"dtype of {name}", a.dtype, w.dtype)
            record.equal("D17 ALG1-TRAIN", name, a, b)
