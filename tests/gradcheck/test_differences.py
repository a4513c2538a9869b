"""Finite differences: every wrong gradient is found and placed, no right one is blamed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.equations.batchnorm import BatchNorm, Running, batchnorm_backward, batchnorm_forward
from refsnn.equations.conv import (
    Conv,
    conv_forward,
    conv_input_gradient,
    conv_weight_gradient,
)
from refsnn.equations.lif import LIF, LIFCache, lif_backward, lif_forward
from refsnn.equations.loss import cross_entropy_backward, cross_entropy_forward
from refsnn.equations.surrogate import Rectangular, Tanh, TanhLiteral, Triangular
from refsnn.gradcheck import gradcheck

modest = settings(deadline=None, max_examples=40, derandomize=True)
SURROGATES = [Tanh(), TanhLiteral(0.3), Rectangular(1.0), Triangular(0.8)]


def neuron(p, seed=0, shape=(4, 6), dtype=float):
    """forward, backward and inputs of a LIF layer with all that it can be differentiated by."""
    rng = np.random.default_rng(seed)
    inputs = {"c_seq": rng.normal(0.4, 0.8, shape), "u0": rng.normal(size=shape[1:])}

    def forward(c_seq, u0):
        return lif_forward(c_seq, u0, p)

    def backward(dy, cache):
        return lif_backward(dy, cache, constants=False)[:2]

    return forward, backward, {name: x.astype(dtype) for name, x in inputs.items()}


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_the_smooth_neuron_passes(surrogate):
    report = gradcheck(*neuron(LIF(surrogate=surrogate, smooth=True)))
    assert report.passed, report
    assert [(c.subject, c.kind) for c in report.checks[2:]] == [
        ("c_seq", "differences"),
        ("u0", "differences"),
    ]


def test_the_neurons_constants_are_inputs_like_others():
    c_seq = np.random.default_rng(5).normal(0.4, 0.8, (4, 6))

    def forward(c_seq, tau, v_th):
        return lif_forward(c_seq, None, LIF(float(tau), float(v_th), smooth=True))

    def backward(dy, cache):
        g = lif_backward(dy, cache)
        return g.dc_seq, g.dtau, g.dv_th

    inputs = {"c_seq": c_seq, "tau": np.array(0.6), "v_th": np.array(0.9)}
    assert gradcheck(forward, backward, inputs).passed
    wrong = gradcheck(forward, lambda dy, c: (*backward(dy, c)[:2], -backward(dy, c)[2]), inputs)
    assert [c.subject for c in wrong.checks if c.verdict != "passed"] == ["v_th"]
    assert wrong.checks[-1].index == ()


def test_a_missing_reset_path_is_found(verdicts):
    forward, _, inputs = neuron(LIF(smooth=True))

    def detached(dy, cache):
        detach = LIF(smooth=True, reset_gradient="detached")
        return lif_backward(dy, LIFCache(*cache[:3], detach))[:2]

    got = verdicts(gradcheck(forward, detached, inputs))
    assert got["c_seq", "differences"] == got["u0", "differences"] == "failed"


def test_a_step_that_was_not_made_smooth_is_named():
    report = gradcheck(*neuron(LIF(smooth=False)))
    assert not report.passed
    assert any("y does not change" in c.note for c in report.checks), report


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batchnorm_and_its_missing_terms(dtype, verdicts):
    rng = np.random.default_rng(2)
    x, gamma, beta = (rng.normal(1, 2, s).astype(dtype) for s in ((2, 3, 4, 4, 5), 5, 5))
    running = Running(np.zeros(5, dtype), np.ones(5, dtype))
    inputs = {"x": x, "gamma": gamma, "beta": beta}

    def forward(x, gamma, beta):
        y, _, cache = batchnorm_forward(x, gamma, beta, running, BatchNorm(), True)
        return y, cache

    assert gradcheck(forward, batchnorm_backward, inputs).passed
    wrong = gradcheck(forward, lambda dy, c: batchnorm_backward(dy, c._replace(axes=())), inputs)
    assert verdicts(wrong)["x", "differences"] == "failed"
    assert verdicts(wrong)["gamma", "differences"] == "passed"


def test_a_gradient_of_zero_is_said_to_be_one():
    """A bias before batch norm: both sides are rounding."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 5))
    running = Running(np.zeros(5), np.ones(5))

    def forward(bias):
        y, _, cache = batchnorm_forward(
            x + bias, np.ones(5), np.zeros(5), running, BatchNorm(), True
        )
        return y, cache

    def backward(dy, cache):
        return (batchnorm_backward(dy, cache).dx_seq.sum(axis=(0, 1, 2, 3)),)

    check = gradcheck(forward, backward, {"bias": np.arange(5.0)}).checks[-1]
    assert check.verdict == "passed"
    assert "0 to within" in check.note


