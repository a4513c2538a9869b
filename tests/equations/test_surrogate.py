"""Eq. 4: each slope has the printed values, and is the derivative of its primitive."""

import math
import re

import numpy as np
import pytest

from refsnn.equations.common_surrogates import (
    ATan,
    Dspike,
    Exponential,
    FastSigmoid,
    Gaussian,
    PiecewiseQuadratic,
    Rectifier,
    Sigmoid,
    SoftSign,
    SuperSpike,
)
from refsnn.equations.surrogate import (
    SURROGATES,
    Rectangular,
    Surrogate,
    Tanh,
    TanhLiteral,
    Triangular,
    make_surrogate,
    slopes,
)


def named(value):
    return repr(value) if isinstance(value, Surrogate) else None


ATANH_HALF = 0.5493061443340548  # tanh of it is 1/2
TANH, TANH_HALF = 0.9051482536448664, 0.6351489523872873  # of 3/2 and of 3/4

#: surrogate, v_th, {u_pre: slope}, worked by hand
POINTS = [
    (Tanh(), 1.0, {1: 0.5, 1 + ATANH_HALF: 0.375, 1 - ATANH_HALF: 0.375, 30: 0, -30: 0}),
    (Tanh(2.0), 0.25, {0.25: 2.0, 0.25 - ATANH_HALF: 1.5}),
    (TanhLiteral(), 1.0, {1: 0.5, 1 + ATANH_HALF: 0.125, 1 - ATANH_HALF: 1.125}),
    (TanhLiteral(), 1.0, {30: 0, -30: 2.0}),  # 4k far below, where Eq. 4 wants 0
    (TanhLiteral(0.25), 0.5, {0.5: 0.25, -30: 1.0}),
    (Rectangular(), 1.0, {1: 1, 0.75: 1, 1.25: 1, 0.5: 0, 1.5: 0, 0: 0, 2: 0}),
    (Rectangular(edge="inside"), 1.0, {1: 1, 0.5: 1, 1.5: 1, 0.4375: 0, 1.5625: 0}),
    (Rectangular(), 0.5, {0: 0, 0.0625: 1, 1: 0}),  # a resting neuron sits on the edge
    (Rectangular(edge="inside"), 0.5, {0: 1, 1: 1}),
    (Rectangular(4.0), 1.0, {1: 0.25, -0.9375: 0.25, 2.9375: 0.25, -1: 0, 3: 0}),
    (Rectangular(0.25), 1.0, {1: 4, 1.0625: 4, 0.875: 0, 1.125: 0}),
    (Triangular(), 1.0, {1: 1, 0.5: 0.5, 1.5: 0.5, 0.25: 0.25, 0: 0, 2: 0, -1: 0, 3: 0}),
    (Triangular(), 0.5, {0.5: 1, 0.25: 0.5, 0.75: 0.5, 0: 0, 1: 0, 1.5: 0}),
    (Triangular(3.0), 2.0, {2: 3, 1: 1.5, 3: 1.5, 0: 0, 4: 0}),
    (Triangular(1.0, width=2.0), 0.5, {0.5: 1, -0.5: 0.5, 1.5: 0.5, -1.5: 0, 2.5: 0}),
    (Sigmoid(), 1.0, {1: 1, 1 + math.log(3) / 4: 0.75, 1 - math.log(3) / 4: 0.75, 900: 0}),
    (ATan(), 1.0, {1: 1, 1 + 1 / math.pi: 0.5, 1 - 1 / math.pi: 0.5, 1 + 3 / math.pi: 0.1}),
    (FastSigmoid(), 1.0, {1: 1, 1.04: 0.25, 0.96: 0.25, 1.36: 0.01}),
    (SoftSign(), 1.0, {1: 1, 1.5: 0.25, 0.5: 0.25, 5.5: 0.01}),
    (SoftSign(4.0), 0.5, {0.5: 2, 0.75: 0.5, 0.25: 0.5}),
    (SuperSpike(), 1.0, {1: 1, 2: 0.25, 0: 0.25, 10: 0.01}),
    (SuperSpike(4.0), 1.0, {1: 4, 2: 1, 0: 1}),
    (PiecewiseQuadratic(), 0.5, {0.5: 1, 1: 0.5, 0: 0.5, 1.5: 0, -0.5: 0, -9: 0}),
    (PiecewiseQuadratic(2.0), 1.0, {1: 2, 1.25: 1, 0.75: 1, 0.5: 0, 1.5: 0, 2: 0}),
    (Exponential(), 1.0, {1: 0.5, 1 + math.log(4): 0.125, 1 - math.log(4): 0.125, -900: 0}),
    (Gaussian(1.0), 0.0, {0: 0.3989422804014327, 1: 0.24197072451914337, -40: 0}),
    (Gaussian(), 0.0, {0.5: 0.48394144903828674, -0.5: 0.48394144903828674}),
    (Dspike(), 0.5, {0.5: 1.5 / TANH, 0.75: 1.5 / TANH * (1 - TANH_HALF**2), 1.01: 0}),
    (Dspike(), 0.5, {1: 1.5 / TANH - 1.5 * TANH, 0: 1.5 / TANH - 1.5 * TANH, -0.01: 0}),
    (Dspike(edge="outside"), 0.5, {1: 0, 0: 0}),
    (Rectifier(), 0.5, {0.5: 1.5 / TANH, 1: 1.5 / TANH - 1.5 * TANH, 1.01: 0, -0.01: 0}),
    (Rectifier(3.0), 0.5, {0.5: 0.5 / TANH, 2.744: 1 / 17.64, -7: 1 / 36, -7.01: 0, 8.1: 0}),
    (Dspike(3.0, width=2.0), 0.0, {0: 0.75 / TANH, 1: 0.75 / TANH - 0.75 * TANH, 1.01: 0}),
]

