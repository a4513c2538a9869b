"""Checks of every operation against naive loops.

The order is: shape, dtype and value, unmutated inputs, the same result when computed again, and
then the gradient with respect to each input.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.equations import lif, linear, loss, pool
from refsnn.equations.batchnorm import BatchNorm, Running, batchnorm_backward, batchnorm_forward
from refsnn.ops import AvgPool, Conv
from refsnn.oracle.naive import batchnorm as naive_norm
from refsnn.oracle.naive import exact, layers, neuron, objective
from verification import cases
from verification.record import Recorder
from verification.registry import check

#: relative to the largest wanted value, for sums of up to a few hundred rounded products
TOLERANCE = {np.dtype("float64"): 1e-12, np.dtype("float32"): 2e-5}


@dataclass
class Operation:
    """A forward and a backward function with the results that they must give."""

    name: str
    clause: str  # of the values
    gradient_clauses: dict[str, str]  # name of a gradient -> clause
    forward: Callable[[], tuple[Any, Any]]  # -> (y, cache)
    backward: Callable[[Any, Any], dict[str, Any]]  # (dy, cache) -> gradients by name
    inputs: dict[str, Any]
    dy: Any
    want: Any
    want_gradients: dict[str, Any]
    axes: str = ""
    scale: float | None = None  # of the gradients, where terms may cancel


def compare(op: Operation, record: Recorder) -> None:
    """Check one operation in the order of the module's docstring."""
    dtype = op.dy.dtype
    tolerance = TOLERANCE[dtype]
    before = {name: np.array(value) for name, value in op.inputs.items()}
    y, cache = op.forward()
    record.equal(op.clause, f"{op.name}: shape of y", y.shape, np.shape(op.want))
    record.equal(op.clause, f"{op.name}: dtype of y", y.dtype, dtype)
    record.close(op.clause, f"{op.name}: y", y, op.want, tolerance, axes=op.axes)
    untouched(op, before, record)
    first = y.copy()
    again, _ = op.forward()
    record.equal(op.clause, f"{op.name}: y computed again", again, first, op.axes)
    record.equal(op.clause, f"{op.name}: y after that", y, first, op.axes)
    record.values_ok()
    dy = op.dy.copy()
    gradients = op.backward(dy, cache)
    for name, want in op.want_gradients.items():
        clause, got = op.gradient_clauses[name], gradients[name]
        if isinstance(got, np.ndarray):
            record.equal(clause, f"{op.name}: dtype of {name}", got.dtype, dtype)
        record.close(clause, f"{op.name}: {name}", got, want, tolerance, op.scale, op.axes)
        record.equal(clause, f"{op.name}: dy unmutated", dy, op.dy)
        untouched(op, before, record)
        first = np.array(got)
        twice = op.backward(dy, cache)[name]
        record.equal(clause, f"{op.name}: {name} computed again", twice, first)
        record.equal(clause, f"{op.name}: {name} after that", got, first)


def untouched(op: Operation, before: dict[str, Any], record: Recorder) -> None:
    for name, value in op.inputs.items():
        record.equal(op.clause, f"{op.name}: {name} unmutated", value, before[name])


