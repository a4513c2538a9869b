"""Checks of fused float32 layers (batch norm, skip and LIF in one pass) against the equations.

With given statistics, potentials and spikes must equal those of the float32 equations bit for bit.
With the batch's statistics, sums are rounded differently, so results are compared with float64.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from refsnn.ops import NUMPY, BatchNorm, NormGrads, NormInput, Running
from verification import cases
from verification.record import Recorder
from verification.registry import check
from verification.twins import agree

EPS = float(np.finfo(np.float32).eps)


@dataclass(repr=False)
class LayerCase:
    neuron: dict[str, Any]
    norm: dict[str, Any]
    main: NormInput
    skip: Any  # None, an array, or a NormInput
    do_seq: Any
    training: bool


#: (T, N, H, W, C): less than a block of the kernels, a few blocks, more than a task of blocks
LAYERS = [
    (3, 2, 3, 3, 5),
    (4, 2, 5, 7, 17),
    (2, 3, 20, 20, 1),
    (2, 2, 3, 3, 1100),
    (1, 2, 9, 9, 64),
    (2, 9, 16, 16, 16),
    (3, 5, 13, 11, 48),
]


ROUNDED = [0.1, 0.7]  # thresholds that float32 rounds, up and down


@st.composite
def layers(draw: Any, training: bool) -> LayerCase:
    neuron, norm = draw(st.sampled_from(cases.COMPILED).flatmap(cases.neurons)), draw(cases.NORMS)
    neuron["v_th"] = draw(st.sampled_from([neuron["v_th"], *ROUNDED]))
    if neuron["surrogate"] == "triangular":
        neuron["width"] = draw(st.sampled_from([None, 0.5, 1.5]))
    shape = draw(st.sampled_from(LAYERS))
    rng = np.random.default_rng(draw(cases.SEEDS))
    main = norm_input(shape, rng)
    sorts = ["none", "array", "spikes", "normed", *(["critical"] * 2 * (not training))]
    skip = draw(st.sampled_from(sorts))
    given = {
        "none": None,
        "critical": None,
        "array": rng.normal(size=shape).astype(np.float32),
        "spikes": (rng.random(shape) < 0.2).astype(np.uint8),
        "normed": norm_input(shape, rng),
    }[skip]
    if skip == "critical":
        main, norm = critical_input(neuron, shape, rng), norm | {"eps": 2.0**-10, "scale": 1.0}
    do_seq = rng.normal(size=shape).astype(np.float32)
    return LayerCase(neuron, norm, main, given, do_seq, training)


def norm_input(shape: tuple[int, ...], rng: Any) -> NormInput:
    """Draw the input of a batch norm.

    A third of the draws have a large mean; in another third the first pixels are unlike the others.
    """
    c = shape[-1]
    x_seq = rng.normal(rng.normal(size=c), rng.uniform(0.5, 2, c), shape)
    sort = rng.integers(3)
    if sort == 0:
        x_seq += 10 * rng.normal(size=c)
    elif sort == 1:
        x_seq[:, 0, 0] += 5
    numbers = [rng.uniform(0.5, 1.5, c), rng.normal(size=c), rng.normal(size=c)]
    *affine, mean, var = (x.astype(np.float32) for x in [*numbers, rng.uniform(0.5, 2, c)])
    return NormInput(x_seq.astype(np.float32), *affine, Running(mean, var))


def critical_input(neuron: dict[str, Any], shape: tuple[int, ...], rng: Any) -> NormInput:
    """Draw potentials on the threshold and the slope's kinks; the batch norm changes nothing.

    After a reset u_pre = c. At every other step, half of the neurons fire for certain; in the other
    half the slope is not 0, so that a gradient flows back to the critical step before.
    """
    held = neuron | {"v_th": float(np.float32(neuron["v_th"]))}
    c_seq = rng.choice(cases.critical_potentials(held, "float32"), shape)
    between = c_seq[1::2].shape
    c_seq[1::2] = np.where(rng.random(between[1:]) < 0.5, 16.0, rng.normal(0.5, 1, between))
    zero, one = np.zeros(shape[-1], np.float32), np.ones(shape[-1], np.float32)
    return NormInput(c_seq.astype(np.float32), one, zero, Running(zero, one - np.float32(2**-10)))


class Composed(NamedTuple):
    lif: Any
    running: list[Running]  # of each batch norm, after this batch
    norms: list[Any]  # their caches


def composed(case: LayerCase, dtype: Any) -> Composed:
    """Compute the equations one after the other."""
    found = Composed(None, [], [])
    c_seq = 0
    for term in (case.main, case.skip):
        if not isinstance(term, NormInput):
            c_seq = c_seq if term is None else c_seq + term.astype(dtype)
            continue
        x_seq, gamma, beta, mean, var = (x.astype(dtype) for x in (*term[:3], *term.running))
        y_seq, running, cache = NUMPY.batchnorm_forward(
            x_seq, gamma, beta, Running(mean, var), BatchNorm(**case.norm), case.training
        )
        found.running.append(running)
        found.norms.append(cache)
        c_seq = c_seq + y_seq
    return found._replace(lif=NUMPY.lif_forward(c_seq, None, cases.lif_of(case.neuron))[1])


def composed_gradients(case: LayerCase, run: Composed, do_seq: Any) -> list[Any]:
    """Return dx, dgamma and dbeta of each batch norm, then dx of a skip without batch norm."""
    dtype = run.lif.u_pre_seq.dtype
    delta_seq = NUMPY.lif_backward(do_seq.astype(dtype), run.lif, constants=False).dc_seq
    grads = [x for norm in run.norms for x in NUMPY.batchnorm_backward(delta_seq, norm)]
    return [*grads, delta_seq] if plain_skip(case) else grads


def plain_skip(case: LayerCase) -> bool:
    return isinstance(case.skip, np.ndarray)


class Fused(NamedTuple):
    o_seq: Any
    cache: Any
    statistics: list[Any]
    grads: list[Any]  # in the order of `composed_gradients`


def fused(case: LayerCase, do_seq: Any) -> Fused:
    """Run the fused kernels forward and backward."""
    ops, p = cases.get_ops("numba"), cases.lif_of(case.neuron)
    o_seq, running, cache = ops.norm_neuron_forward(
        case.main, case.skip, BatchNorm(**case.norm), p, case.training
    )
    d, dskip = ops.norm_neuron_backward(do_seq, cache)
    if not isinstance(dskip, NormGrads):  # without a batch norm in the skip, if there is one
        dskip = [dskip] if plain_skip(case) else []
    return Fused(o_seq, cache, [x for r in running for x in r], [*d, *dskip])


def fused_on_all_threads(case: LayerCase, do_seq: Any, record: Recorder) -> Fused:
    """Run the kernels; check that bits don't depend on the threads and that inputs don't change."""
    before, runs = [case.main.x_seq.copy(), do_seq.copy()], []

    def run() -> list[Any]:
        runs.append(fused(case, do_seq))
        return [runs[-1].o_seq, *runs[-1].statistics, *runs[-1].grads]

    agree(record, "EQ1 EQ3", "fused layer", run)
    inputs = case.main.x_seq, do_seq
    for name, now, then in zip(("c_seq", "do_seq"), inputs, before, strict=True):
        record.equal("EQ1 EQ3", f"{name} unmutated", now, then)
    return runs[0]


def gradient_sizes(case: LayerCase, run: Composed, do_seq: Any) -> list[Any]:
    """Return the sum of each gradient's absolute terms, with the slope at its steepest."""
    h, tau = cases.steepest(case.neuron), case.neuron["tau"]
    size_seq, size = np.empty(do_seq.shape), 0.0
    for t in reversed(range(len(do_seq))):
        size = np.abs(do_seq[t]) * h + tau * (1 + np.abs(run.lif.u_pre_seq[t]) * h) * size
        size_seq[t] = size
    found, axes = [], (0, 1, 2, 3)
    for norm in run.norms:
        x_hat, scale = np.abs(norm.x_hat), case.norm["scale"]
        through = size_seq
        if norm.axes:
            along = (size_seq * x_hat).mean(axis=norm.axes, keepdims=True)
            through = size_seq + size_seq.mean(axis=norm.axes, keepdims=True) + x_hat * along
        found += [
            through * np.abs(norm.gamma * scale) * norm.inv_std,
            (size_seq * x_hat).sum(axis=axes) * scale,
            size_seq.sum(axis=axes),
        ]
    return [*found, size_seq] if plain_skip(case) else found


