"""Checks of gradients against finite differences of the smooth network.

The spiking network's true derivative is zero almost everywhere. Here the neurons fire the
surrogate's primitive, and then the derivative is that of Eq. 3.

Central differences are extrapolated (Romberg). A draw is rejected, and counted, where a potential
of any evaluation lies on another side of a kink of the primitive than at the base point, or where
the last two extrapolations differ by more than a tenth of the tolerance, or where the gradient is
smaller than what rounding does to the differences, as for logits that leave one class alone.

With a detached reset, Eq. 3 is the derivative of a network whose resets stay those of the base
point. `frozen` implements such a neuron independently of the package.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refsnn.equations import loss
from refsnn.equations.batchnorm import BatchNorm, Running, batchnorm_backward, batchnorm_forward
from refsnn.equations.lif import LIF, reset
from refsnn.equations.surrogate import Triangular
from refsnn.network import backward, forward, neuron_caches
from refsnn.ops import NUMPY, LIFCache
from verification import cases
from verification.networks import every_clause, inner, length, parameter_clause, random_direction
from verification.operations import logit_cases
from verification.record import Recorder
from verification.registry import check

TOLERANCE = 1e-7
EPS = np.finfo(np.float64).eps  # of a loss, which is the logarithm of a sum of at least 1
LEVELS = 4
Function = Callable[[float], tuple[Any, list[Any]]]  # step -> values, potentials by layer


def derivative(f: Function, h: float) -> tuple[Any, Any, list[list[Any]]]:
    """Return df/ds at 0, an estimate of its error, and the potentials of every evaluation.

    Central differences of h, h/2, ... are extrapolated; the estimate is the difference of the last
    two extrapolations.
    """
    table: list[list[Any]] = []
    potentials = []
    for level in range(LEVELS):
        step = h / 2**level
        (above, at_above), (below, at_below) = f(step), f(-step)
        potentials += [at_above, at_below]
        row = [(above - below) / (2 * step)]
        for k, previous in enumerate(table[-1] if table else []):
            row.append(row[k] + (row[k] - previous) / (4 ** (k + 1) - 1))
        table.append(row)
    return table[-1][-1], np.abs(table[-1][-1] - table[-2][-1]), potentials


def compare_in_a_direction(
    value_of: Callable[[Any], float], params: Any, grads: Any, rng: Any, record: Any, clauses: str
) -> None:
    """Compare <grad, v> with differences of a smooth network's loss, for a random v.

    `value_of` gives the loss of parameters; its surrogate has no kinks.
    """
    direction = random_direction(params, rng)

    def along(s: float) -> tuple[Any, list[Any]]:
        return value_of({name: x + s * direction[name] for name, x in params.items()}), []

    got, least = inner(grads, direction), length(grads)
    for h in (3e-3, 3e-4, 3e-5):
        want, doubt, _ = derivative(along, h)
        scale = max(least, abs(want)) or 1.0
        if doubt <= TOLERANCE / 10 * scale:
            break
    else:
        record.reject()
    record.values_ok()
    record.close(clauses, "<grad, v> for v in all parameters", got, want, TOLERANCE, scale)


def crosses(neuron: dict[str, Any], base: list[Any], others: list[list[Any]]) -> bool:
    """Tell whether any potential is on another side of a kink than at the base point."""
    edges = [neuron["v_th"] + k for k in cases.kinks(neuron)]
    return any(
        ((u > edge) != (b > edge)).any()
        for layers in others
        for b, u in zip(base, layers, strict=True)
        for edge in edges
    )


def frozen(c_seq: Any, u0: Any, p: LIF, o_base: Any) -> tuple[Any, Any]:
    """Simulate a smooth neuron whose resets are o_base; return (o_seq, u_pre_seq)."""
    u, o_seq, u_pre_seq = u0, [], []
    for c, o_fixed in zip(c_seq, o_base, strict=True):
        u_pre = p.tau * u + c
        o_seq.append(p.surrogate.primitive(u_pre - p.v_th, p.v_th))
        u_pre_seq.append(u_pre)
        u = reset(u_pre, o_fixed, p)
    return np.array(o_seq), np.array(u_pre_seq)


def run_lif(c_seq: Any, u0: Any, p: LIF, o_base: Any) -> tuple[Any, Any]:
    """Simulate the package's smooth neuron, or the frozen one where the reset is detached."""
    if p.reset_gradient == "detached":
        return frozen(c_seq, u0, p, o_base)
    o_seq, cache = NUMPY.lif_forward(c_seq, u0, p)
    return o_seq, cache.u_pre_seq