def convolution(wrong=None):
    rng = np.random.default_rng(4)
    p = Conv((2, 2), (1, 1))
    inputs = {"x": rng.normal(size=(2, 6, 6, 3)), "w": rng.normal(size=(3, 3, 3, 3))}

    def backward(dy, cache):
        grads = {"x": conv_input_gradient(dy, cache), "w": conv_weight_gradient(dy, cache)}
        return wrong(grads) if wrong else grads

    return lambda x, w: conv_forward(x, w, p), backward, inputs


def test_the_gradient_of_a_convolution_passes():
    assert gradcheck(*convolution()).passed


@pytest.mark.parametrize(
    "wrong",
    [
        lambda g: {**g, "w": -g["w"]},
        lambda g: {**g, "w": 2 * g["w"]},
        lambda g: {**g, "w": g["w"] * (1 + 1e-5)},
        lambda g: {**g, "w": np.swapaxes(g["w"], 2, 3).copy()},
        lambda g: {**g, "w": g["w"][::-1, ::-1].copy()},
        lambda g: {**g, "w": np.zeros_like(g["w"])},
    ],
    ids=["sign", "factor", "1e-5", "transposed", "flipped", "zero"],
)
def test_a_wrong_weight_gradient_is_found_and_only_that(wrong, verdicts):
    got = verdicts(gradcheck(*convolution(wrong)))
    assert got["w", "differences"] == "failed"
    assert got["x", "differences"] == "passed"


def test_one_element_of_many_is_found_with_its_numbers():
    x = np.linspace(-1, 1, 30_000).reshape(100, 300)

    def backward(dy, x):
        g = dy * np.cos(x)
        g[41, 123] *= -1
        return (g,)

    check = gradcheck(lambda x: (np.sin(x), x), backward, {"x": x}).checks[-1]
    assert check.verdict == "failed"
    assert check.index == (41, 123)
    assert check.expected == pytest.approx(-check.got, rel=1e-4)
    assert "at [41, 123] expected" in str(check)


def test_two_elements_exchanged_do_not_cancel():
    def backward(dy, _):
        return (np.ones(2) * dy + (1e-3, -1e-3),)

    for seed in range(20):
        rng = np.random.default_rng(seed)
        report = gradcheck(
            lambda x: (x.sum(), None), backward, {"x": np.ones(2)}, rng=rng, directions=1
        )
        assert report.checks[-1].verdict == "failed"


def test_rounding_of_a_moved_input_is_not_blamed_on_the_gradient():
    x = np.zeros(100_000, np.float32)
    x[0] = 10_000  # its last place is 0.001, the step 0.3
    one = np.zeros_like(x)
    one[0] = 1
    for seed in range(5):
        rng = np.random.default_rng(seed)
        report = gradcheck(
            lambda x: (x[0] - np.float32(10_000), None), lambda dy, _: dy * one, {"x": x}, rng=rng
        )
        assert report.passed, report
        assert report.checks[-1].error < 1e-4


def test_several_outputs_and_labels_that_have_no_gradient():
    labels = np.array([0, 2, 1])

    def forward(logits, labels):
        loss, cache = cross_entropy_forward(logits, labels)
        return (loss, logits[:, :1] ** 2), (cache, logits)

    def backward(dy, cache):
        g = dy[0] * cross_entropy_backward(cache[0])
        g[:, :1] += 2 * cache[1][:, :1] * dy[1]
        return g, None

    inputs = {"logits": np.random.default_rng(0).normal(size=(3, 4)), "labels": labels}
    assert gradcheck(forward, backward, inputs).passed

    def without_second(dy, cache):
        return dy[0] * cross_entropy_backward(cache[0]), None

    assert not gradcheck(forward, without_second, inputs).passed


# ---- what cannot be decided


def relu(x):
    return np.maximum(x, 0), x


@pytest.mark.parametrize("at", [0.0, 1e-9])
def test_a_kink_at_the_input_is_undecided_and_placed(at):
    x = np.array([1.0, -2.0, at, 3.0])
    report = gradcheck(relu, lambda dy, x: (dy * (x > 0),), {"x": x})
    check = report.checks[-1]
    assert check.verdict == "undecided"
    assert not report.passed
    assert check.index == (2,)
    assert "kink" in check.note


@pytest.mark.parametrize("near", [3e-4, 3e-5, 1e-5])
def test_a_kink_near_the_input_is_left_behind_by_smaller_steps(near):
    x = np.array([1.0, -2.0, near, 3.0])
    for sign, verdict in ((1, "passed"), (-1, "failed")):
        report = gradcheck(relu, lambda dy, x, sign=sign: (dy * (x > 0) * sign,), {"x": x})
        assert report.checks[-1].verdict == verdict, report


@pytest.mark.parametrize("zeros", [2, 5, 10])
def test_kinks_that_cancel_in_a_direction_are_no_failure(zeros):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=20)
        x[:zeros] = 0
        check = gradcheck(relu, lambda dy, x: (dy * (x > 0),), {"x": x}, rng=rng).checks[-1]
        assert check.verdict == "undecided", seed
        assert "kink" in check.note


def test_a_layer_of_steps_whose_gradient_is_zero_is_told_what_it_lacks():
    x = np.array([0.3, -1.6, 2.4])
    check = gradcheck(lambda x: (np.floor(x), None), lambda dy, c: (0 * dy,), {"x": x}).checks[-1]
    assert check.verdict == "undecided"
    assert check.note.startswith("y does not change: let a spiking layer fire its primitive")


