"""The adjoint identity, with spikes and with inputs in which a layer is affine."""

import numpy as np
import pytest

from refsnn.equations.conv import Conv, conv_forward, conv_input_gradient, conv_weight_gradient
from refsnn.equations.lif import LIF, LIFCache, lif_backward, lif_forward
from refsnn.gradcheck import gradcheck


def lif_jvp(tangents, cache):
    """How the spikes move with c_seq and u0, by Eq. 1 and 2 with the surrogate's slope."""
    u_pre_seq, o_seq, _, p = cache
    do_seq, du = np.empty_like(o_seq), tangents["u0"]
    for t in range(len(o_seq)):
        du_pre = p.tau * du + tangents["c_seq"][t]
        do_seq[t] = p.surrogate.slope(u_pre_seq[t] - p.v_th, p.v_th) * du_pre
        du = du_pre * (1 - o_seq[t]) - u_pre_seq[t] * do_seq[t]
    return do_seq


def spiking(dtype=float):
    rng = np.random.default_rng(0)
    inputs = {
        "c_seq": rng.normal(0.6, 0.8, (5, 40)).astype(dtype),
        "u0": rng.normal(size=40).astype(dtype),
    }
    return lambda c_seq, u0: lif_forward(c_seq, u0, LIF()), inputs


def backward(dy, cache):
    return lif_backward(dy, cache, constants=False)[:2]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_spiking_neuron_passes(dtype, verdicts):
    forward, inputs = spiking(dtype)
    report = gradcheck(forward, backward, inputs, jvp=lif_jvp, smooth=False)
    assert report.passed, report
    assert set(verdicts(report)) >= {("c_seq", "adjoint"), ("u0", "adjoint")}
    assert "differences" not in str(report)


def test_a_missing_reset_path_of_the_spiking_neuron_is_found(verdicts):
    forward, inputs = spiking()

    def detached(dy, cache):
        return lif_backward(dy, LIFCache(*cache[:3], LIF(reset_gradient="detached")))[:2]

    got = verdicts(gradcheck(forward, detached, inputs, jvp=lif_jvp, smooth=False))
    assert got["c_seq", "adjoint"] == "failed"


def test_one_wrong_element_of_the_spiking_neuron_is_placed():
    forward, inputs = spiking()

    def wrong(dy, cache):
        dc, du0 = backward(dy, cache)
        dc[2, 17] += 1e-6
        return dc, du0

    report = gradcheck(forward, wrong, inputs, jvp=lif_jvp, smooth=False)
    (check,) = (c for c in report.checks if c.verdict != "passed")
    assert (check.subject, check.index) == ("c_seq", (2, 17))
    assert check.got - check.expected == pytest.approx(1e-6, rel=1e-3)


def conv_layer(scale=1.0):
    rng = np.random.default_rng(1)
    inputs = {"x": rng.normal(size=(2, 5, 5, 2)), "w": rng.normal(size=(3, 3, 2, 4))}

    def forward(x, w):
        y, cache = conv_forward(x, w, Conv(padding=(1, 1)))
        return y + 7.0, cache  # affine, not linear

    def backward(dy, cache):
        return conv_input_gradient(dy, cache), conv_weight_gradient(dy, cache) * scale

    return forward, backward, inputs


def test_an_affine_layer_passes_without_a_jvp():
    assert gradcheck(*conv_layer(), linear_in=("x", "w"), smooth=False).passed


def test_an_error_far_below_what_differences_see_is_found(verdicts):
    got = verdicts(gradcheck(*conv_layer(1 + 1e-8), linear_in=("x", "w")))
    assert got["w", "differences"] == "passed"
    assert got["w", "adjoint"] == "failed"
    assert got["x", "adjoint"] == "passed"


def test_a_function_that_is_not_affine_is_named(dense):
    report = gradcheck(dense.forward, dense.backward, dense.inputs, linear_in="x")
    (check,) = (c for c in report.checks if c.verdict != "passed")
    assert (check.subject, check.kind) == ("x", "adjoint")
    assert "not affine in x" in str(check)


def test_a_spiking_layer_is_not_affine():
    c_seq = np.random.default_rng(0).normal(0.6, 0.8, (5, 40))
    report = gradcheck(
        lambda c_seq: lif_forward(c_seq, None, LIF()),
        lambda dy, cache: lif_backward(dy, cache).dc_seq,
        {"c_seq": c_seq},
        linear_in="c_seq",
        smooth=False,
    )
    assert "not affine" in str(report)


def test_a_jvp_of_nan_fails():
    forward, inputs = spiking()
    report = gradcheck(
        forward, backward, inputs, jvp=lambda v, c: lif_jvp(v, c) * np.nan, smooth=False
    )
    assert not report.passed


def test_a_jvp_of_another_shape_is_refused():
    forward, inputs = spiking()
    with pytest.raises(ValueError, match=r"jvp: got shapes \[\(40,\)\], want \[\(5, 40\)\] like y"):
        gradcheck(forward, backward, inputs, jvp=lambda v, c: lif_jvp(v, c)[0], smooth=False)
