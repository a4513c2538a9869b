"""Eq. 1 to 3: the neuron on numbers worked by hand, and its gradient against scalar loops."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from refsnn.equations.lif import LIF, lif_backward, lif_forward, reset
from refsnn.equations.surrogate import Rectangular, Tanh, TanhLiteral, Triangular

modest = settings(deadline=None, max_examples=60, derandomize=True)

SURROGATES = [
    Tanh(0.5),
    TanhLiteral(0.3),
    Rectangular(1.0),
    Rectangular(1.5, edge="inside"),
    Triangular(0.8),
    Triangular(0.8, width=1.7),
]
#: how neurons reset
RESET_WAYS = st.sampled_from(
    [{}, {"reset": "subtract"}, {"reset": "subtract", "reset_amount": 0.6}]
)
ALL = pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)


def seq(*values):
    return np.array(values, float)


def drawn(seed, shape, dtype=float):
    """Currents around the threshold, a potential to start from, a cotangent: none writeable."""
    rng = np.random.default_rng(seed)
    arrays = rng.normal(0.4, 0.8, shape), rng.normal(size=shape[1:]), rng.normal(size=shape)
    arrays = tuple(a.astype(dtype) for a in arrays)
    for a in arrays:
        a.flags.writeable = False
    return arrays


# ---- the oracle: one neuron in Python's numbers, differentiated forward, not backward


def slope(s, u, v_th):
    """Eq. 4 at the potential u."""
    x = u - v_th
    match s:
        case Tanh(k):
            return k * (1 - math.tanh(x) ** 2)
        case TanhLiteral(k):
            return k * (1 - math.tanh(x)) ** 2
        case Rectangular(a, edge):
            return 1 / a if abs(x) < a / 2 or (edge == "inside" and abs(x) == a / 2) else 0.0
        case Triangular(gamma, width):
            return gamma * max(0.0, 1 - abs(x / (width or v_th)))


def fired(p, u):
    if p.smooth:
        return float(p.surrogate.primitive(np.float64(u - p.v_th), p.v_th))
    return float(u >= p.v_th if p.fire_at_threshold else u > p.v_th)


def neuron(c, u0, p, dc=None, du0=0.0, dtau=0.0, dv_th=0.0):
    """Spikes of one neuron, and how they move when c, u0, tau, v_th move along (dc, du0, ...).

    With the reset detached, the spike inside it is taken not to move.
    """
    spikes, moves = [], []
    u, du = u0, du0
    by_v_th = p.reset_amount is None
    amount, damount = (p.v_th, dv_th) if by_v_th else (p.reset_amount, 0.0)
    for t in range(len(c)):
        u_pre = p.tau * u + c[t]
        du_pre = dtau * u + p.tau * du + (dc[t] if dc else 0.0)
        o = fired(p, u_pre)
        do = slope(p.surrogate, u_pre, p.v_th) * (du_pre - dv_th)
        moved = 0.0 if p.reset_gradient == "detached" else do
        if p.reset == "subtract":
            u, du = u_pre - amount * o, du_pre - amount * moved - damount * o
        else:
            u, du = u_pre * (1 - o), du_pre * (1 - o) - u_pre * moved
        spikes.append(o)
        moves.append(do)
    return spikes, moves


def oracle_gradients(c, u0, g, p):
    """(dc, du0, dtau, dv_th) of sum_t g[t] o[t], one direction at a time."""

    def along(**direction):
        return sum(a * b for a, b in zip(g, neuron(c, u0, p, **direction)[1], strict=True))

    steps = range(len(c))
    dc = [along(dc=[float(s == t) for s in steps]) for t in steps]
    return dc, along(du0=1.0), along(dtau=1.0), along(dv_th=1.0)


# ---- forward


@pytest.mark.parametrize(
    ("p", "c", "u_pre", "o"),
    [
        # 0.75; 0.5*0.75 + 0.75, fires, reset to 0; 0.5*0 + 0.5
        (LIF(), [0.75, 0.75, 0.5], [0.75, 1.125, 0.5], [0, 1, 0]),
        # what is left over above the threshold is lost, not kept
        (LIF(), [5, 0.5, -1], [5, 0.5, -0.75], [1, 0, 0]),
        (LIF(tau=0.25, v_th=0.5), [0.5, 0.5, 0.5], [0.5, 0.625, 0.5], [0, 1, 0]),
        # tau = 1 leaks nothing
        (LIF(tau=1.0), [0.5, 0.25, 0.5], [0.5, 0.75, 1.25], [0, 0, 1]),
        # a negative potential leaks too, and is not clipped
        (LIF(), [-2, 0, 1.75], [-2, -1, 1.25], [0, 0, 1]),
        # 5 fires and keeps 4, of which 2 fires and keeps 1
        (LIF(reset="subtract"), [5, 0, 0], [5, 2, 0.5], [1, 1, 0]),
        (LIF(v_th=0.5, reset="subtract"), [1.5, 0.5, 0], [1.5, 1, 0.25], [1, 1, 0]),
        (
            LIF(v_th=0.5, reset="subtract", reset_amount=1.0),
            *([1.5, 0, 0], [1.5, 0.25, 0.125], [1, 0, 0]),
        ),
        # nothing is taken off
        (LIF(reset="subtract", reset_amount=0.0), [4, 0, 0], [4, 2, 1], [1, 1, 0]),
    ],
)
def test_three_steps_worked_by_hand(p, c, u_pre, o):
    spikes, cache = lif_forward(seq(*c), None, p)
    assert cache.u_pre_seq.tolist() == u_pre
    assert spikes.tolist() == o


def test_an_input_exactly_on_the_threshold_does_not_fire():
    o, cache = lif_forward(seq(1, 0.5, 0.5), None, LIF())
    assert o.tolist() == [0, 0, 0]
    assert cache.u_pre_seq.tolist() == [1, 1, 1]


def test_an_input_exactly_on_an_inclusive_threshold_fires_and_resets():
    o, cache = lif_forward(seq(1, 0.5, 0.75), None, LIF(fire_at_threshold=True))
    assert o.tolist() == [1, 0, 1]
    assert cache.u_pre_seq.tolist() == [1, 0.5, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("v_th", [0.1, 0.7, 1.0])  # 0.1 and 0.7 round up and down in float32
def test_one_step_of_rounding_decides_at_the_threshold(v_th, dtype):
    v = dtype(v_th)
    c = np.array([[np.nextafter(v, dtype(0)), v, np.nextafter(v, dtype(2))]])
    assert lif_forward(c, None, LIF(v_th=v_th))[0].tolist() == [[0, 0, 1]]
    assert lif_forward(c, None, LIF(v_th=v_th, fire_at_threshold=True))[0].tolist() == [[0, 1, 1]]


def test_the_given_potential_leaks_into_the_first_step_unfired():
    c = seq(0.25, 0).reshape(2, 1)
    o, cache = lif_forward(c, seq(4), LIF())  # above v_th, and yet no spike of its own
    assert cache.u_pre_seq.tolist() == [[2.25], [0]]
    assert o.tolist() == [[1], [0]]


def test_every_call_starts_from_zero():
    c = seq(0.75, 0.75, 0.75)
    first, _ = lif_forward(c, None, LIF())
    again, cache = lif_forward(c, None, LIF())
    assert again.tolist() == first.tolist()
    assert cache.u0.tolist() == 0


@modest
@given(
    st.integers(0, 2**32), st.integers(1, 6), st.floats(0.05, 1), st.floats(0.1, 2), st.booleans()
)
def test_forward_is_the_scalar_loop_for_every_neuron(seed, steps, tau, v_th, fire_at_threshold):
    c, u0, _ = drawn(seed, (steps, 2, 3))
    p = LIF(tau, v_th, fire_at_threshold=fire_at_threshold)
    o, _ = lif_forward(c, u0, p)
    for m in np.ndindex(u0.shape):
        expected, _ = neuron(c[:, *m].tolist(), float(u0[m]), p)
        assert o[:, *m].tolist() == expected


@ALL
def test_the_future_moves_neither_spikes_nor_gradients_of_the_past(surrogate):
    c, u0, g = drawn(0, (5, 30))
    p = LIF(surrogate=surrogate)
    o, cache = lif_forward(c, u0, p)
    later, past = c.copy(), g.copy()
    later[3:] += 1
    past[3:] = 0
    assert np.array_equal(lif_forward(later, u0, p)[0][:3], o[:3])
    assert not np.array_equal(lif_forward(later, u0, p)[0][3:], o[3:])
    assert not lif_backward(past, cache).dc_seq[3:].any()


# ---- backward

HAND_C, HAND_G = seq(0.75, 0.75, 0.5), seq(1, 2, 4)  # u_pre 0.75 1.125 0.5, o 0 1 0, u 0.75 0 0.5
HAND_P = LIF(surrogate=Triangular())  # h 0.75 0.875 0.5


def test_eq_3_worked_by_hand():
    dc, du0, dtau, dv_th = lif_backward(HAND_G, lif_forward(HAND_C, None, HAND_P)[1])
    # delta[3] = 4*0.5
    # delta[2] = 2*0.875 + 2*0.5*((1-1) - 1.125*0.875)
    # delta[1] = 1*0.75  + 0.765625*0.5*((1-0) - 0.75*0.75)
    assert dc.tolist() == [0.91748046875, 0.765625, 2.0]
    assert du0 == 0.5 * 0.91748046875
    assert dtau == 0.765625 * 0.75  # delta[2] u[1]; u[0] = u[2] = 0
    # o[3] gets 4, o[2] 2 - 0.5*2*1.125, o[1] 1 - 0.5*0.765625*0.75
    assert dv_th == -(0.5 * 4 + 0.875 * 0.875 + 0.75 * 0.712890625)


def test_eq_3_with_the_reset_detached_worked_by_hand():
    p = LIF(surrogate=Triangular(), reset_gradient="detached")
    dc, du0, dtau, dv_th = lif_backward(HAND_G, lif_forward(HAND_C, None, p)[1])
    # delta[2] = 2*0.875 + 2*0.5*(1-1); delta[1] = 1*0.75 + 1.75*0.5*(1-0)
    assert dc.tolist() == [1.625, 1.75, 2.0]
    assert du0 == 0.8125
    assert dtau == 1.75 * 0.75
    assert dv_th == -(0.5 * 4 + 0.875 * 2 + 0.75 * 1)


@ALL
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("reset_gradient", ["full", "detached"])
@settings(modest, max_examples=24)
@given(st.integers(0, 2**32), st.integers(1, 5), st.floats(0.05, 1), st.floats(0.2, 2), RESET_WAYS)
def test_gradients_equal_the_scalar_loops(
    surrogate, reset_gradient, smooth, seed, steps, tau, v_th, way
):
    c, u0, g = drawn(seed, (steps, 3))
    p = LIF(tau, v_th, surrogate, reset_gradient, smooth=smooth, **way)
    grads = lif_backward(g, lif_forward(c, u0, p)[1])
    per_neuron = [
        oracle_gradients(c[:, m].tolist(), float(u0[m]), g[:, m].tolist(), p) for m in range(3)
    ]
    dc, du0, dtau, dv_th = zip(*per_neuron, strict=True)
    close = {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(grads.dc_seq, np.transpose(dc), **close)
    np.testing.assert_allclose(grads.du0, du0, **close)
    np.testing.assert_allclose(grads.dtau, sum(dtau), **close)
    np.testing.assert_allclose(grads.dv_th, sum(dv_th), **close)


@pytest.mark.parametrize("reset_gradient", ["full", "detached"])
def test_gradients_equal_the_scalar_loops_where_potentials_sit_on_edges(reset_gradient):
    # all numbers are exact in binary, so u_pre meets v_th and v_th +- a/2 without rounding
    values = [0.0, 0.25, 0.5, 1.0, 1.5]
    c = np.array(np.meshgrid(values, values, values)).reshape(3, -1)
    g = np.array([[1.0], [2.0], [4.0]]) * np.ones_like(c)
    for edge, tie in (("outside", False), ("inside", True)):
        p = LIF(0.5, 1.0, Rectangular(1.0, edge), reset_gradient, tie)
        grads = lif_backward(g, lif_forward(c, None, p)[1])
        for m in range(c.shape[1]):
            dc, du0, _, _ = oracle_gradients(c[:, m].tolist(), 0.0, [1.0, 2.0, 4.0], p)
            assert grads.dc_seq[:, m].tolist() == dc
            assert grads.du0[m] == du0


@pytest.mark.parametrize(
    "surrogate",
    [Tanh(0.5), TanhLiteral(0.1), Rectangular(0.9), Triangular(0.8, width=1.1)],
    ids=repr,
)
@settings(modest, max_examples=16)
@given(
    st.integers(0, 2**32), st.integers(1, 4), st.floats(0.1, 0.95), st.floats(0.3, 1.5), RESET_WAYS
)
def test_gradients_of_the_smooth_network_equal_differences(
    numeric_gradient, surrogate, seed, steps, tau, v_th, way
):
    c, u0, g = drawn(seed, (steps, 2))

    def loss(c=c, u0=u0, tau=tau, v_th=v_th):
        p = LIF(float(tau), float(v_th), surrogate, smooth=True, **way)
        return (g * lif_forward(c, u0, p)[0]).sum()

    _, cache = lif_forward(c, u0, LIF(tau, v_th, surrogate, smooth=True, **way))
    if isinstance(surrogate, Rectangular):  # the clipped line bends there
        assume((np.abs(np.abs(cache.u_pre_seq - v_th) - surrogate.a / 2) > 1e-4).all())
    grads = lif_backward(g, cache)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(grads.dc_seq, numeric_gradient(lambda a: loss(c=a), c), **close)
    np.testing.assert_allclose(grads.du0, numeric_gradient(lambda a: loss(u0=a), u0), **close)
    np.testing.assert_allclose(grads.dtau, numeric_gradient(lambda a: loss(tau=a), tau), **close)
    np.testing.assert_allclose(grads.dv_th, numeric_gradient(lambda a: loss(v_th=a), v_th), **close)


def test_the_base_of_the_triangle_is_held_where_the_threshold_is_differentiated():
    c, u0, g = drawn(1, (4, 50))
    moving, held = (
        LIF(v_th=0.8, surrogate=Triangular()),
        LIF(v_th=0.8, surrogate=Triangular(1, 0.8)),
    )
    gradients = [lif_backward(g, lif_forward(c, u0, p)[1]).dv_th for p in (moving, held)]
    assert gradients[0] == gradients[1] != 0


@pytest.mark.parametrize("reset_gradient", ["full", "detached"])
def test_gradients_of_the_constants_are_left_out_on_request(reset_gradient):
    c, u0, g = drawn(2, (3, 4))
    _, cache = lif_forward(c, u0, LIF(reset_gradient=reset_gradient))
    with_them, without = lif_backward(g, cache), lif_backward(g, cache, constants=False)
    assert (without.dtau, without.dv_th) == (None, None)
    assert isinstance(with_them.dtau, float)
    assert isinstance(with_them.dv_th, float)
    assert np.array_equal(without.dc_seq, with_them.dc_seq)
    assert np.array_equal(without.du0, with_them.du0)


# ---- arrays


@ALL
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("shape", [(2,), (1, 3), (3, 2, 1, 4, 5), (2, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_dtype_are_kept_and_nothing_given_is_written(surrogate, smooth, shape, dtype):
    c, u0, g = drawn(3, shape, dtype)  # not writeable
    for start in (u0, None):
        o, cache = lif_forward(c, start, LIF(surrogate=surrogate, smooth=smooth))
        for a in (cache.u_pre_seq, o):
            a.flags.writeable = False
        grads = lif_backward(g, cache)
        for a, want in ((o, shape), (grads.dc_seq, shape), (grads.du0, shape[1:])):
            assert (a.shape, a.dtype) == (want, dtype)


def test_single_precision_stays_near_double():
    c, u0, g = drawn(4, (4, 200))
    p = LIF(smooth=True)
    double = lif_backward(g, lif_forward(c, u0, p)[1])
    c, u0, g = drawn(4, (4, 200), np.float32)
    single = lif_backward(g, lif_forward(c, u0, p)[1])
    for a, b in zip(single, double, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# ---- errors


@pytest.mark.parametrize("tau", [0, -0.5, 1.01, np.nan, np.inf])
def test_a_leak_factor_outside_0_to_1_is_refused(tau):
    with pytest.raises(ValueError, match=r"^tau: got .*, want a leak factor in \(0, 1\]"):
        LIF(tau=tau)


@pytest.mark.parametrize("v_th", [0, -1, np.nan, np.inf])
def test_a_threshold_that_is_not_positive_is_refused(v_th):
    with pytest.raises(ValueError, match=r"^v_th: got"):
        LIF(v_th=v_th)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reset": "soft"}, "reset: got 'soft', want one of zero, subtract"),
        ({"reset_amount": 1.0}, "reset_amount: got 1.0, want it for reset subtract alone"),
        ({"reset": "subtract", "reset_amount": np.nan}, "reset_amount: got nan"),
    ],
)
def test_a_wrong_reset_is_refused(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        LIF(**given)


@pytest.mark.parametrize("amount", [None, 0.75, 2.0])
def test_a_reset_by_subtraction_without_leak_loses_no_charge(amount):
    rng = np.random.default_rng(0)
    c = rng.integers(-8, 32, (9, 50)) / 16  # exact sums
    p = LIF(tau=1.0, reset="subtract", reset_amount=amount)
    o, cache = lif_forward(c, None, p)
    taken = p.v_th if amount is None else amount
    assert 0 < o.mean() < 1
    assert np.array_equal(reset(cache.u_pre_seq[-1], o[-1], p), (c - taken * o).sum(axis=0))


@pytest.mark.parametrize(
    ("c", "u0", "error", "message"),
    [
        (np.ones((2, 3), int), None, TypeError, "c_seq: got dtype int64"),
        ([[1.0]], None, TypeError, "c_seq: got list"),
        (np.ones((0, 3)), None, ValueError, r"c_seq: got shape \(0, 3\), .* one time step"),
        (np.ones(()), None, ValueError, r"c_seq: got shape \(\), .* one time step"),
        (np.ones((2, 3)), np.ones(2), ValueError, r"u0: got float64 \(2,\), want float64 \(3,\)"),
        (np.ones((2, 3)), np.ones((1, 3)), ValueError, r"u0: got float64 \(1, 3\)"),
        (np.ones((2, 3)), np.ones(3, "f4"), ValueError, r"u0: got float32 .* want float64"),
    ],
)
def test_wrong_currents_or_potentials_are_refused(c, u0, error, message):
    with pytest.raises(error, match=f"^{message}"):
        lif_forward(c, u0, LIF())


@pytest.mark.parametrize("bad", [np.ones((3, 3)), np.ones((2, 1)), np.ones((2, 3), np.float32)])
def test_a_wrong_cotangent_is_refused(bad):
    _, cache = lif_forward(np.ones((2, 3)), None, LIF())
    with pytest.raises(ValueError, match=r"^do_seq: got .* want float64 \(2, 3\) like o_seq"):
        lif_backward(bad, cache)


@pytest.mark.parametrize("wrong", ["tanh", None, Tanh, object()])
def test_an_object_without_a_slope_is_no_surrogate(wrong):
    with pytest.raises(
        TypeError, match=r"^surrogate: got .*, want an object with slope\(x, v_th\)"
    ):
        LIF(surrogate=wrong)
    with pytest.raises(TypeError, match=r"^surrogate: got .*, want an object with primitive"):
        LIF(surrogate=wrong, smooth=True)