def test_the_rectangles_edge_is_undecided():
    forward, backward, inputs = neuron(LIF(surrogate=Rectangular(1.0), smooth=True), shape=(1, 3))
    inputs["c_seq"][:], inputs["u0"][:] = (0.8, 0.5, 1.2), 0.0  # 0.5 = v_th - a / 2
    check = gradcheck(forward, backward, inputs, wrt="c_seq").checks[-1]
    assert (check.verdict, check.index) == ("undecided", (0, 1))


def test_a_kink_does_not_hide_a_wrong_gradient():
    x = np.array([1.0, -2.0, 0.0, 3.0])

    def backward(dy, x):
        return (dy * (x > 0) * (1, 1, 1, -1),)

    for seed in range(20):
        report = gradcheck(relu, backward, {"x": x}, rng=np.random.default_rng(seed))
        assert (report.checks[-1].verdict, report.checks[-1].index) == ("failed", (3,))
    x = np.array([1.0, 0.0, 0.0, -2.0, 0.0])
    doubled = gradcheck(relu, lambda dy, x: (2 * dy * (x > 0),), {"x": x}).checks[-1]
    assert (doubled.verdict, doubled.index) == ("failed", (0,))
    assert gradcheck(relu, lambda dy, x: (dy * (x > 0),), {"x": x}).checks[-1].index in (
        (1,),
        (2,),
        (4,),
    )
    nothing_else = np.zeros(3)
    check = gradcheck(relu, lambda dy, x: (2 * dy * (x > 0),), {"x": nothing_else}).checks[-1]
    assert check.verdict == "undecided"


def test_an_output_too_large_for_its_derivative_is_undecided():
    for offset in (1e8, 1e13):
        report = gradcheck(
            lambda x, by=offset: (x + by, None), lambda dy, c: (dy,), {"x": np.ones(3)}
        )
        assert report.checks[-1].verdict == "undecided"
        assert "rounding" in report.checks[-1].note


@np.errstate(invalid="ignore")
def test_a_domain_left_within_every_step_is_undecided():
    x = np.array([1.0, 1e-12])
    report = gradcheck(lambda x: (np.sqrt(x), x), lambda dy, x: (dy * 0.5 / np.sqrt(x),), {"x": x})
    check = report.checks[-1]
    assert (check.verdict, check.index) == ("undecided", (1,))
    assert "finite" in check.note


# ---- properties

rectangles = st.builds(Rectangular, st.floats(0.5, 2.0))
surrogates = rectangles | st.builds(Tanh, st.floats(0.2, 1)) | st.builds(Triangular)


@modest
@given(surrogates, st.integers(0, 10**6), st.sampled_from([np.float64, np.float32]))
def test_a_right_gradient_never_fails(surrogate, seed, dtype):
    p = LIF(surrogate=surrogate, smooth=True)
    report = gradcheck(
        *neuron(p, seed, (3, 30), dtype), rng=np.random.default_rng(seed), directions=2
    )
    assert all(c.verdict != "failed" for c in report.checks), report


@modest
@given(surrogates, st.integers(0, 10**6), st.integers(0, 89))
def test_a_wrong_element_never_passes(surrogate, seed, element):
    forward, backward, inputs = neuron(LIF(surrogate=surrogate, smooth=True), seed, (3, 30))

    def wrong(dy, cache):
        dc, du0 = backward(dy, cache)
        dc.reshape(-1)[element] += 1e-4
        return dc, du0

    report = gradcheck(forward, wrong, inputs, wrt="c_seq", rng=np.random.default_rng(seed))
    assert report.checks[-1].verdict != "passed", report


@pytest.mark.parametrize(
    ("dtype", "seen", "allowed"), [(np.float64, 1e-6, 1e-9), (np.float32, 1e-2, 1e-5)]
)
def test_which_errors_each_dtype_can_see(dtype, seen, allowed):
    forward, backward, inputs = neuron(LIF(smooth=True), dtype=dtype)
    for by, passes in ((seen, False), (allowed, True)):

        def scaled(dy, cache, by=by):
            return tuple(g * dtype(1 + by) for g in backward(dy, cache))

        assert gradcheck(forward, scaled, inputs).passed is passes


@pytest.mark.parametrize(("dtype", "weight"), [(np.float32, 1e-4), (np.float64, 1e-11)])
def test_a_gradient_of_zero_where_y_does_move_does_not_pass(dtype, weight):
    """It is small beside y's rounding for the steps tried, but no rounding."""

    def forward(x, w):
        return (x + weight * w).astype(dtype), None

    def backward(dy, cache):
        return dy, np.zeros_like(dy)

    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=20).astype(dtype) for name in ("x", "w")}
    report = gradcheck(forward, backward, inputs)
    assert [c.verdict for c in report.checks if c.subject == "w" and c.kind == "differences"] == [
        "undecided"
    ]
    assert not report.passed