#: surrogate, Eq. 4 as a formula of u_pre and v_th
PRINTED = [
    (Tanh(0.7), lambda u, v: 0.7 * (1 - math.tanh(u - v) ** 2)),
    (TanhLiteral(0.7), lambda u, v: 0.7 * (1 - math.tanh(u - v)) ** 2),
    (Rectangular(0.7), lambda u, v: 1 / 0.7 if abs(u - v) < 0.35 else 0),
    (Triangular(0.7), lambda u, v: 0.7 * max(0, 1 - abs(u / v - 1))),
    (Sigmoid(0.7), lambda u, v: 0.175 / math.cosh(0.35 * (u - v)) ** 2),
    (ATan(0.7), lambda u, v: 0.35 / (1 + (0.35 * math.pi * (u - v)) ** 2)),
    (FastSigmoid(0.7), lambda u, v: 1 / (1 + 0.7 * abs(u - v)) ** 2),
    (SoftSign(0.7), lambda u, v: 0.35 / (1 + 0.7 * abs(u - v)) ** 2),
    (SuperSpike(0.7), lambda u, v: 0.7 / (1 + abs(u - v)) ** 2),
    (PiecewiseQuadratic(0.7), lambda u, v: 0.7 * max(0, 1 - 0.7 * abs(u - v))),
    (Exponential(0.7), lambda u, v: 0.35 * math.exp(-0.7 * abs(u - v))),
    (
        Gaussian(0.7),
        lambda u, v: math.exp(-((u - v) ** 2) / 0.98) / (0.7 * math.sqrt(2 * math.pi)),
    ),
    (
        Dspike(0.7),
        lambda u, v: (abs(u - v) <= 0.5) * (0.35 / math.tanh(0.35) / math.cosh(0.7 * (u - v)) ** 2),
    ),
    (
        Rectifier(0.7),
        lambda u, v: (
            (math.tanh(3 * abs(u - v)) <= 0.7 * TANH)
            * (1.5 / TANH / math.cosh(3 * (u - v)) ** 2 / 0.7)
        ),
    ),
]

ALL = [s for s, _ in PRINTED]
ALL += [
    Rectangular(0.7, edge="inside"),
    Triangular(0.7, width=1.3),
    Dspike(2.0, 1.5, edge="outside"),
    Rectifier(2.5),
]


@pytest.mark.parametrize(("surrogate", "v_th", "points"), POINTS, ids=named)
def test_slope_at_points_worked_by_hand(surrogate, v_th, points):
    x = np.array(list(points), float) - v_th
    np.testing.assert_allclose(
        surrogate.slope(x, v_th), list(points.values()), rtol=1e-14, atol=1e-14
    )