@check(
    "surrogates against formulas",
    "oracle",
    "EQ4 D4 D5 R5 M17",
    st.tuples(cases.neurons(), cases.SEEDS, cases.DTYPES),
    quick=60,
    full=1500,
)
def surrogate_values(case: Any, record: Recorder) -> None:
    description, seed, dtype = case
    rng = np.random.default_rng(seed)
    critical = cases.critical_potentials(description, dtype)
    u_pre = np.concatenate([rng.normal(0, 3, 20), critical, [-40.0, 40.0]]).astype(dtype)
    surrogate, v_th = cases.surrogate_of(description), description["v_th"]
    u_pre = u_pre[~cases.at_root(u_pre, description)]
    clause = cases.slope_clause(description)
    for name, formula in (("slope", neuron.slope), ("primitive", neuron.primitive)):
        got = getattr(surrogate, name)(u_pre - v_th, v_th)
        want = np.array([formula(float(u), description) for u in u_pre])
        # 1 - tanh and 2x - 2 ln cosh cancel: the error is relative to the terms, not to the result
        scale = max(1.0, float(np.abs(want).max()), 4 * description["surrogate_shape"])
        record.equal(clause, f"dtype of the {name}", got.dtype, u_pre.dtype)
        tolerance = 1e-14 if dtype == "float64" else 4e-5
        record.close(clause, f"{description['surrogate']} {name}", got, want, tolerance, scale, "u")
    if description["surrogate"] == "rectangular":  # exactly on the edge, D4's alternatives
        edge = np.array([-0.5, 0.5], dtype) * dtype_of(dtype)(description["surrogate_shape"])
        inside = (
            1 / description["surrogate_shape"] if description["surrogate_edge"] == "inside" else 0.0
        )
        record.equal("D4", "slope at the edge", surrogate.slope(edge, v_th), np.full(2, inside))
    elif description["surrogate"] == "dspike":  # exactly on the edge, M17's alternatives
        edge = np.array([-0.5, 0.5], dtype)
        outside = replace(surrogate, edge="outside").slope(edge, v_th)
        record.true("M17", "a slope at the edge", bool((surrogate.slope(edge, v_th) > 0).all()))
        record.equal("M17", "no slope at the edge", outside, np.zeros(2, dtype))
    else:
        default = lif.LIF().surrogate
        record.equal("D4", "default surrogate at 0", float(default.slope(np.zeros(1), 1.0)[0]), 0.5)


def dtype_of(name: str) -> Any:
    return np.dtype(name).type


WIDTHS = st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0])


@check("the rectifier's edges", "oracle", "R5 M17", st.tuples(WIDTHS, cases.DTYPES), 10, 10)
def rectified(case: Any, record: Recorder) -> None:
    """Compare slopes on both sides of the places where it jumps, and on those that are exact."""
    width, dtype = case
    description = {"surrogate": "rectifier", "surrogate_shape": width, "surrogate_edge": "outside"}
    description |= {"v_th": 0.5}
    kinks = np.array(cases.kinks(description))
    u_pre = (0.5 + np.concatenate([kinks, kinks - 1e-3, kinks + 1e-3])).astype(dtype)
    u_pre = u_pre[~cases.at_root(u_pre, description)]
    want = [neuron.slope(float(u), description) for u in u_pre]
    got = cases.surrogate_of(description).slope(u_pre - 0.5, 0.5)
    tolerance = 1e-13 if dtype == "float64" else 4e-5
    record.close("R5 M17", f"slope of width {width}", got, np.array(want), tolerance, axes="u")