def compare_gradients(
    case: LayerCase,
    run: Composed,
    do_seq: Any,
    grads: list[Any],
    tolerance: float,
    record: Recorder,
    chain: int = 0,
) -> None:
    """Compare gradients within `tolerance` times their terms' sizes.

    Sums over `chain` terms in float32 may be off by one more eps per term.
    """
    slope = cases.slope_clause(case.neuron)
    clauses = f"{cases.reset_clause(case.neuron)} {slope} EQ5 D8"
    wanted, sizes = composed_gradients(case, run, do_seq), gradient_sizes(case, run, do_seq)
    record.values_ok()
    record.equal(clauses, "number of gradients", len(grads), len(wanted))
    names = ["dx_seq", "dgamma", "dbeta", "skip's dx_seq", "skip's dgamma", "skip's dbeta"]
    for name, got, want, size in zip(names, grads, wanted, sizes, strict=False):
        size = np.maximum(size, 1e-30)  # where the terms are all 0, so is the gradient
        record.equal(clauses, f"dtype of {name}", got.dtype, np.float32)
        allowed = tolerance + (chain * EPS if got.ndim == 1 else 0.0)
        record.close(
            clauses, f"{name}, as a share of its terms", got / size, want / size, allowed, 1.0
        )


LAYER = "EQ1 EQ2 EQ5 D2 EQ3 D3 EQ4 D5 R5 R6 D8"


