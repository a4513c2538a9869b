"""The neuron's plain loops against values by hand, primitives and complex steps."""

import math

import numpy as np
import pytest

from refsnn.oracle.conventions import PAPER
from refsnn.oracle.naive import neuron


def run(c, **given):
    """Return u_pre, o and u of one neuron as lists."""
    found = neuron.states(np.array(c, float)[:, None], None, given)
    return tuple(found[name][:, 0].tolist() for name in ("u_pre", "o", "u"))


def test_conventions_that_are_not_given_are_the_papers():
    assert {name: PAPER[name] for name in neuron.PAPER} == neuron.PAPER
    assert all(type(v) is type(PAPER[name]) for name, v in neuron.PAPER.items())


@pytest.mark.parametrize(
    ("c", "given", "u_pre", "o", "u"),
    [
        ([1.5, 1, 0], {}, [1.5, 1, 0.5], [1, 0, 0], [0, 1, 0.5]),
        ([1.5, 1, 0], {"fire_at_threshold": True}, [1.5, 1, 0], [1, 1, 0], [0, 0, 0]),
        ([1, 1], {"tau": 0.25, "leak": "tau*u + (1-tau)*c"}, [0.75, 0.9375], [0, 0], None),
        ([1, 1], {"tau": 0.25, "leak": "(1-tau)*u + c"}, [1, 1.75], [0, 1], None),
        ([1, 1], {"tau": 0.25, "leak": "(1-tau)*u + tau*c"}, [0.25, 0.4375], [0, 0], None),
        ([1, 1], {"tau": 0.25, "leak": "tau*(u + c)"}, [0.25, 0.3125], [0, 0], None),
        (
            [1.5, 1, 0],
            {"reset": "subtract", "reset_amount": 0.75},
            [1.5, 1.375, 0.3125],
            [1, 1, 0],
            [0.75, 0.625, 0.3125],
        ),
        ([1.5, 1.5, 0], {"reset_potential": -0.5}, [1.5, 1.25, -0.25], [1, 1, 0], [-0.5] * 2),
        ([1.5, 0], {"reset": "none"}, [1.5, 0.75], [1, 0], [1.5, 0.75]),
        ([1.5, 2, 0.25], {"reset": "zero, next step"}, [1.5, 0, 0.25], [1, 0, 0], [1.5, 0, 0.25]),
        (
            [1.5, 2, 0.25],
            {"reset": "zero, next step", "reset_potential": 1.25},
            [1.5, 1.25, 1.25],
            [1, 1, 1],
            [1.5, 1.25, 1.25],
        ),
        (
            [1.5, 2, 0.25],
            {"reset": "subtract, next step"},
            [1.5, 1.75, 0.125],
            [1, 1, 0],
            [1.5, 1.75, 0.125],
        ),
        ([1, 0, 0], {"synapse": 0.5, "input_gain": 0.5}, [0.5, 0.5, 0.375], [0, 0, 0], None),
        ([2, 2, 2], {"refractory": 1}, [2, 2, 3], [1, 0, 1], [0, 2, 0]),
        ([2, 2, 2, 2], {"refractory": 2}, [2, 2, 3, 3.5], [1, 0, 0, 1], [0, 2, 3, 0]),
        (
            [1.25, 0.25],
            {"spikes": "several", "v_th": 0.5, "reset": "subtract"},
            [1.25, 0.375],
            [2, 0],
            [0.25, 0.375],
        ),
        ([1], {"spikes": "several", "v_th": 0.5}, [1], [1], [0]),
        ([1], {"spikes": "several", "v_th": 0.5, "fire_at_threshold": True}, [1], [2], [0]),
        (
            [2.25, 0, 0],
            {"spikes": "several", "reset": "subtract, next step"},
            [2.25, -0.875, -0.4375],
            [2, 0, 0],
            None,
        ),
        ([2, 0, 0], {"input_delay": 1}, [0, 2, 0], [0, 1, 0], [0, 0, 0]),
        ([2, 0, 0], {"output": "one step late"}, [2, 0, 0], [0, 1, 0], [0, 0, 0]),
        ([2, 0, 0], {"output": 2}, [2, 0, 0], [0, 0, 1], None),
        ([2, 0], {"output": 3, "input_delay": 5}, [0, 0], [0, 0], None),
        ([0, 0], {"initial_potential": 3.0}, [1.5, 0], [1, 0], [0, 0]),
    ],
)
def test_steps_by_hand(c, given, u_pre, o, u):
    got = run(c, **given)
    assert got[0] == u_pre
    assert got[1] == o
    if u is not None:
        assert got[2][: len(u)] == u


