"""InfLoR's rectified potential: its values, and the neurons that fire by it."""

import math

import numpy as np
import pytest

from refsnn.oracle.naive import neuron, potentials, rectifier

#: amplitude 1 = 2 v_th (M14)
NEURON = {"tau": 1.0, "v_th": 0.5, "reset": "subtract", "reset_amount": 1.0}
GRID = np.linspace(-4.0, 5.0, 1801).tolist()


def smooth(width):
    """Return the conventions of a neuron with this slope, and the primitive that it may fire."""
    given = NEURON | {"surrogate": lambda x: rectifier.slope(x + 0.5, width)}
    return given, lambda u_pre, v_th: rectifier.primitive(u_pre, width)


def test_values_by_hand():
    for u, value in ((-7, -1), (0, 0), (0.5, 0.5), (1, 1), (8, 2)):
        assert rectifier.psi(u) == value
    for u in (-7, 8):
        assert rectifier.psi_slope(u) == pytest.approx(1 / 12, rel=1e-15)
    assert rectifier.psi_slope(0.5) == 1.5 / math.tanh(1.5)


def test_psi_increases_and_is_symmetric():
    values = [rectifier.psi(u) for u in GRID]
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose([1 - rectifier.psi(1 - u) for u in GRID], values, atol=1e-15)
    for edge in (0.0, 1.0):
        beside = [rectifier.psi(edge + e) for e in (-1e-12, 1e-12)]
        np.testing.assert_allclose(beside, edge, atol=1e-11)


@pytest.mark.parametrize("u", [-30.0, -1.3, -0.01, 0.01, 0.4, 0.5, 0.99, 1.01, 2.0, 40.0])
def test_psi_slope_is_the_derivative(u):
    want = (rectifier.psi(u + 1e-6) - rectifier.psi(u - 1e-6)) / 2e-6
    assert rectifier.psi_slope(u) == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize("width", [0.3, 1.0, 1.7, 4.0])
def test_slope_is_the_derivative_of_its_primitive(width):
    for u in GRID[3::7]:
        if min(abs(u), abs(u - 1), abs(abs(rectifier.psi(u) - 0.5) - width / 2)) < 1e-4:
            continue  # kinks
        above, below = (rectifier.primitive(u + e, width) for e in (1e-6, -1e-6))
        assert rectifier.slope(u, width) == pytest.approx((above - below) / 2e-6, abs=1e-8), u


@pytest.mark.parametrize("width", [0.3, 1.0, 2.0])
def test_slopes_have_area_1(width):
    """They end where |psi - 1/2| is half the width: at -2.375 and 3.375 for 2."""
    middles = -4.0 + (np.arange(45000) + 0.5) * 2e-4
    assert sum(rectifier.slope(u, width) for u in middles) * 2e-4 == pytest.approx(1, abs=1e-3)
    assert (rectifier.primitive(-9, width), rectifier.primitive(9, width)) == (0, 1)
    assert rectifier.primitive(0.5, width) == 0.5
    if width == 2.0:
        assert rectifier.slope(-2.3749, width) > 0 == rectifier.slope(-2.3751, width)
        assert rectifier.slope(3.3749, width) > 0 == rectifier.slope(3.3751, width)


def test_a_width_of_1_is_dspike_of_3():
    given = {"v_th": 0.5, "surrogate": "dspike", "surrogate_shape": 3.0}
    for u in [*GRID, 0.0, 1.0]:
        assert rectifier.slope(u) == pytest.approx(neuron.slope(u, given), rel=1e-14, abs=0)
    assert rectifier.slope(0.0) > 0.29 < rectifier.slope(1.0)
    assert rectifier.slope(-1e-9) == rectifier.slope(1 + 1e-9) == 0


def test_spikes_are_those_of_the_potential_itself():
    """Also at the threshold's neighbours."""
    near = [0.5, math.nextafter(0.5, 0.0), math.nextafter(0.5, 1.0)]
    assert [rectifier.psi(u) > 0.5 for u in near] == [False, False, True]
    c = np.random.default_rng(0).normal(0.5, 0.8, (8, 60))
    c[0, :3], c[1, :3] = near, 0.0
    plain = potentials.lif(c, c, NEURON, np.zeros_like)
    rectified = potentials.lif(
        c, c, NEURON, np.zeros_like, lambda u_pre, v_th: float(rectifier.psi(u_pre) > v_th)
    )
    np.testing.assert_array_equal(rectified["o"], plain["o"])
    np.testing.assert_array_equal(rectified["u_pre"], plain["u_pre"])
    assert 0.3 < plain["o"].mean() < 0.7


def test_the_soft_reset_keeps_all_charge():
    c = np.random.default_rng(1).integers(-8, 16, (8, 30)) / 16
    got = neuron.states(c, None, NEURON)
    np.testing.assert_array_equal(got["u"][-1], c.sum(axis=0) - got["o"].sum(axis=0))
    none, nothing = (
        neuron.states(c, None, NEURON | change)
        for change in ({"reset": "none"}, {"reset_amount": 0.0})
    )
    for name in ("u_pre", "o", "u"):
        np.testing.assert_array_equal(nothing[name], none[name])


def test_gradients_over_time_are_those_of_dspike():
    rng = np.random.default_rng(2)
    c, do = rng.normal(0.5, 0.8, (5, 20)), rng.normal(size=(5, 20))
    given = NEURON | {"surrogate": "dspike", "surrogate_shape": 3.0}
    want = neuron.gradients(do, c, None, given)
    got = neuron.gradients(do, c, None, smooth(1.0)[0])
    np.testing.assert_allclose(got["dc_seq"], want["dc_seq"], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("width", [1.0, 2.5])
def test_gradients_of_neurons_that_fire_the_primitive_are_derivatives(width):
    rng = np.random.default_rng(3)
    c, do = rng.normal(0.4, 0.9, (4, 12)), rng.normal(size=(4, 12))
    given, fire = smooth(width)
    got = potentials.lif(c, do, given, np.zeros_like, fire)
    if width > 1:
        assert (got["u_pre"] < 0).any()
        assert (got["u_pre"] > 1).any()
    for place in np.ndindex(*c.shape):
        sums = []
        for distance in (1e-6, -1e-6):
            moved = c.copy()
            moved[place] += distance
            sums.append((potentials.lif(moved, do, given, np.zeros_like, fire)["o"] * do).sum())
        want = (sums[0] - sums[1]) / 2e-6
        assert got["c"][place] == pytest.approx(want, rel=1e-6, abs=1e-7)
