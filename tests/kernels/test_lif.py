"""The neuron's kernels equal their NumPy twin bit for bit, but for float32's slopes of tanh."""

import numpy as np
import pytest
from fused_layers import APPROXIMATE, SURROGATES, delta_bound
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.equations import lif as equations
from refsnn.equations.lif import LIF
from refsnn.equations.surrogate import Tanh
from refsnn.kernels import lif as kernels

BLOCK = kernels.BLOCK
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def assert_same_bits(got, want):
    """Equal in dtype, shape and every bit, the sign of zero too."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert got.tobytes() == want.tobytes()


def drawn(seed, shape, v_th, dtype):
    """c_seq, u0 and do_seq, a third of the currents on v_th or one step of rounding from it.

    A neuron is at 0 after it fired, and starts from 0 here at every second place:
    there the current alone is the potential that meets the threshold.
    """
    rng = np.random.default_rng(seed)
    c, u0, do = rng.normal(0.4, 0.8, shape), rng.normal(size=shape[1:]), rng.normal(size=shape)
    c, u0, do = c.astype(dtype), u0.astype(dtype), do.astype(dtype)
    v = dtype(v_th)
    near = np.array([np.nextafter(v, dtype(0)), v, np.nextafter(v, dtype(9))])
    chosen = rng.random(shape) < 1 / 3
    c[chosen] = rng.choice(near, chosen.sum())
    u0.reshape(-1)[::2] = 0
    return c, u0, do


def assert_twins(c, u0, do, p, constants=True):
    o, cache = kernels.lif_forward(c, u0, p)
    want_o, want_cache = equations.lif_forward(c, u0, p)
    assert_same_bits(o, want_o)
    assert_same_bits(cache.o_seq, want_o)
    assert_same_bits(cache.u_pre_seq, want_cache.u_pre_seq)
    assert_same_bits(cache.u0, want_cache.u0)
    got = kernels.lif_backward(do, cache, constants)
    want = equations.lif_backward(do, want_cache, constants)
    if c.dtype == np.float32 and type(p) is LIF and type(p.surrogate) in APPROXIMATE:
        assert_near(got, want, do, want_cache)
        return
    for a, b in zip(got, want, strict=True) if constants else zip(got[:2], want[:2], strict=True):
        assert_same_bits(a, b)


def assert_near(got, want, do, cache):
    """Where the slopes are off by some eps, so is what is computed with them."""
    off = delta_bound(do, cache)
    assert (got.dc_seq.dtype, got.dc_seq.shape) == (np.float32, do.shape)
    assert (np.abs(got.dc_seq - want.dc_seq) <= off).all()
    assert (got.du0.dtype, got.du0.shape) == (np.float32, do.shape[1:])
    assert (np.abs(got.du0 - want.du0) <= 1.01 * off[0]).all()
    size = np.abs(want.dc_seq).sum() + np.abs(do).sum()
    for a, b in zip(got[2:], want[2:], strict=True):
        assert (a is b is None) or abs(a - b) <= 1e-5 * (1 + size)


@DTYPES
@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from([(1,), (7,), (3, 5, 2), (3, 1, 5, 2)]),
    steps=st.integers(1, 5),
    tau=st.sampled_from([0.25, 0.5, 0.3, 1.0]),
    v_th=st.sampled_from([0.1, 0.5, 0.7, 1.0]),  # 0.1 and 0.7 round up and down in float32
    reset_gradient=st.sampled_from(["full", "detached"]),
    fire_at_threshold=st.booleans(),
    given_u0=st.booleans(),
    way=st.sampled_from([{}, {"reset": "subtract"}, {"reset": "subtract", "reset_amount": 0.3}]),
)
def test_kernels_give_the_bits_of_the_equations(
    dtype,
    surrogate,
    seed,
    shape,
    steps,
    tau,
    v_th,
    reset_gradient,
    fire_at_threshold,
    given_u0,
    way,
):
    c, u0, do = drawn(seed, (steps, *shape), v_th, dtype)
    p = LIF(tau, v_th, surrogate, reset_gradient, fire_at_threshold, **way)
    assert_twins(c, u0 if given_u0 else None, do, p)


@DTYPES
@pytest.mark.parametrize("reset_gradient", ["full", "detached"])
@pytest.mark.parametrize(
    "count", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7], ids=lambda n: f"{n} neurons"
)
def test_twins_agree_at_and_beyond_one_block_of_neurons(count, reset_gradient, dtype):
    c, u0, do = drawn(count, (3, count), 0.7, dtype)
    assert_twins(c, u0, do, LIF(0.3, 0.7, reset_gradient=reset_gradient))


@DTYPES
@pytest.mark.parametrize("fire_at_threshold", [False, True])
def test_inputs_on_the_threshold_fire_only_where_asked_to(fire_at_threshold, dtype):
    c, _, _ = drawn(0, (1, 3000), 0.7, dtype)
    o, _ = kernels.lif_forward(c, None, LIF(v_th=0.7, fire_at_threshold=fire_at_threshold))
    on, above = c == dtype(0.7), c > dtype(0.7)
    assert on.sum() > 100
    assert np.array_equal(o == 1, on | above if fire_at_threshold else above)


@DTYPES
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda a: a[..., ::2], id="every second"),
        pytest.param(lambda a: a[..., ::-1], id="reversed"),
        pytest.param(lambda a: np.asfortranarray(a), id="last axis slowest"),
        pytest.param(lambda a: np.broadcast_to(a[..., :1], a.shape), id="repeated"),
    ],
)
def test_inputs_that_are_not_contiguous(view, dtype):
    c, u0, do = (view(a) for a in drawn(1, (4, 6, 10), 1.0, dtype))
    assert not c.flags.c_contiguous
    assert_twins(c, u0, do, LIF())


def test_constants_given_as_numpy_numbers_leave_float32_alone():
    c, u0, do = drawn(4, (3, 50), 0.7, np.float32)
    p = LIF(np.float64(0.3), np.float64(0.7), Tanh(np.float64(0.4)))
    assert equations.lif_forward(c, u0, p)[0].dtype == np.float32
    assert_twins(c, u0, do, p)


@DTYPES
@pytest.mark.parametrize("shape", [(3,), (2, 0), (2, 0, 3)])
def test_a_single_neuron_without_an_axis_and_no_neurons_at_all(shape, dtype):
    c, u0, do = drawn(2, shape, 1.0, dtype)
    assert_twins(c, u0, do, LIF())


@DTYPES
def test_gradients_by_the_constants_are_left_out_where_they_are_not_asked_for(dtype):
    c, u0, do = drawn(5, (3, 40), 1.0, dtype)
    assert_twins(c, u0, do, LIF(), constants=False)
    grads = kernels.lif_backward(do, kernels.lif_forward(c, u0, LIF())[1], constants=False)
    assert grads[2:] == (None, None)


@DTYPES
def test_a_smooth_neuron_is_left_to_the_equations(dtype):
    c, u0, do = drawn(3, (3, 40), 1.0, dtype)
    p = LIF(smooth=True)
    assert_twins(c, u0, do, p)
    assert not set(np.unique(kernels.lif_forward(c, u0, p)[0])) <= {0, 1}


@DTYPES
def test_nothing_given_is_written(dtype):
    c, u0, do = drawn(4, (3, 40), 1.0, dtype)
    _, cache = kernels.lif_forward(c, u0, LIF())
    given_arrays = c, u0, do, cache.u_pre_seq, cache.o_seq
    copies = [a.copy() for a in given_arrays]
    kernels.lif_forward(c, u0, LIF())
    first = kernels.lif_backward(do, cache)
    for a, b in zip(given_arrays, copies, strict=True):
        assert_same_bits(a, b)
    for a, b in zip(kernels.lif_backward(do, cache), first, strict=True):
        assert_same_bits(a, b)


def test_wrong_arguments_are_refused_as_by_the_equations():
    c = np.ones((2, 3))
    _, cache = kernels.lif_forward(c, None, LIF())
    with pytest.raises(TypeError, match=r"^c_seq: got dtype int64"):
        kernels.lif_forward(c.astype(int), None, LIF())
    with pytest.raises(ValueError, match=r"^c_seq: got shape \(0, 3\)"):
        kernels.lif_forward(c[:0], None, LIF())
    with pytest.raises(ValueError, match=r"^u0: got float64 \(2,\)"):
        kernels.lif_forward(c, np.ones(2), LIF())
    with pytest.raises(ValueError, match=r"^do_seq: got float64 \(2, 2\)"):
        kernels.lif_backward(c[:, :2], cache)
    with pytest.raises(ValueError, match=r"^do_seq: got float32"):
        kernels.lif_backward(c.astype(np.float32), cache)


class Sharp(Tanh):
    """Computes in double, whatever it is given."""

    def slope(self, x, v_th):
        return np.where(np.abs(x) < 0.5, 1 / 3, 0.1)


class Vector(LIF):
    """A threshold for each neuron."""

    v_th = property(lambda self: np.linspace(0.5, 1, 40), lambda self, value: None)


@DTYPES
@pytest.mark.parametrize("reset_gradient", ["full", "detached"])
def test_a_slope_of_another_dtype_is_that_of_the_equations(dtype, reset_gradient):
    c, u0, do = drawn(5, (6, 200), 1.0, dtype)
    p = LIF(0.3, surrogate=Sharp(), reset_gradient=reset_gradient)
    assert_twins(c, u0, do, p)
    _, cache = kernels.lif_forward(c, u0, p)
    h = np.where(np.abs(cache.u_pre_seq[-1] - dtype(1)) < 0.5, 1 / 3, 0.1).astype(dtype)
    assert_same_bits(kernels.lif_backward(do, cache).dc_seq[-1], do[-1] * h)


def test_a_neuron_of_a_class_of_its_own_is_left_to_the_equations():
    c, u0, do = drawn(6, (3, 40), 1.0, np.float64)
    p = object.__new__(Vector)
    for name, value in vars(LIF()).items():
        if name != "v_th":
            object.__setattr__(p, name, value)
    assert_twins(c, u0, do, p, constants=False)


def test_a_flag_may_be_of_numpy():
    c, u0, do = drawn(7, (3, 40), 1.0, np.float64)
    assert_twins(c, u0, do, LIF(fire_at_threshold=np.True_))
