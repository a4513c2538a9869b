"""Adjoint checks: <J v, w> = <v, J^T w> for every layer, and linearity of every backward pass.

J v is computed with dual numbers or, where the layer is linear, by the layer itself.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refsnn.equations import linear, loss, pool
from refsnn.equations.batchnorm import BatchNorm, Running, batchnorm_backward, batchnorm_forward
from refsnn.network import backward, forward
from refsnn.ops import AvgPool, Conv
from verification import cases, forward_mode
from verification.dual import Dual
from verification.networks import compare_gradients
from verification.operations import linear_cases, logit_cases, pool_cases
from verification.record import Recorder
from verification.registry import check

TOLERANCE = 1e-12


def dot(a: Any, b: Any) -> float:
    return float(np.sum(a * b))


def norm(a: Any) -> float:
    return float(np.sqrt(np.sum(np.square(a))))


def adjoint(record: Recorder, clause: str, name: str, jv: Any, w: Any, pairs: list[Any]) -> None:
    """Compare <J v, w> with the sum of <v, J^T w> over `pairs` (v, J^T w), one per input.

    The error is relative to the largest of |Jv||w| and |v||J^T w|, to which rounding is
    proportional.
    """
    want, got = dot(jv, w), sum(dot(v, g) for v, g in pairs)
    scale = max(norm(jv) * norm(w), *(norm(v) * norm(g) for v, g in pairs)) or 1.0
    record.close(clause, f"<v, {name}^T w>", got, want, TOLERANCE, scale)


def linearity(
    record: Recorder,
    clause: str,
    name: str,
    pull: Callable[[Any], tuple[Any, ...]],
    w: Any,
    rng: np.random.Generator,
    scale: float,
) -> None:
    """Check that pull(2 w + z) = 2 pull(w) + pull(z) for every gradient that `pull` returns."""
    z = rng.normal(size=np.shape(w))
    for index, (both, one, other) in enumerate(zip(pull(2 * w + z), pull(w), pull(z), strict=True)):
        unit = max(scale, norm(one), norm(other))
        record.close(
            clause,
            f"{name}: gradient {index} of 2w + z",
            both,
            2 * np.asarray(one) + other,
            TOLERANCE,
            unit,
        )


@check("LIF adjoint", "adjoint", "EQ3 D3 R1 R6", cases.lif_cases(), quick=40, full=1500)
def lif_adjoint(case: Any, record: Recorder) -> None:
    rng, c_seq = case.rng, case.c_seq.astype(float)
    u0 = np.zeros(c_seq.shape[1:]) if case.u0 is None else case.u0.astype(float)
    w = case.do_seq.astype(float)
    _, cache = case.ops.lif_forward(c_seq, u0, cases.lif_of(case.neuron))
    clause = cases.reset_clause(case.neuron)
    v, vu, vt, vv = rng.normal(size=c_seq.shape), rng.normal(size=u0.shape), *rng.normal(size=2)
    _, o_seq = forward_mode.lif(
        Dual(c_seq, v),
        Dual(u0, vu),
        Dual(case.neuron["tau"], vt),
        Dual(case.neuron["v_th"], vv),
        case.neuron,
    )
    g = case.ops.lif_backward(w, cache)
    got = dot(g.dc_seq, v) + dot(g.du0, vu) + g.dtau * vt + g.dv_th * vv
    scale = cases.gradient_scale(case.neuron, cache.u_pre_seq, w)
    record.close(f"{clause} R1", "<v, J^T w>", got, dot(o_seq.tangent, w), TOLERANCE, scale)
    linearity(
        record, clause, "LIF", lambda w: tuple(case.ops.lif_backward(w, cache)), w, rng, scale
    )


@check(
    "convolution adjoint",
    "adjoint",
    "EQ1 EQ3 EQ8",
    cases.conv_cases("float64"),
    quick=40,
    full=1500,
)
def conv_adjoint(case: Any, record: Recorder) -> None:
    """Check both gradients; a bilinear map is its own derivative with respect to each argument."""
    p, ops, rng = Conv(case.stride, case.padding), case.ops, case.rng
    y, cache = ops.conv_forward(case.x, case.w, p)
    w, vx, vw = (rng.normal(size=a.shape) for a in (y, case.x, case.w))
    dx, dw = cases.conv_backward(ops, w, cache)
    adjoint(record, "EQ8", "C_x", ops.conv_forward(vx, case.w, p)[0], w, [(vx, dx)])
    adjoint(record, "EQ3", "C_w", ops.conv_forward(case.x, vw, p)[0], w, [(vw, dw)])
    linearity(record, "EQ8 EQ3", "conv", lambda w: cases.conv_backward(ops, w, cache), w, rng, 1.0)
    double = ops.conv_forward(2 * case.x, case.w, p)[0]
    record.close("EQ1", "c of 2 x", double, 2 * y, TOLERANCE, max(1.0, norm(y)), "nhwc")


@check("batch norm adjoint", "adjoint", "D8", cases.norm_cases(), quick=40, full=1500)
def norm_adjoint(case: Any, record: Recorder) -> None:
    x, p, rng = case.x_seq, BatchNorm(**case.norm), np.random.default_rng(0)
    _, _, cache = batchnorm_forward(
        x, case.gamma, case.beta, Running(case.mean, case.var), p, case.training
    )
    steepest = float(cache.inv_std.max())
    if steepest > 100:
        record.reject()  # x_hat is rounding there
    vx, vg, vb = (rng.normal(size=a.shape) for a in (x, case.gamma, case.beta))
    y = forward_mode.batchnorm(
        Dual(x, vx),
        Dual(case.gamma, vg),
        Dual(case.beta, vb),
        case.mean,
        case.var,
        case.norm,
        case.training,
    )
    w = case.dy_seq
    dx, dgamma, dbeta = batchnorm_backward(w, cache)
    scale = steepest * norm(w) * max(norm(vx), 1.0)
    got = dot(vx, dx) + dot(vg, dgamma) + dot(vb, dbeta)
    record.close("D8", "<v, B^T w>", got, dot(y.tangent, w), TOLERANCE, scale)
    linearity(record, "D8", "batch norm", lambda w: batchnorm_backward(w, cache), w, rng, scale)


@check("pooling adjoint", "adjoint", "R4 D12", pool_cases(), quick=30, full=1000)
def pool_adjoint(case: Any, record: Recorder) -> None:
    sizes, x, rng, backend = case
    ops, p, x = cases.get_ops(backend), AvgPool(*sizes), x.astype(float)
    y, cache = ops.avgpool_forward(x, p)
    w, v = rng.normal(size=y.shape), rng.normal(size=x.shape)
    dx = ops.avgpool_backward(w, cache)
    adjoint(record, "R4", "P", ops.avgpool_forward(v, p)[0], w, [(v, dx)])
    linearity(record, "R4", "pool", lambda w: (ops.avgpool_backward(w, cache),), w, rng, 1.0)
    y, shape = pool.global_avgpool_forward(x)
    w = rng.normal(size=y.shape)
    dx = pool.global_avgpool_backward(w, shape)
    adjoint(record, "D12", "G", pool.global_avgpool_forward(v)[0], w, [(v, dx)])


@check("linear layer adjoint", "adjoint", "D12", linear_cases(), quick=30, full=1000)
def linear_adjoint(case: Any, record: Recorder) -> None:
    x, w, b, z = (a.astype(float) for a in case)
    rng = np.random.default_rng(1)
    _, cache = linear.linear_forward(x, w, b)
    dx, dw, db = linear.linear_backward(z, cache)
    vx, vw, vb = (rng.normal(size=a.shape) for a in (x, w, b))
    jv = forward_mode.linear(Dual(x, vx), Dual(w, vw), Dual(b, vb)).tangent
    adjoint(record, "D12", "A", jv, z, [(vx, dx), (vw, dw), (vb, db)])
    linearity(record, "D12", "linear", lambda z: linear.linear_backward(z, cache), z, rng, 1.0)


@check("cross-entropy adjoint", "adjoint", "D13", logit_cases(), quick=30, full=1000)
def cross_entropy_adjoint(case: Any, record: Recorder) -> None:
    logits, labels = case[0].astype(float), case[1]
    v = np.random.default_rng(2).normal(size=logits.shape)
    _, cache = loss.cross_entropy_forward(logits, labels)
    want = forward_mode.cross_entropy(Dual(logits, v), labels).tangent
    got = dot(loss.cross_entropy_backward(cache), v)
    record.close("D13", "<dlogits, v>", got, float(want), TOLERANCE, norm(v))


@check(
    "network linearity", "adjoint", "EQ8 EQ9", cases.net_cases(most=6, images=4), quick=15, full=400
)
def network_linearity(case: Any, record: Recorder) -> None:
    """Check that the gradients are linear in dL/db_l, and the same when computed again."""
    run = forward(case.model, case.params, case.buffers, case.x_seq, case.ops, case.training)
    one, other = ([case.rng.normal(size=b.shape) for b in run.branches] for _ in range(2))
    both = backward(run, [2 * a + b for a, b in zip(one, other, strict=True)])
    of_one, of_other = backward(run, one), backward(run, other)
    want = {name: 2 * of_one[name] + of_other[name] for name in of_one}
    compare_gradients(run, both, want, record, TOLERANCE)
    for name, g in backward(run, one).items():
        record.equal("EQ9", f"gradient of {name} computed again", g, of_one[name])
