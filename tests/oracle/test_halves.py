"""Half precisions: right implementations pass, wrong ones fail, and the rest says why not."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn.oracle.compare import compare_case
from refsnn.oracle.halves import across, rounded, unfit
from refsnn.oracle.tolerances import HALVES

OMITS = ("du0", "dtau", "dv_th")


def lif(case, precision, tie=False, soft=False, detached=False, factor=1.0):
    """A LIF neuron, every operation of which rounds to a half precision; the options are faults."""

    def r(x):
        return rounded(np.asarray(x, float), precision)

    p = case.conventions
    c, do = r(case.inputs["c"]), r(case.inputs["do"])
    tau, v_th = r(factor * p["tau"]), r(p["v_th"])
    u_pre, o, u, delta = (np.zeros_like(c) for _ in range(4))
    for t in range(len(c)):
        u_pre[t] = r(c[t] + (r(tau * u[t - 1]) if t else 0))
        o[t] = u_pre[t] >= v_th if tie or p["fire_at_threshold"] else u_pre[t] > v_th
        u[t] = r(u_pre[t] - v_th * o[t]) if soft else u_pre[t] * (1 - o[t])
    later = np.zeros_like(c[0])
    for t in reversed(range(len(c))):
        h = slope(p, r(u_pre[t] - v_th), r)
        kept = (1 - o[t]) if detached else r((1 - o[t]) - r(u_pre[t] * h))
        later = delta[t] = r(r(do[t] * h) + r(r(later * tau) * kept))
    return {"u_pre": u_pre, "o": o, "u": u, "du_pre": delta, "dc": delta}


def slope(p, x, r):
    shape = p["surrogate_shape"]
    if p["surrogate"] == "rectangular":
        inside = np.abs(x) <= shape / 2 if p["surrogate_edge"] == "inside" else abs(x) < shape / 2
        return inside / shape
    if p["surrogate"] == "triangular":
        return r(shape * np.maximum(0, r(1 - r(np.abs(x) / p["v_th"]))))
    y = r(np.tanh(x))
    if p["surrogate"] == "tanh":
        return r(shape * r(1 - r(y * y)))
    return r(shape * r(r(1 - y) ** 2))


@pytest.fixture
def neurons(cases):
    paper = {"reset_gradient": "full"}
    return [
        case
        for case in cases.values()
        if case.level == "neuron" and all(case.conventions[k] == v for k, v in paper.items())
    ]


@pytest.mark.parametrize("precision", HALVES)
def test_right_neurons_pass_whatever_rounding_flips(neurons, precision):
    results = [compare_case(c, lif(c, precision), precision, OMITS) for c in neurons]
    judged = [result for result in results if not result.unjudged]
    assert all(result.passed for result in judged), [str(r) for r in judged if not r.passed]
    assert len(judged) >= 18
    assert any(result.flips for result in judged)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"detached": True}, "neuron/tanh"),
        ({"soft": True}, "neuron/tanh"),
        ({"factor": 1.5}, "neuron/tanh"),
        ({"tie": True}, "neuron/grid"),
        ({"tie": True}, "neuron/tie"),
    ],
)
def test_the_usual_faults_still_fail(cases, precision, fault, name):
    case = cases[name]
    result = compare_case(case, lif(case, precision, **fault), precision, OMITS)
    assert result.first is not None
    assert not result.unjudged


@pytest.mark.parametrize("precision", HALVES)
def test_a_rectangle_of_another_width_fails_though_edges_are_excused(cases, precision):
    case = cases["neuron/rectangle"]
    wide = replace(case, conventions=case.conventions | {"surrogate_shape": 2.0})
    result = compare_case(case, lif(wide, precision), precision, OMITS)
    assert result.first.tensor == "du_pre"
    assert compare_case(case, lif(case, precision), precision, OMITS).passed


@pytest.mark.parametrize("precision", HALVES)
def test_slopes_beside_an_edge_are_excused_alone(cases, precision):
    case = cases["surrogate/rectangle"]
    u_pre = case.inputs["u_pre"]
    h = slope(case.conventions, rounded(u_pre - 1, precision), None)
    assert (h != case.outputs["h"]).any()
    assert compare_case(case, {"h": h}, precision).passed
    h[np.argmax(u_pre == 1)] = 0
    assert not compare_case(case, {"h": h}, precision).passed


def test_an_edge_excuses_potentials_beyond_it_or_rounded_to_it(cases):
    """The edge lies at 1.5, and what is expected beside it; the last is too far away."""
    case = cases["neuron/rectangle"]
    expected = np.array([1.52, 1.52, 1.52, 1.52, 1.48, 1.48, 1.6])
    given = np.array([1.53, 1.505, 1.495, 1.3, 1.47, 1.7, 1.4])
    want = [False, True, True, True, False, True, False]
    assert across(case, expected, given, 0.03, np.full(7, 0.01)).tolist() == want
    close = across(case, expected, None, 0.03, np.full(7, 0.01))
    assert close.tolist() == [True] * 6 + [False]


def test_a_layers_gradients_are_not_judged_where_a_potential_crosses_the_edge(cases):
    case = cases["layer/rectangle"]
    x = np.abs(case.outputs["u_pre"] - 1) - 0.5
    at = np.unravel_index(np.argmin(np.abs(x)), x.shape)
    got = {name: value.copy() for name, value in case.outputs.items()}
    got["u_pre"][at] -= 2 * x[at] * np.sign(got["u_pre"][at] - 1)
    got["du_pre"][at] += 10
    result = compare_case(case, got, "float16")
    assert result.agrees
    assert not result.passed
    assert result.tensors["du_pre"]["status"] == "not judged"
    assert result.tensors["u_pre"]["status"] == "ok"
    assert str(result) == (
        "layer/rectangle: not judged in float16: gradients, as potentials are rounded across the "
        "rectangle's edge"
    )
    case = cases["layer/plain"]
    got = case.outputs | {"du_pre": case.outputs["du_pre"] + 10}
    assert compare_case(case, got, "float16").first.tensor == "du_pre"


def test_what_a_half_precision_cannot_hold_is_not_judged(cases):
    case = cases["neuron/tanh"]
    assert unfit(case, "float16") == ""

    def given(c):
        c = np.full((1, 1), c)
        return replace(case, inputs={"c": c, "do": c}, outputs={"u_pre": c})

    assert unfit(given(1e5), "float16") == "c reaches 1e+05, float16 ends at 65504"
    assert unfit(given(1e-6), "float16") == "c is 1e-06 at most, too small for float16"
    assert unfit(given(1e-6), "bfloat16") == ""
    assert unfit(given(100.0), "float16") == ""
    assert unfit(given(100.0), "bfloat16") == "u_pre reaches 100, where rounding moves it by 0.39"
    assert unfit(given(1e5), "float32") == ""
    low = case.conventions | {"v_th": 0.25}
    assert unfit(given(10.0), "bfloat16") == ""
    told = unfit(replace(given(10.0), conventions=low), "bfloat16")
    assert told == "u_pre reaches 10, where rounding moves it by 0.039"
    training = cases["training/vanilla"]
    result = compare_case(training, {}, "bfloat16")
    assert result.unjudged == "not judged in bfloat16: rounding adds up over its iterations"
    assert not result.passed
    assert not result.problems


def test_rounding_is_to_nearest_and_ties_to_even():
    assert rounded(
        np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-7 * 0.51]), "bfloat16"
    ).tolist() == [
        1,
        1 + 2**-6,
        -1 - 2**-7,
    ]
    values = np.random.default_rng(0).normal(size=1000)
    assert np.abs(rounded(values, "bfloat16") / values - 1).max() <= 2**-8
    assert (rounded(values, "float16") == values.astype(np.float16)).all()