@check(
    "LIF against loops",
    "oracle",
    "EQ1 EQ2 EQ3 D2 D3 D6 R1 R6",
    cases.lif_cases(),
    quick=150,
    full=6000,
)
def lif_values(case: Any, record: Recorder) -> None:
    description, c_seq = case.neuron, case.c_seq
    u0 = np.zeros(c_seq.shape[1:], c_seq.dtype) if case.u0 is None else case.u0
    u_pre_seq, o_seq = neuron.lif_forward(c_seq, u0, description)
    near = cases.near_threshold(u_pre_seq, description) < guard(c_seq)
    if near and not case.exact and not is_exactly_critical(u_pre_seq, c_seq):
        record.reject()  # rounding may fire or not
    if cases.at_root(u_pre_seq, description).any():
        record.reject()
    p = cases.lif_of(description)
    _, cache = case.ops.lif_forward(c_seq, case.u0, p)
    tolerance = TOLERANCE[c_seq.dtype]
    record.close("EQ1", "u_pre_seq", cache.u_pre_seq, u_pre_seq, tolerance, axes="tn")
    record.equal(
        "D2" if description["fire_at_threshold"] else "EQ2", "o_seq", cache.o_seq, o_seq, "tn"
    )
    record.equal("D6", "u0", cache.u0, u0, "n")
    want = neuron.lif_backward(case.do_seq, c_seq, u0, description)
    clause = cases.reset_clause(description)
    least = 1e-3
    compiled = c_seq.dtype == np.float32 and case.ops.name != "numpy"
    if compiled and description["surrogate"] in cases.ROUNDED:  # off by 16 eps of the steepest
        least = 16 * float(np.finfo(np.float32).eps) / tolerance
    compare(
        Operation(
            "lif",
            "EQ2",
            {"dc_seq": clause, "du0": clause, "dtau": clause, "dv_th": "R1"},
            lambda: case.ops.lif_forward(c_seq, case.u0, p),
            lambda dy, cache: case.ops.lif_backward(dy, cache)._asdict(),
            {"c_seq": c_seq, "u0": u0 if case.u0 is None else case.u0},
            case.do_seq,
            o_seq,
            want,
            "tn",
            cases.gradient_scale(description, u_pre_seq, case.do_seq, least),
        ),
        record,
    )


def guard(c_seq: Any) -> float:
    """Return a bound on the rounding of potentials of order 10."""
    return 1e4 * float(np.finfo(c_seq.dtype).eps)


def is_exactly_critical(u_pre_seq: Any, c_seq: Any) -> bool:
    """Tell whether every other step fires for certain, so that u_pre = c without rounding."""
    return bool((c_seq[1::2] == 16.0).all() and (u_pre_seq[::2] == c_seq[::2]).all())


@check(
    "LIF in exact fractions",
    "oracle",
    "EQ1 EQ2 D2 R6",
    # the rectifier's edges, at which critical potentials lie, are no fractions
    st.sampled_from(cases.COMPILED).flatmap(lambda name: cases.lif_cases(name, random=False)),
    quick=60,
    full=3000,
)
def lif_exact(case: Any, record: Recorder) -> None:
    """Check ties and differences of one ulp with exact fractions."""
    description, c_seq = case.neuron, case.c_seq
    u0 = np.zeros(c_seq.shape[1]) if case.u0 is None else case.u0
    tau, v_th = Fraction(description["tau"]), Fraction(description["v_th"])
    amount, subtracts = Fraction(cases.amount_of(description)), description["reset"] == "subtract"
    columns = [
        exact.lif(
            [Fraction(float(c)) for c in c_seq[:, n]],
            Fraction(float(u0[n])),
            tau,
            v_th,
            description["fire_at_threshold"],
            amount if subtracts else None,
        )
        for n in range(c_seq.shape[1])
    ]
    u_pre = np.array([[float(u) for u in column[0]] for column in columns]).T
    o = np.array([column[1] for column in columns], float).T

    def holds(value: Fraction) -> bool:
        return Fraction(float(c_seq.dtype.type(float(value)))) == value

    held = all(
        holds(u) and holds(tau * u) and holds(tau * (u - amount))
        for column in columns
        for u in [*column[0], *map(Fraction, u0.tolist())]
    )
    if not held:  # a potential that the dtype can't hold is rounded, rightly
        record.reject()
    o_seq, cache = case.ops.lif_forward(c_seq, case.u0, cases.lif_of(description))
    clause = "R6" if subtracts else "EQ1"
    record.equal(clause, "u_pre_seq", cache.u_pre_seq, u_pre, "tn")
    record.equal("D2" if description["fire_at_threshold"] else "EQ2", "o_seq", o_seq, o, "tn")


