"""Potentials far from the threshold, and tiny ones: right code passes, exp that overflows fails."""

import numpy as np
import pytest

from refsnn.oracle.compare import compare_case
from refsnn.oracle.compute import COMPUTE
from refsnn.oracle.variants import Tape

SURROGATES = ("tanh", "tanh-literal", "rectangle", "triangle")


def by_exp(x):
    """The tanh of a textbook."""
    return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))


def by_sigmoid(x):
    """It overflows on one side only, and silently."""
    return 2 / (1 + np.exp(-2 * x)) - 1


def neuron(case, dtype, tanh, tiny=0.0):
    """A LIF neuron with the tanh given; currents below `tiny` are zero."""
    c, do = (case.inputs[name].astype(dtype) for name in ("c", "do"))
    c[np.abs(c) < tiny] = 0
    u_pre, o, u, delta = (np.zeros_like(c) for _ in range(4))
    for t in range(len(c)):
        u_pre[t] = c[t] + (dtype(0.5) * u[t - 1] if t else 0)
        o[t] = u_pre[t] > 1
        u[t] = u_pre[t] * (1 - o[t])
    later = np.zeros_like(c[0])
    for t in reversed(range(len(c))):
        y = tanh(u_pre[t] - 1)
        literal = case.conventions["surrogate"] == "tanh_literal"
        h = dtype(0.5) * ((1 - y) ** 2 if literal else 1 - y**2)
        later = delta[t] = do[t] * h + later * dtype(0.5) * ((1 - o[t]) - u_pre[t] * h)
    return {"u_pre": u_pre, "o": o, "u": u, "du_pre": delta, "dc": delta}


def compared(case, got, precision):
    return compare_case(case, got, precision, ("du0", "dtau", "dv_th"))


@pytest.mark.parametrize("level", ["surrogate", "neuron"])
@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_equations_pass_in_both_precisions(cases, level, name, dtype):
    for case in (cases[f"{level}/far-{name}"], cases["neuron/tiny"]):
        inputs = {k: v.astype(dtype) for k, v in case.inputs.items()}
        got = dict(COMPUTE[case.level](inputs, {}, case.conventions, Tape()))
        assert compare_case(case, got, dtype).passed
        assert all(np.isfinite(value).all() for value in case.outputs.values())


@pytest.mark.parametrize("name", ["tanh", "tanh-literal"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_tanh_by_exp_gives_nan_far_from_the_threshold(cases, name, precision):
    dtype = np.dtype(precision).type
    case = cases[f"surrogate/far-{name}"]
    y = by_exp((case.inputs["u_pre"] - 1).astype(dtype))
    h = 0.5 * ((1 - y) ** 2 if "literal" in name else 1 - y**2)
    (problem,) = compare_case(case, {"h": h}, precision).problems
    assert problem.startswith("h: got nan at index")
    case = cases[f"neuron/far-{name}"]
    result = compared(case, neuron(case, dtype, by_exp), precision)
    assert [text.split(" at ")[0] for text in result.problems] == ["du_pre: got nan", "dc: got nan"]
    assert compared(case, neuron(case, dtype, np.tanh), precision).passed


def test_a_slope_of_exps_gives_nan_and_a_sum_of_one_exp_does_not(cases):
    case = cases["surrogate/far-tanh"]
    x = (case.inputs["u_pre"] - 1).astype(np.float32)
    with np.errstate(all="ignore"):
        e = np.exp(-2 * x)
        wrong, right = 2 * e / (1 + e) ** 2, 0.5 * (1 - by_sigmoid(x) ** 2)
    assert not compare_case(case, {"h": wrong}, "float32").passed
    assert compare_case(case, {"h": right}, "float32").passed


def test_the_far_cases_are_far_and_come_back(cases):
    for name in SURROGATES:
        x = cases[f"surrogate/far-{name}"].inputs["u_pre"] - 1
        assert {-1000, -100, 100, 1000} <= set(x)
        case = cases[f"neuron/far-{name}"]
        u_pre = case.outputs["u_pre"]
        assert {-1000, -100, 100, 1000} <= set(u_pre[0])
        assert (np.abs(u_pre[1] - 1) < 1).sum() > 8
        assert (u_pre.astype(np.float32) == u_pre).all()
        assert case.outputs["du_pre"].any()


def test_literal_slopes_far_below_the_threshold_are_four_times_their_height(cases):
    h = cases["surrogate/far-tanh-literal"].outputs["h"]
    assert (h[15 + 5 :] == 2.0).all()
    assert not h[5:15].any()


def test_tiny_potentials_are_told_from_none_and_denormal_ones_are_not(cases):
    """As processors may be set to flush denormal numbers to zero."""
    case = cases["neuron/tiny"]
    assert np.sort(np.abs(case.inputs["c"]))[0, 0] < 1e-41
    least = float(np.finfo(np.float32).tiny)
    assert compared(case, neuron(case, np.float32, np.tanh, tiny=least), "float32").passed
    result = compared(case, neuron(case, np.float32, np.tanh, tiny=1e-20), "float32")
    assert result.first.tensor == "u_pre"
    assert compared(case, neuron(case, np.float64, np.tanh), "float64").passed


def test_half_precisions_do_not_judge_them(cases):
    for name in ("neuron/far-tanh", "neuron/tiny"):
        case = cases[name]
        assert "not judged in float16" in compare_case(case, {}, "float16").unjudged