@pytest.mark.parametrize("v_th", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("surrogate", "formula"), PRINTED, ids=named)
def test_slope_is_the_printed_formula_of_potential_and_threshold(surrogate, formula, v_th):
    u_pre = np.linspace(-6.03, 7.01, 300)
    expected = [formula(u, v_th) for u in u_pre.tolist()]
    np.testing.assert_allclose(
        surrogate.slope(u_pre - v_th, v_th), expected, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_step_of_rounding_decides_at_the_strict_edge(dtype):
    edge = dtype(0.5)
    inside, outside = np.nextafter(edge, dtype(0)), np.nextafter(edge, dtype(1))
    x = np.array([inside, edge, outside, -inside, -edge, -outside])
    assert Rectangular().slope(x, 1.0).tolist() == [1, 0, 0, 1, 0, 0]
    assert Rectangular(edge="inside").slope(x, 1.0).tolist() == [1, 1, 0, 1, 1, 0]


@pytest.mark.parametrize("v_th", [0.5, 1.0])
@pytest.mark.parametrize("surrogate", ALL, ids=named)
def test_slope_is_the_derivative_of_the_primitive(surrogate, v_th):
    x, step = np.linspace(-2.53, 2.61, 140), 1e-6
    kinks = [0.35, 0, v_th, 1.3, 1 / 0.7, 0.5, 0.75]
    x = x[np.min([np.abs(np.abs(x) - kink) for kink in kinks], axis=0) > 2 * step]
    assert len(x) > 130
    rise = surrogate.primitive(x + step, v_th) - surrogate.primitive(x - step, v_th)
    np.testing.assert_allclose(surrogate.slope(x, v_th), rise / (2 * step), atol=1e-9)


@pytest.mark.parametrize("surrogate", ALL, ids=named)
def test_primitive_never_falls_since_no_slope_is_negative(surrogate):
    x = np.linspace(-20, 20, 4001)
    assert (surrogate.slope(x, 0.5) >= 0).all()
    assert (np.diff(surrogate.primitive(x, 0.5)) >= -1e-13).all()  # rounding


@pytest.mark.parametrize(
    ("surrogate", "below", "at", "above"),
    [
        (Tanh(0.7), 0, 0.7, 1.4),
        (Rectangular(0.7), 0, 0.5, 1),
        (Triangular(0.7), 0, 0.7, 1.4),  # v_th = 2: half of a base of 4, height 0.7
        (Triangular(0.7, width=4.0), 0, 1.4, 2.8),
        (TanhLiteral(0.7), 2.8 * -1e3 + 0.7 * (1 + 2 * math.log(2)), 0, 0.7 * math.log(4) - 0.7),
        (Sigmoid(0.7), 0, 0.5, 1),
        (ATan(1000.0), 1 / (1e6 * math.pi**2 / 2), 0.5, 1 - 1 / (1e6 * math.pi**2 / 2)),
        (FastSigmoid(0.7), -1e3 / 701, 0, 1e3 / 701),
        (SoftSign(0.7), 0.5 - 350 / 701, 0.5, 0.5 + 350 / 701),
        (SuperSpike(0.7), -700 / 1001, 0, 700 / 1001),
        (PiecewiseQuadratic(0.7), 0, 0.5, 1),
        (Exponential(0.7), 0, 0.5, 1),
        (Gaussian(0.7), 0, 0.5, 1),
        (Dspike(0.7), 0, 0.5, 1),
        (Dspike(0.7, width=3.0), 0, 0.5, 1),
        (Rectifier(2.5), 0, 0.5, 1),
    ],
    ids=named,
)
def test_primitive_far_below_at_and_far_above_the_threshold(surrogate, below, at, above):
    with np.errstate(over="raise", invalid="raise"):
        values = surrogate.primitive(np.array([-1e3, 0, 1e3]), 2.0)
    np.testing.assert_allclose(values, [below, at, above], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("surrogate", ALL, ids=named)
def test_dtype_is_kept_and_the_input_is_not_written(surrogate, dtype):
    x = np.linspace(-2, 2, 41).astype(dtype)
    x.flags.writeable = False
    for function in (surrogate.slope, surrogate.primitive):
        y = function(x, 0.7)
        assert (y.dtype, y.shape) == (dtype, x.shape)
        np.testing.assert_allclose(y, function(x.astype(float), 0.7), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Tanh, "k"),
        (TanhLiteral, "k"),
        (Rectangular, "a"),
        (Triangular, "gamma"),
        (lambda width: Triangular(1.0, width), "width"),
        *((kind, "alpha") for kind in (Sigmoid, ATan, FastSigmoid, SoftSign, SuperSpike)),
        *((kind, "alpha") for kind in (PiecewiseQuadratic, Exponential)),
        (Gaussian, "sigma"),
        (Dspike, "b"),
        (Rectifier, "width"),
        (lambda width: Dspike(1.0, width), "width"),
    ],
)
def test_a_shape_that_is_not_positive_is_refused(make, name, bad):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        make(bad)


@pytest.mark.parametrize(
    ("name", "surrogate"),
    [
        ("tanh", Tanh(0.25)),
        ("tanh_literal", TanhLiteral(0.25)),
        ("rectangular", Rectangular(0.25)),
        ("triangular", Triangular(0.25)),
        ("sigmoid", Sigmoid(0.25)),
        ("atan", ATan(0.25)),
        ("fast_sigmoid", FastSigmoid(0.25)),
        ("softsign", SoftSign(0.25)),
        ("super_spike", SuperSpike(0.25)),
        ("piecewise_quadratic", PiecewiseQuadratic(0.25)),
        ("exponential", Exponential(0.25)),
        ("gaussian", Gaussian(0.25)),
        ("dspike", Dspike(0.25)),
        ("rectifier", Rectifier(0.25)),
    ],
)
def test_a_surrogate_is_made_by_name_and_shape(name, surrogate):
    assert make_surrogate(name, 0.25) == surrogate
    assert make_surrogate(name) == type(surrogate)() == SURROGATES[name]()


