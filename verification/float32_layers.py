"""Batch norm, skip and LIF in one pass over float32, against the equations one after the other.

Given statistics, the potentials and so the spikes are those of the float32 equations to the bit;
with the batch's own, sums are rounded otherwise, and float64 is the judge.
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
    of: NormInput
    skip: Any  # None, an array, or a NormInput
    do_seq: Any
    training: bool


#: (T, N, H, W, C): below a block of the kernels, a few blocks, more than a task of them
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
    neuron, norm = draw(cases.neurons()), draw(cases.NORMS)
    neuron["v_th"] = draw(st.sampled_from([neuron["v_th"], *ROUNDED]))
    if neuron["surrogate"] == "triangular":
        neuron["width"] = draw(st.sampled_from([None, 0.5, 1.5]))
    shape = draw(st.sampled_from(LAYERS))
    rng = np.random.default_rng(draw(cases.SEEDS))
    of = norm_input(shape, rng)
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
        of, norm = critical_input(neuron, shape, rng), norm | {"eps": 2.0**-10, "scale": 1.0}
    do_seq = rng.normal(size=shape).astype(np.float32)
    return LayerCase(neuron, norm, of, given, do_seq, training)


def norm_input(shape: tuple[int, ...], rng: Any) -> NormInput:
    """A third of the draws have a large mean, a third begin with pixels unlike the others."""
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
    """Potentials on the threshold and the slope's edges, past a batch norm that changes nothing.

    After a reset u_pre = c: every other step fires for certain in half of the neurons; in the
    others its slope is not 0, so that a gradient comes back to what the critical step left.
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


def gradient_sizes(case: LayerCase, of: Composed, do_seq: Any) -> list[Any]:
    """The sum of the terms of each gradient without their signs, the slope at its steepest."""
    h, tau = cases.steepest(case.neuron), case.neuron["tau"]
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
            (size_seq * x_hat).sum(axis=axes) * scale,
            size_seq.sum(axis=axes),
        ]
    return [*found, size_seq] if plain_skip(case) else found


def compare_gradients(
    case: LayerCase,
    of: Composed,
    do_seq: Any,
    grads: list[Any],
    tolerance: float,
    record: Recorder,
    chain: int = 0,
) -> None:
    """Each within `tolerance` of its terms' sizes, sums within one eps more for each of a chain."""
    slope = "D5" if case.neuron["surrogate"].startswith("tanh") else "EQ4"
    clauses = f"{'D3' if case.neuron['reset_gradient'] == 'detached' else 'EQ3'} {slope} EQ5 D8"
    wanted, sizes = composed_gradients(case, of, do_seq), gradient_sizes(case, of, do_seq)
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


LAYER = "EQ1 EQ2 EQ5 D2 EQ3 D3 EQ4 D5 D8"


@check("fused layers, given statistics", "float32", LAYER, layers(False), quick=25, full=400)
def layers_given_statistics(case: Any, record: Recorder) -> None:
    """The potentials are those of the float32 equations bit for bit, critical ones too, and so are
    the brackets. A slope is off by 16 eps of the steepest at most (its tanh by 4), products and
    the two sums by a few more, at each step."""
    want, steps = composed(case, np.float32), len(case.do_seq)
    got = fused_on_all_threads(case, case.do_seq, record)
    u_pre_seq, clause = got.cache.lif.u_pre_seq, "D2" if case.neuron["fire_at_threshold"] else "EQ2"
    record.equal(f"{clause} EQ5", "spikes", got.o_seq, want.lif.o_seq, "tnhwc")
    record.equal("EQ1 D8", "potentials computed again", u_pre_seq, want.lif.u_pre_seq, "tnhwc")
    chain = 32 + 1024 // case.of.gamma.size + sum(case.do_seq.shape[:4])  # of sums in float32
    compare_gradients(case, want, case.do_seq, got.grads, 24 * steps * EPS, record, chain)


NEAR = 1e-4  # of the threshold or a kink: there float32 may decide otherwise
OF_BATCH = 2e-5  # as of every single operation in float32


@check(
    "fused layers, the batch's statistics",
    "float32",
    f"{LAYER} D25",
    layers(True),
    quick=25,
    full=400,
)
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
    clause = "D2" if case.neuron["fire_at_threshold"] else "EQ2"
    record.equal(f"{clause} EQ5 D8", "spikes", got.o_seq * clear, want.lif.o_seq * clear, "tnhwc")
    compare_gradients(case, want, do_seq, got.grads, OF_BATCH, record)
