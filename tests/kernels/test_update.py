"""The optimisers' kernels equal their NumPy twins bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from refsnn.equations import update as equations
from refsnn.kernels import update as kernels
from refsnn.kernels.threads import get_num_threads

BLOCK = kernels.BLOCK
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
RULES = pytest.mark.parametrize("rule", ["sgd", "adamw"])
SHAPES = [
    (),
    (0,),
    (1,),
    (3, 0, 2),
    (3, 3, 16, 7),
    (BLOCK - 1,),
    (BLOCK,),
    (2, BLOCK // 2 + 1),
    *([(3 * BLOCK + 5,)] if not config.DISABLE_JIT else []),
]
NUMBERS = {"sgd": (0.1, 0.9, 5e-4), "adamw": (3, 0.01, 0.05)}


def drawn(rule, shape, dtype, seed=0):
    """Weights, their gradient, and what the rule keeps between iterations, of many sizes."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.integers(-6, 3, shape)
    w, g, v, square = (np.asarray(rng.normal(size=shape) * size, dtype) for _ in range(4))
    return [w, g, v] if rule == "sgd" else [w, g, v, np.asarray(abs(square))]


def update(module, rule, given_arrays, numbers):
    return getattr(module, f"{rule}_update")(*given_arrays, *numbers)


@pytest.fixture(scope="session")
def assert_twins(assert_same_bits):
    def check(rule, given_arrays, numbers):
        got = update(kernels, rule, given_arrays, numbers)
        want = update(equations, rule, given_arrays, numbers)
        for a, b in zip(got, want, strict=True):
            assert isinstance(a, np.ndarray)
            assert_same_bits(a, b)

    return check


@RULES
@DTYPES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_twins_agree(shape, dtype, rule, assert_twins):
    assert_twins(rule, drawn(rule, shape, dtype), NUMBERS[rule])


@DTYPES
@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    lr=st.floats(0, 10),
    momentum=st.floats(0, 1),
    decay=st.floats(0, 0.1),
    iteration=st.integers(1, 10**6),
    seed=st.integers(0, 2**32),
)
def test_twins_agree_for_any_rates(dtype, lr, momentum, decay, iteration, seed, assert_twins):
    assert_twins("sgd", drawn("sgd", (40,), dtype, seed), (lr, momentum, decay))
    assert_twins("adamw", drawn("adamw", (40,), dtype, seed), (iteration, lr, decay))


@RULES
@DTYPES
def test_twins_agree_where_numbers_are_not_finite(dtype, rule, assert_twins):
    given_arrays = drawn(rule, (7,), dtype)
    given_arrays[0][0], given_arrays[1][1], given_arrays[1][2] = np.inf, -np.inf, 0
    given_arrays[2][3] = np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        assert_twins(rule, given_arrays, NUMBERS[rule])


@RULES
@DTYPES
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda a: a[::2], id="every second"),
        pytest.param(lambda a: a.T, id="transposed"),
        pytest.param(lambda a: a[::-1], id="reversed"),
        pytest.param(lambda a: np.broadcast_to(a[:1], a.shape), id="repeated"),
    ],
)
def test_inputs_that_are_not_contiguous(view, dtype, rule, assert_twins):
    given_arrays = [view(a) for a in drawn(rule, (6, 5), dtype)]
    assert not any(a.flags.c_contiguous for a in given_arrays)
    assert_twins(rule, given_arrays, NUMBERS[rule])
    first, *rest = given_arrays
    assert_twins(rule, [first.copy(), *rest], NUMBERS[rule])


@RULES
@DTYPES
def test_nothing_given_is_written_and_what_comes_is_new(dtype, rule):
    given_arrays = drawn(rule, (5, 8), dtype)
    for a in given_arrays:
        a.flags.writeable = False
    new = update(kernels, rule, given_arrays, NUMBERS[rule])
    for a in new:
        assert a.flags.c_contiguous
        assert not any(np.shares_memory(a, b) for b in (*given_arrays, *new) if a is not b)


@RULES
def test_the_number_of_threads_does_not_change_a_bit(rule, with_threads, assert_same_bits):
    setting = kernels, rule, drawn(rule, (BLOCK + 9,), np.float32), NUMBERS[rule]
    many = with_threads(get_num_threads(), update, *setting)
    for a, b in zip(with_threads(1, update, *setting), many, strict=True):
        assert_same_bits(a, b)


@RULES
def test_arrays_that_are_not_alike_are_left_to_the_equations(rule, assert_twins):
    """One float64 among float32 makes the result float64; what is smaller is broadcast."""
    arrays, numbers = drawn(rule, (4, 5), np.float32), NUMBERS[rule]
    for index, a in enumerate(arrays):
        for other in (a.astype(np.float64), a[:1], a[0], a.astype(np.float16)):
            assert_twins(rule, [*arrays[:index], other, *arrays[index + 1 :]], numbers)
    assert_twins(rule, [np.rint(a).astype(int) for a in arrays], numbers)
    assert_twins(rule, arrays, (*numbers[:-1], np.float64(numbers[-1])))


@RULES
def test_shapes_that_do_not_fit_are_refused(rule):
    arrays = drawn(rule, (4, 5), np.float32)
    with pytest.raises(ValueError, match="broadcast"):
        update(kernels, rule, [arrays[0], arrays[1][:, :3], *arrays[2:]], NUMBERS[rule])