def test_multiples_of_the_threshold_are_counted_in_spite_of_rounding():
    """3 * 0.1 is above 0.3, and 0.3 / 0.1 below 3; 0.7 / 0.1 is below 7, and 7 * 0.1 above 0.7."""
    given = {"spikes": "several", "v_th": 0.1, "fire_at_threshold": True}
    for potential in (0.3, 0.6, 0.7, 0.8, 1.1, 3 * 0.1, 6 * 0.1, 7 * 0.1):
        by_counting = sum(potential >= k * 0.1 for k in range(1, 20))
        assert run([potential], **given)[1] == [by_counting]


#: 1.5 fires, and a slope of 1 everywhere; L = o[0] + 10 o[1]
C, DO = np.array([[1.5], [0.25]]), np.array([[1.0], [10.0]])
EVEN = {"surrogate": "straight_through"}


@pytest.mark.parametrize(
    ("reset", "du_pre", "dc", "du0", "dtau", "dv_th"),
    [
        ("zero", [-6.5, 10], [-6.5, 10], -3.25, 0, -3.5),
        ("subtract", [1, 10], [1, 10], 0.5, 5, -11),
        ("none", [6, 10], [6, 10], 3, 15, -11),
        ("zero, next step", [-9, 10], [-9, 0], -4.5, 0, -1),
        ("subtract, next step", [-4, 10], [-4, 10], -2, 15, -11),
    ],
)
def test_gradients_by_hand(reset, du_pre, dc, du0, dtau, dv_th):
    got = neuron.gradients(DO, C, None, EVEN | {"reset": reset})
    assert got["du_pre_seq"][:, 0].tolist() == du_pre
    assert got["dc_seq"][:, 0].tolist() == dc
    assert got["du0"].tolist() == [du0]
    assert (got["dtau"], got["dv_th"]) == (dtau, dv_th)


@pytest.mark.parametrize(
    ("kind", "zero", "subtract", "late_zero", "late_subtract"),
    [
        ("full", -6.5, -1.5, -9, -6.5),
        ("detached", 1, 6, 1, 6),
        ("ignored", 6, 6, 6, 6),
        ("spike path only", -6.5, -6.5, -9, -11.5),
        ("v_th for u_pre", -4, -1.5, -9, -6.5),
        ("sign flipped", 8.5, 13.5, 11, 18.5),
    ],
)
def test_gradients_of_the_reset_by_hand(kind, zero, subtract, late_zero, late_subtract):
    """Soft resets subtract 1.5 or 1.25 here, not v_th."""
    for reset, amount, want in (
        ("zero", 1.5, zero),
        ("subtract", 1.5, subtract),
        ("zero, next step", 1.0, late_zero),
        ("subtract, next step", 1.25, late_subtract),
    ):
        given = EVEN | {"reset": reset, "reset_amount": amount, "reset_gradient": kind}
        assert neuron.gradients(DO, C, None, given)["du_pre_seq"][0, 0] == want, reset


def test_gradients_of_delays_and_the_synapse_by_hand():
    def grads(**given):
        found = neuron.gradients(DO, C, None, EVEN | {"reset": "none"} | given)
        return found["du_pre_seq"][:, 0].tolist(), found["dc_seq"][:, 0].tolist()

    assert grads(output="one step late") == ([10, 0], [10, 0])
    assert grads(output=2) == ([0, 0], [0, 0])
    assert grads(input_delay=1, input_gain=3) == ([6, 10], [30, 0])
    assert grads(synapse=0.25) == ([6, 10], [8.5, 10])
    assert grads(refractory=1) == ([1, 0], [1, 0])


#: what a spike of one of two neurons adds to the current of the other, and to its own
V = np.array([[0.5, -1.0], [2.0, 0.25]])
PAIR = np.array([[1.5, 0.25], [0.25, 0.0], [0.0, 0.5]])