@check(
    "LIF Jacobian",
    "differences",
    "EQ1 EQ2 EQ3 D3 EQ4 D5 R1 R5 R6 D6",
    cases.lif_cases(smooth=True),
    quick=25,
    full=600,
)
def lif_jacobian(case: Any, record: Recorder) -> None:
    """Compare the whole Jacobian of o_seq with respect to c_seq, u0, tau and v_th.

    Its rows come from unit cotangents, its columns from finite differences.
    """
    neuron = case.neuron | {"tau": min(case.neuron["tau"], 0.95)}  # room above tau
    p = cases.lif_of(neuron, smooth=True)
    if neuron["surrogate"] == "triangular":  # its width stays the same while v_th changes (R1)
        p = replace(p, surrogate=Triangular(neuron["surrogate_shape"], neuron["v_th"]))
    c_seq, n = case.c_seq[:3, :2], case.c_seq[:3, :2].shape[1]
    u0 = np.zeros(n) if case.u0 is None else case.u0[:n]
    o_seq, cache = NUMPY.lif_forward(c_seq, u0, p)
    same, u_pre_seq = run_lif(c_seq, u0, p, o_seq)
    record.equal("EQ2", "o_seq with frozen resets", same, o_seq, "tn")
    record.values_ok()
    rows = [case.ops.lif_backward(e.reshape(o_seq.shape), cache) for e in np.eye(o_seq.size)]
    clause = cases.reset_clause(neuron)
    slope = "EQ4" if neuron["surrogate"] == "tanh" else cases.slope_clause(neuron)

    def moved(dc: Any, du: Any, dtau: float, dv: float) -> Function:
        def f(s: float) -> tuple[Any, list[Any]]:
            moving = replace(p, tau=p.tau + s * dtau, v_th=p.v_th + s * dv)
            o, u_pre = run_lif(c_seq + s * dc, u0 + s * du, moving, o_seq)
            return o.reshape(-1), [u_pre - s * dv]  # kinks move with v_th

        return f

    def column(name: str, blame: str, f: Function, got: Any) -> None:
        want, doubt, potentials = derivative(f, 1e-2)
        if crosses(neuron, [u_pre_seq], potentials) or doubt.max() > TOLERANCE / 10:
            record.reject()
        scale = max(1.0, float(np.abs(want).max()))
        record.close(blame, f"d o_seq / d {name}", got, want, TOLERANCE, scale)

    zero, none = np.zeros_like(c_seq), np.zeros_like(u0)
    for index, e in enumerate(np.eye(c_seq.size)):
        got = np.array([row.dc_seq.reshape(-1)[index] for row in rows])
        name = "c_seq[t={},n={}]".format(*np.unravel_index(index, c_seq.shape))
        column(name, f"{clause} {slope} EQ1", moved(e.reshape(c_seq.shape), none, 0, 0), got)
    for index, e in enumerate(np.eye(n)):
        got = np.array([row.du0[index] for row in rows])
        column(f"u0[n={index}]", f"{clause} D6", moved(zero, e, 0, 0), got)
    column("tau", f"{clause} EQ1", moved(zero, none, 1, 0), np.array([r.dtau for r in rows]))
    column("v_th", "R1", moved(zero, none, 0, 1), np.array([r.dv_th for r in rows]))


@check("primitives", "differences", "EQ4 D5 R5", cases.lif_cases(smooth=True), quick=40, full=1000)
def primitives(case: Any, record: Recorder) -> None:
    """Check that the slope is the derivative of the primitive; for tanh also by a complex step."""
    surrogate, v_th = cases.surrogate_of(case.neuron), case.neuron["v_th"]
    x = 2 * case.c_seq.reshape(-1)
    clause = cases.slope_clause(case.neuron)
    slope = surrogate.slope(x, v_th)

    def f(s: float) -> tuple[Any, list[Any]]:
        return surrogate.primitive(x + s, v_th), [x + s + v_th]

    want, doubt, potentials = derivative(f, 1e-2)
    if crosses(case.neuron, [x + v_th], potentials) or doubt.max() > TOLERANCE / 10:
        record.reject()
    record.close(clause, "slope", slope, want, TOLERANCE, max(1.0, np.abs(want).max()), "u")
    if case.neuron["surrogate"] == "tanh":
        step = surrogate.primitive(x + 1e-30j, v_th).imag / 1e-30
        record.close("D5 EQ4", "slope by complex step", slope, step, 1e-15, 1.0, "u")