@check("fused layers, given statistics", "float32", LAYER, layers(False), quick=25, full=400)
def layers_given_statistics(case: Any, record: Recorder) -> None:
    """Compare with the float32 equations, whose potentials, even critical ones, must be equal.

    At each step, a slope may be off by 16 eps of the steepest (its tanh by 4), and products and the
    two sums by a few eps more.
    """
    want, steps = composed(case, np.float32), len(case.do_seq)
    got = fused_on_all_threads(case, case.do_seq, record)
    u_pre_seq, clause = got.cache.lif.u_pre_seq, "D2" if case.neuron["fire_at_threshold"] else "EQ2"
    record.equal(f"{clause} EQ5", "spikes", got.o_seq, want.lif.o_seq, "tnhwc")
    record.equal("EQ1 D8", "potentials computed again", u_pre_seq, want.lif.u_pre_seq, "tnhwc")
    chain = 32 + 1024 // case.main.gamma.size + sum(case.do_seq.shape[:4])  # sums in float32
    compare_gradients(case, want, case.do_seq, got.grads, 24 * steps * EPS, record, chain)


NEAR = 1e-4  # distance from the threshold or a kink within which float32 may decide otherwise
OF_BATCH = 2e-5  # the tolerance of every single operation in float32


@check(
    "fused layers, the batch's statistics",
    "float32",
    f"{LAYER} D25",
    layers(True),
    quick=25,
    full=400,
)
def layers_of_batch(case: Any, record: Recorder) -> None:
    """Compare with float64, leaving out neurons near the threshold or a kink at any step.

    Their spikes are not compared, and their dL/do is set to 0, so that they add to no gradient.
    """
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
    clause = "D2" if case.neuron["fire_at_threshold"] else "EQ2"
    record.equal(f"{clause} EQ5 D8", "spikes", got.o_seq * clear, want.lif.o_seq * clear, "tnhwc")
    compare_gradients(case, want, do_seq, got.grads, OF_BATCH, record)