def test_a_coupled_pair_by_hand():
    """The first fires in step 0, which makes the second fire in step 1."""
    got = neuron.coupled_states(PAIR, V, None, {})
    # the currents of step 1 are (0.25 + 0.5, 0 + 2), those of step 2 (0 - 1, 0.5 + 0.25)
    assert got["u_pre"].tolist() == [[1.5, 0.25], [0.75, 2.125], [-0.625, 0.75]]
    assert got["o"].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert got["u"].tolist() == [[0, 0.25], [0.75, 0], [-0.625, 0.75]]


def test_a_coupled_pair_with_delays_by_hand():
    late = neuron.coupled_states(PAIR, V, None, {"output": "one step late"})
    assert late["u_pre"].tolist() == [[1.5, 0.25], [0.25, 0.125], [0.625, 2.5625]]
    assert late["o"].tolist() == [[0, 0], [1, 0], [0, 0]]
    c = PAIR * [2, 1]
    late = neuron.coupled_states(c, V, None, {"input_delay": 1, "input_gain": 0.5})
    # the spike of step 1 acts in step 3
    assert late["u_pre"].tolist() == [[0, 0], [1.5, 0.125], [0.25, 0.0625]]
    c = np.vstack([c, [[0, 0]]])
    late = neuron.coupled_states(c, V, None, {"input_delay": 1, "input_gain": 0.5})
    assert late["u_pre"][3].tolist() == [0.125 + 0.5 * 0.5, 0.03125 + 0.5 * 2.5]


def test_gradients_of_a_coupled_pair_by_hand():
    """With a slope of 1 everywhere.

    dL/do of step 1 is (3 + 0.5 * 5 + 2 * 6, 4 - 5 + 0.25 * 6) = (17.5, 0.5), and of step 0
    (1 + 0.5 * 18.125 - 2 * 5.875, 2 - 18.125 - 0.25 * 5.875) = (-1.6875, -17.59375).
    """
    do = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    got = neuron.coupled_gradients(do, PAIR, V, None, EVEN)
    du_pre = [[-15.28125, -19.796875], [18.125, -5.875], [5, 6]]
    assert got["du_pre_seq"].tolist() == du_pre
    assert got["dc_seq"].tolist() == du_pre
    assert got["dv"].tolist() == [[18.125, 5], [-5.875, 6]]
    assert got["du0"].tolist() == [-7.640625, -9.8984375]
    assert (got["dtau"], got["dv_th"]) == (2.28125, 11.390625)
    np.testing.assert_array_equal(do, [[1, 2], [3, 4], [5, 6]])


def smooth(c, do, n, tau, v_th, u0, extra, v, base=None):
    """Compute the loss of many neurons, and what a base needs; `extra` is added to u_pre.

    Spikes as passed on drive all neurons a step later, through v.
    Beside a base, spikes are the base's plus the change of shape * tanh(u_pre - v_th).
    """
    a, b = {
        "tau*u + c": (tau, 1),
        "tau*u + (1-tau)*c": (tau, 1 - tau),
        "(1-tau)*u + c": (1 - tau, 1),
        "(1-tau)*u + tau*c": (1 - tau, tau),
        "tau*(u + c)": (tau, tau),
    }[n["leak"]]
    amount = v_th if n["reset_amount"] == "v_th" else n["reset_amount"]
    delay = {"same step": 0, "one step late": 1}.get(n["output"], n["output"])
    i, u, f, s = 0, u0, 0 * u0, 0 * u0
    counts, smoothed, currents, passed, loss = [], [], [], [], 0
    for t in range(len(c)):
        currents.append(c[t] + (v @ passed[t - 1 - delay] if t > delay else 0))
        i = n["synapse"] * i + (
            n["input_gain"] * currents[t - n["input_delay"]] if t >= n["input_delay"] else 0
        )
        u_pre = a * u + b * i
        if n["reset"] == "zero, next step":
            u_pre = u_pre * (1 - s) + n["reset_potential"] * s
        if n["reset"] == "subtract, next step":
            u_pre = u_pre - amount * f
        u_pre = u_pre + extra[t]
        smoothed.append(n["surrogate_shape"] * np.tanh(u_pre - v_th))
        most = 1 if n["spikes"] == "one" else 99
        multiples = np.arange(1, most + 1)[:, None] * v_th
        may = np.array(
            [
                not any(past[k] for past in counts[max(0, t - n["refractory"]) : t])
                for k in range(c.shape[1])
            ]
        )
        if base is None:
            f = (u_pre.real > multiples.real).sum(axis=0) * may
            s = np.minimum(f, 1)
            counts.append(f)
        else:
            counts.append(base[0][t])
            change = (smoothed[t] - base[1][t]) * may
            f, s = base[0][t] + change, np.minimum(base[0][t], 1) + change
        passed.append(f)
        u = u_pre
        if n["reset"] == "zero":
            u = u_pre * (1 - s) + n["reset_potential"] * s
        if n["reset"] == "subtract":
            u = u_pre - amount * f
        if t + delay < len(c):
            loss = loss + (do[t + delay] * f).sum()
    return loss, (counts, smoothed)