@check(
    "convolution against loops", "oracle", "EQ1 EQ3 EQ8", cases.conv_cases(), quick=60, full=1500
)
def conv_values(case: Any, record: Recorder) -> None:
    """Check c = W x, dL/dW (delta x summed over all pixels) and dL/dx (Eq. 8's factor)."""
    p = Conv(case.stride, case.padding)
    want = layers.conv_forward(case.x, case.w, case.stride, case.padding)
    dy = case.rng.normal(size=want.shape).astype(case.x.dtype)
    dx, dw = layers.conv_backward(dy, case.x, case.w, case.stride, case.padding)
    compare(
        Operation(
            "conv",
            "EQ1",
            {"dx": "EQ8", "dw": "EQ3"},
            lambda: case.ops.conv_forward(case.x, case.w, p),
            lambda dy, cache: named(cases.conv_backward(case.ops, dy, cache), "dx", "dw"),
            {"x": case.x, "w": case.w},
            dy,
            want,
            {"dx": dx, "dw": dw},
            "nhwc",
        ),
        record,
    )
    _, cache = case.ops.conv_forward(case.x, case.w, p)
    alone = case.ops.conv_weight_gradient(dy, cache)
    record.close("EQ3", "dw alone", alone, dw, TOLERANCE[dy.dtype], axes="ijab")


def named(values: Any, *names: str) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


@check("batch norm against loops", "oracle", "D8 D25", cases.norm_cases(), quick=60, full=1500)
def norm_values(case: Any, record: Recorder) -> None:
    p, running = BatchNorm(**case.norm), Running(case.mean, case.var)
    want, mean, var = naive_norm.forward(
        case.x_seq, case.gamma, case.beta, case.mean, case.var, case.norm, case.training
    )
    gradients = naive_norm.backward(
        case.dy_seq, case.x_seq, case.gamma, case.mean, case.var, case.norm, case.training
    )
    spread = smallest_group_spread(case)
    if spread < 1e-2:
        record.reject()  # the variance is all rounding there, and dx is divided by it

    def forward() -> Any:
        y, _, cache = batchnorm_forward(
            case.x_seq, case.gamma, case.beta, running, p, case.training
        )
        return y, cache

    inputs = {"x_seq": case.x_seq, "gamma": case.gamma, "mean": case.mean, "var": case.var}
    compare(
        Operation(
            "batch norm",
            "D8",
            dict.fromkeys(("dx_seq", "dgamma", "dbeta"), "D8"),
            forward,
            lambda dy, cache: named(batchnorm_backward(dy, cache), "dx_seq", "dgamma", "dbeta"),
            inputs,
            case.dy_seq,
            want,
            named(gradients, "dx_seq", "dgamma", "dbeta"),
            "tnhwc",
            float(np.abs(case.dy_seq).max() / spread) + float(np.abs(case.dy_seq).sum()),
        ),
        record,
    )
    _, moved, _ = batchnorm_forward(case.x_seq, case.gamma, case.beta, running, p, case.training)
    record.close("D25", "running mean", moved.mean, mean, 1e-12)
    record.close("D25", "running variance", moved.var, var, 1e-12)


def smallest_group_spread(case: Any) -> float:
    """Return the least standard deviation of a group by which batch norm divides; else 1."""
    if not case.training:
        return 1.0
    axes = (0, 1, 2, 3) if case.norm["statistics"] == "pooled" else (1, 2, 3)
    if np.prod([case.x_seq.shape[a] for a in axes]) == 1:
        return 1.0  # one element: its own mean, so y = beta exactly
    return float(case.x_seq.std(axis=axes).min())