@check("batch norm Jacobian", "differences", "D8", cases.norm_cases(), quick=25, full=500)
def norm_jacobian(case: Any, record: Recorder) -> None:
    """Compare the derivatives of <dy, y> with respect to every x, gamma and beta."""
    p, running = BatchNorm(**case.norm), Running(case.mean, case.var)
    x, gamma, beta = case.x_seq, case.gamma, case.beta
    axes = (0, 1, 2, 3) if case.norm["statistics"] == "pooled" else (1, 2, 3)
    group = np.prod([x.shape[a] for a in axes])
    if case.training and group > 1 and x.std(axis=axes).min() < 0.2:
        record.reject()  # curvature grows as the third power of 1 / std

    def value(x: Any, gamma: Any, beta: Any) -> float:
        y, _, _ = batchnorm_forward(x, gamma, beta, running, p, case.training)
        return float((y * case.dy_seq).sum())

    _, _, cache = batchnorm_forward(x, gamma, beta, running, p, case.training)
    got = batchnorm_backward(case.dy_seq, cache)
    scale = max(1.0, float(np.abs(got[0]).max()))
    for index in range(x.size):
        e = np.zeros(x.size)
        e[index] = 1
        e = e.reshape(x.shape)
        want, doubt, _ = derivative(lambda s, e=e: (value(x + s * e, gamma, beta), []), 1e-2)
        if doubt > TOLERANCE / 10 * scale:
            record.reject()
        record.close("D8", f"dx_seq[{index}]", got[0].flat[index], want, TOLERANCE, scale)
    for index, e in enumerate(np.eye(len(gamma))):
        want, _, _ = derivative(lambda s, e=e: (value(x, gamma + s * e, beta), []), 1e-1)
        record.close("D8", f"dgamma[c={index}]", got[1][index], want, TOLERANCE, scale)
        want, _, _ = derivative(lambda s, e=e: (value(x, gamma, beta + s * e), []), 1e-1)
        record.close("D8", f"dbeta[c={index}]", got[2][index], want, TOLERANCE, scale)


@check("cross-entropy Jacobian", "differences", "D13", logit_cases(), quick=25, full=500)
def cross_entropy_jacobian(case: Any, record: Recorder) -> None:
    logits, labels = np.clip(case[0].astype(float), -4, 4), case[1]
    _, cache = loss.cross_entropy_forward(logits, labels)
    got = loss.cross_entropy_backward(cache)
    for index, e in enumerate(np.eye(logits.size)):
        e = e.reshape(logits.shape)
        want, _, _ = derivative(
            lambda s, e=e: (loss.cross_entropy_forward(logits + s * e, labels)[0], []), 1e-2
        )
        record.close("D13", f"dlogits[{index}]", got.flat[index], want, TOLERANCE, 1.0)


def with_frozen_resets(spikes: list[Any]) -> Any:
    """Return operations whose neurons, in the order of their calls, reset with these spikes."""
    waiting = iter(spikes)

    def lif_forward(c_seq: Any, u0: Any, p: LIF) -> tuple[Any, LIFCache]:
        u0 = np.zeros_like(c_seq[0])
        o_seq, u_pre_seq = frozen(c_seq, u0, p, next(waiting))
        return o_seq, LIFCache(u_pre_seq, o_seq, u0, p)

    return replace(NUMPY, lif_forward=lif_forward)


DIFFERENCES = "EQ3 D3 EQ4 EQ5 EQ6 EQ7 EQ8 EQ9 EQ10 D8 D9 D10 D12 D13 R6"


@check(
    "smooth network",
    "differences",
    DIFFERENCES,
    cases.net_cases(most=4, images=3, room=2, smooth=True),
    quick=15,
    full=400,
)
def smooth_network(case: Any, record: Recorder) -> None:
    """Compare <grad, v> for a whole ResNet with branches, with v in all parameters and in one."""
    base = forward(case.model, case.params, case.buffers, case.x_seq, NUMPY, case.training)
    _, objective = NUMPY.objective_forward(base.branches, case.labels, case.side, case.branch_sum)
    grads = backward(base, NUMPY.objective_backward(objective))
    spikes = [cache.o_seq for _, cache in neuron_caches(base)]
    neuron = case.net["neuron"]

    def along(direction: dict[str, Any]) -> Function:
        def f(s: float) -> tuple[Any, list[Any]]:
            params = case.params | {n: case.params[n] + s * v for n, v in direction.items()}
            ops = with_frozen_resets(spikes) if neuron["reset_gradient"] == "detached" else NUMPY
            run = forward(case.model, params, case.buffers, case.x_seq, ops, case.training)
            value, _ = ops.objective_forward(run.branches, case.labels, case.side, case.branch_sum)
            return value, [cache.u_pre_seq for _, cache in neuron_caches(run)]

        return f

    at_base = [cache.u_pre_seq for _, cache in neuron_caches(base)]
    everything = random_direction(case.params, case.rng)
    name = str(case.rng.choice(sorted(case.params)))
    for direction, clauses in (
        (everything, every_clause(case)),
        ({name: everything[name]}, parameter_clause(name)),
    ):
        own = {n: grads[n] for n in direction}
        got, least = inner(own, direction), max(length(own), 1e-3 * length(grads))
        record.true(clauses, "gradients are finite", np.isfinite(least))
        for h in (3e-3, 3e-4, 3e-5):
            want, doubt, potentials = derivative(along(direction), h)
            scale = max(least, abs(want)) or 1.0
            seen = EPS / h <= TOLERANCE * scale  # else the loss's rounding hides the derivative
            if (
                doubt <= TOLERANCE / 10 * scale
                and seen
                and not crosses(neuron, at_base, potentials)
            ):
                break
        else:
            record.reject()
        what = "all parameters" if len(own) > 1 else name
        record.values_ok()
        record.close(clauses, f"<grad, v> for v in {what}", got, want, TOLERANCE, scale)