def drawn(seed):
    """Draw conventions, c and do."""
    rng = np.random.default_rng(seed)

    def one_of(*values):
        return values[rng.integers(len(values))]

    given = {
        "tau": 0.6,
        "v_th": 0.8,
        "leak": one_of(
            "tau*u + c",
            "tau*u + (1-tau)*c",
            "(1-tau)*u + c",
            "(1-tau)*u + tau*c",
            "tau*(u + c)",
        ),
        "reset": one_of("zero", "subtract", "none", "zero, next step", "subtract, next step"),
        "reset_amount": one_of("v_th", "v_th", 0.5),
        "reset_potential": one_of(0.0, -0.3, 0.4),
        "spikes": one_of("one", "several"),
        "refractory": one_of(0, 0, 1, 3),
        "synapse": one_of(0.0, 0.3, 1.0),
        "input_delay": one_of(0, 0, 2),
        "input_gain": one_of(1.0, 1.7),
        "output": one_of("same step", "one step late", 2),
        "initial_potential": one_of("zero", 0.7),
        "surrogate_shape": 0.7,
    }
    return neuron.PAPER | given, rng.normal(0.9, 1, (5, 4)), rng.normal(size=(5, 4))


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_gradients_are_those_of_a_smooth_neuron(seed, coupled):
    """By steps of 1e-30 i, which need no difference."""
    n, c, do = drawn(seed)
    v = np.random.default_rng(seed).normal(size=(4, 4)) * coupled
    u0 = np.full(4, 0.0 if n["initial_potential"] == "zero" else n["initial_potential"])
    numbers = {"c": c, "tau": n["tau"], "v_th": n["v_th"], "u0": u0, "extra": np.zeros_like(c)}
    numbers["v"] = v

    def loss(**changed):
        values = {name: np.asarray(value, complex) for name, value in (numbers | changed).items()}
        return smooth(values.pop("c"), do, n, base=base, **values)[0]

    base = None
    _, base = smooth(c, do, n, n["tau"], np.float64(n["v_th"]), u0, np.zeros_like(c), v)
    got = neuron.gradients(do, c, None, n)
    if coupled:
        got = neuron.coupled_gradients(do, c, v, None, n)
        late = {"same step": 0, "one step late": 1}.get(n["output"], n["output"])
        spikes = neuron.coupled_states(c, v, None, n)["o"]
        np.testing.assert_array_equal(spikes[late:], base[0][: len(c) - late])
    for name, output in (
        *((("v", "dv"),) if coupled else ()),
        ("c", "dc_seq"),
        ("extra", "du_pre_seq"),
        ("u0", "du0"),
        ("tau", "dtau"),
        ("v_th", "dv_th"),
    ):
        want = np.zeros(np.shape(numbers[name]))
        for at in np.ndindex(want.shape):
            step = np.zeros(want.shape, complex)
            step[at] = 1e-30j
            want[at] = loss(**{name: numbers[name] + step}).imag / 1e-30
        np.testing.assert_allclose(got[output], want, rtol=1e-11, atol=1e-12, err_msg=output)