@st.composite
def pool_cases(draw: Any) -> Any:
    kernel = draw(st.integers(1, 4))
    p = (kernel, draw(st.integers(1, 3)), draw(st.integers(0, kernel // 2)))
    least = max(kernel - 2 * p[2], 1)
    shape = (
        draw(st.integers(1, 2)),
        least + draw(st.integers(0, 4)),
        least + draw(st.integers(0, 4)),
        draw(st.integers(1, 3)),
    )
    rng = np.random.default_rng(draw(cases.SEEDS))
    return p, rng.normal(size=shape).astype(draw(cases.DTYPES)), rng, draw(cases.BACKENDS)


@check("pooling against loops", "oracle", "R4 EQ8 D12", pool_cases(), quick=40, full=1000)
def pool_values(case: Any, record: Recorder) -> None:
    sizes, x, rng, backend = case
    ops, p = cases.get_ops(backend), AvgPool(*sizes)
    want = layers.avgpool_forward(x, *sizes)
    dy = rng.normal(size=want.shape).astype(x.dtype)
    dx = layers.avgpool_backward(dy, x.shape, *sizes)
    compare(
        Operation(
            "average pooling",
            "R4",
            {"dx": "EQ8"},
            lambda: ops.avgpool_forward(x, p),
            lambda dy, cache: {"dx": ops.avgpool_backward(dy, cache)},
            {"x": x},
            dy,
            want,
            {"dx": dx},
            "nhwc",
        ),
        record,
    )
    want = layers.gap_forward(x)
    dy = rng.normal(size=want.shape).astype(x.dtype)
    compare(
        Operation(
            "global pooling",
            "D12",
            {"dx": "D12"},
            lambda: pool.global_avgpool_forward(x),
            lambda dy, cache: {"dx": pool.global_avgpool_backward(dy, cache)},
            {"x": x},
            dy,
            want,
            {"dx": layers.gap_backward(dy, x.shape)},
            "nhwc",
        ),
        record,
    )


@st.composite
def linear_cases(draw: Any) -> Any:
    n, c_in, c_out = (draw(st.integers(1, 6)) for _ in range(3))
    rng, dtype = np.random.default_rng(draw(cases.SEEDS)), draw(cases.DTYPES)
    return [
        rng.normal(size=shape).astype(dtype)
        for shape in ((n, c_in), (c_in, c_out), (c_out,), (n, c_out))
    ]


@check("linear layer against loops", "oracle", "D12", linear_cases(), quick=40, full=1000)
def linear_values(case: Any, record: Recorder) -> None:
    x, w, b, dy = case
    compare(
        Operation(
            "linear",
            "D12",
            dict.fromkeys(("dx", "dw", "db"), "D12"),
            lambda: linear.linear_forward(x, w, b),
            lambda dy, cache: named(linear.linear_backward(dy, cache), "dx", "dw", "db"),
            {"x": x, "w": w, "b": b},
            dy,
            layers.linear_forward(x, w, b),
            named(layers.linear_backward(dy, x, w), "dx", "dw", "db"),
            "nk",
        ),
        record,
    )


@st.composite
def logit_cases(draw: Any) -> Any:
    """Draw logits of up to about 800, whose exponential overflows."""
    n, k = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    rng, dtype = np.random.default_rng(draw(cases.SEEDS)), draw(cases.DTYPES)
    logits = rng.normal(0, draw(st.sampled_from([1.0, 3.0, 300.0])), (n, k)).astype(dtype)
    return logits, rng.integers(0, k, n)


@check("cross-entropy against loops", "oracle", "D13", logit_cases(), quick=40, full=1000)
def cross_entropy_values(case: Any, record: Recorder) -> None:
    logits, labels = case
    tolerance = TOLERANCE[logits.dtype]
    before = logits.copy()
    got, cache = loss.cross_entropy_forward(logits, labels)
    record.close(
        "D13",
        "loss",
        got,
        objective.cross_entropy(logits, labels),
        tolerance,
        max(1.0, float(np.abs(logits).max())),
    )
    record.values_ok()
    want = objective.cross_entropy_gradient(logits, labels)
    for _ in range(2):
        got_gradient = loss.cross_entropy_backward(cache)
        record.equal("D13", "dtype of dlogits", got_gradient.dtype, logits.dtype)
        record.close("D13", "dlogits", got_gradient, want, tolerance, 1.0, "nk")
    record.equal("D13", "logits unmutated", logits, before)