def test_defaults_are_those_of_the_ledger():
    assert (Tanh().k, TanhLiteral().k, Rectangular().a, Triangular().gamma) == (0.5, 0.5, 1, 1)
    assert Rectangular().edge == "outside"
    assert Triangular().width is None


def test_only_the_rectangle_has_an_edge():
    assert make_surrogate("rectangular", 2.0, edge="inside") == Rectangular(2.0, edge="inside")
    with pytest.raises(ValueError, match=r"surrogate_edge: tanh has no edge"):
        make_surrogate("tanh", edge="inside")


def test_an_unknown_name_is_refused_with_the_known_ones():
    names = ", ".join(SURROGATES)
    with pytest.raises(ValueError, match=re.escape(f"surrogate: got 'box', want one of {names}")):
        make_surrogate("box")
    with pytest.raises(ValueError, match="surrogate: got 'arctan', did you mean atan"):
        make_surrogate("arctan")


def test_slopes_that_are_the_same_function():
    x = np.linspace(-3, 3, 601)
    for one, other in (
        (Sigmoid(4.0), lambda: 2 * Tanh(0.5).slope(2 * x, 1.0)),  # K (1 - tanh(K x)^2)/2, K = 2
        (SuperSpike(1.0), lambda: FastSigmoid(1.0).slope(x, 1.0)),
        (SoftSign(2.0), lambda: FastSigmoid(2.0).slope(x, 1.0)),
        (PiecewiseQuadratic(1.0), lambda: Triangular(1.0).slope(x, 1.0)),
        (PiecewiseQuadratic(2.0), lambda: Triangular(2.0, width=0.5).slope(x, 1.0)),
        (Rectifier(1.0), lambda: Dspike(3.0).slope(x, 1.0)),
        (Dspike(1e-3), lambda: Rectangular(edge="inside").slope(x, 1.0)),
    ):
        np.testing.assert_allclose(one.slope(x, 1.0), other(), rtol=1e-6, atol=1e-15)


AREAS = {FastSigmoid: lambda a: 2 / a, SuperSpike: lambda a: 2 * a, Tanh: lambda k: 2 * k}
AREAS |= {Triangular: lambda gamma: gamma}  # with v_th = 1


@pytest.mark.parametrize("shape", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("kind", [s for s in SURROGATES.values() if s is not TanhLiteral])
def test_the_area_below_a_slope(kind, shape):
    """The primitive's rise over all potentials; those with long tails reach it slowly."""
    surrogate = kind(shape)
    low, high = surrogate.primitive(np.array([-1e9, 1e9]), 1.0)
    assert high - low == pytest.approx(AREAS.get(kind, lambda shape: 1)(shape), rel=1e-6)


def test_slopes_fall_to_both_sides_alike():
    x = np.linspace(0, 8, 801)
    for kind in SURROGATES.values():
        if kind is not TanhLiteral:
            h = kind().slope(x, 1.0)
            assert (np.diff(h) <= 0).all()
            assert np.array_equal(kind().slope(-x, 1.0), h)


def of_ones_own(slope):
    return type("Mine", (), {"slope": staticmethod(slope)})()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_have_the_dtype_of_the_potential(dtype):
    x = np.linspace(-2, 2, 41).astype(dtype)
    for surrogate in ALL:
        h = slopes(surrogate, x, 1.0)
        assert h.tobytes() == surrogate.slope(x, 1.0).tobytes()
    for slope in (
        lambda x, v_th: np.where(abs(x) < 0.3, 1 / 3, 0.1),
        lambda x, v_th: abs(x) < 0.3,
        lambda x, v_th: np.longdouble(1) / 3 + 0 * x,
        lambda x, v_th: np.ones(x.shape, np.float16),
    ):
        h = slopes(of_ones_own(slope), x, 1.0)
        assert h.dtype == dtype
        assert np.array_equal(h, slope(x, 1.0).astype(dtype))


@pytest.mark.parametrize(
    ("slope", "error", "message"),
    [
        (lambda x, v_th: 1.0, TypeError, "got float from Mine.slope, want an array of numbers"),
        (lambda x, v_th: None, TypeError, "got NoneType from Mine.slope"),
        (lambda x, v_th: x + 0j, TypeError, "got ndarray of complex128 from Mine.slope"),
        (lambda x, v_th: x.sum(axis=0), ValueError, "got shape (3,) from Mine.slope, want (2, 3)"),
    ],
)
def test_an_object_that_is_no_slope_is_refused(slope, error, message):
    with pytest.raises(error, match=f"^surrogate: {re.escape(message)}"):
        slopes(of_ones_own(slope), np.ones((2, 3)), 1.0)