PRIMITIVES = {
    "tanh": lambda x, k: k * math.tanh(x),
    "tanh_literal": lambda x, k: k * (2 * x - math.tanh(x) - 2 * math.log(math.cosh(x))),
    "rectangular": lambda x, a: min(max(x / a, -0.5), 0.5),
    "triangular": lambda x, k: k * (x - x * abs(x) / 1.6) if abs(x) < 0.8 else 0.4 * k * np.sign(x),
    "sigmoid": lambda x, k: 1 / (1 + math.exp(-k * x)),
    "atan": lambda x, k: math.atan(math.pi / 2 * k * x) / math.pi,
    "fast_sigmoid": lambda x, k: x / (1 + k * abs(x)),
    "piecewise_quadratic": lambda x, k: (
        k * x - k * k * x * abs(x) / 2 if k * abs(x) < 1 else np.sign(x) / 2
    ),
    "exponential": lambda x, k: np.sign(x) * (1 - math.exp(-k * abs(x))) / 2,
    "gaussian": lambda x, s: math.erf(x / s / math.sqrt(2)) / 2,
    "straight_through": lambda x, k: x,
    "step": lambda x, k: max(x + k, 0) / 0.8,
}


@pytest.mark.parametrize("shape", [0.5, 1.3])
@pytest.mark.parametrize("surrogate", PRIMITIVES)
def test_slopes_are_derivatives(surrogate, shape):
    given = {"surrogate": surrogate, "surrogate_shape": shape, "v_th": 0.8}
    for at, distance in (("u_pre - v_th", 0.8), ("u_pre", 0.0)):
        for x in (-1.7, -0.61, -0.11, 0.07, 0.53, 1.9):
            above, below = (PRIMITIVES[surrogate](x + e, shape) for e in (1e-5, -1e-5))
            got = neuron.slope(x + distance, given | {"surrogate_at": at})
            assert got == pytest.approx((above - below) / 2e-5, abs=1e-8)


def test_slopes_after_the_reset():
    given = {"surrogate": "exponential", "surrogate_at": "u", "spikes": "several"}

    def distance(u_pre, **more):
        return -math.log(2 * neuron.slope(u_pre, given | more) / 0.5) / 0.5

    assert distance(2.5) == pytest.approx(1)  # u = 0
    assert distance(2.5, reset_potential=1.25) == pytest.approx(0.25)
    assert distance(2.75, reset="subtract") == pytest.approx(0.25)  # u = 0.75
    assert distance(2.75, reset="subtract", reset_amount=0.25) == pytest.approx(1.25)  # u = 2.25
    assert distance(2.75, reset="zero, next step") == pytest.approx(1.75)
    assert distance(0.5, reset_potential=1.25) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("surrogate", "factors"),
    [
        ("rectangular", (0.25, 1, 0.25)),
        ("tanh", (1, 4, 4)),
        ("tanh_literal", (1, 4, 4)),
        ("triangular", (1, 4, 4)),
        ("sigmoid", (1, 1, 1)),
    ],
)
def test_heights(surrogate, factors):
    given = {"surrogate": surrogate, "surrogate_shape": 0.25}
    full = neuron.slope(1.0625, given)
    for scale, factor in zip(("without 1/a", "without k", "without any"), factors, strict=True):
        assert neuron.slope(1.0625, given | {"surrogate_scale": scale}) == full * factor
    assert neuron.slope(1.0625, given | {"surrogate_scale": -3.0}) == -3 * full


@pytest.mark.parametrize("surrogate", PRIMITIVES)
def test_slopes_far_away_do_not_overflow(surrogate):
    for shape in (1e-6, 1e6):
        given = {"surrogate": surrogate, "surrogate_shape": shape}
        assert all(0 <= neuron.slope(u, given) < math.inf for u in (-1e200, -1e6, 1e6, 1e200))


@pytest.mark.parametrize(
    "name", ["leak", "spikes", "reset", "surrogate", "surrogate_scale", "surrogate_at"]
)
def test_unknown_values_are_refused(name):
    with pytest.raises((ValueError, KeyError), match="another"):
        neuron.lif_backward(DO, C, 0.0, {name: "another"})


def test_kept_potentials_are_refused():
    with pytest.raises(ValueError, match="keep no potentials"):
        neuron.states(C, None, {"initial_potential": "kept"})
