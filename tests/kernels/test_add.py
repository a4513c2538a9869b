"""Adding gradients up in compiled loops."""

import numpy as np
import pytest

from refsnn.kernels.add import BLOCK, add_into


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 5), (1,), (2, BLOCK // 2), (BLOCK + 1,), (3, 2, 0)])
def test_the_sum_is_numpys_to_the_bit(shape, dtype):
    rng = np.random.default_rng(0)
    total, x = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    want, kept = total + x, x.copy()
    assert add_into(total, x) is None
    assert total.tobytes() == want.tobytes()
    assert np.array_equal(x, kept)


def test_a_summand_in_another_layout_is_added_where_it_belongs():
    total, x = np.zeros((4, 5)), np.arange(20.0).reshape(5, 4).T
    add_into(total, x)
    assert np.array_equal(total, x)


def test_a_summand_of_another_shape_or_dtype_is_refused():
    total = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"^x: got "):
        add_into(total, np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"^x: got float64"):
        add_into(total, np.zeros((2, 3)))


@pytest.mark.parametrize(
    "laid_out",
    [lambda a: a.T, lambda a: a[::2], lambda a: a[::-1], np.asfortranarray],
    ids=["transposed", "every second", "reversed", "by columns"],
)
def test_a_total_in_another_layout_is_added_to_where_it_stands(laid_out):
    total = laid_out(np.arange(24.0).reshape(4, 6).copy())
    assert not total.flags.c_contiguous
    want = total + 1
    add_into(total, np.ones(total.shape))
    assert np.array_equal(total, want)


def test_a_term_that_is_the_total_itself_is_read_before_it_is_written():
    memory = np.ones(2 * BLOCK + 1)
    want = memory[:-1] + memory[1:]
    add_into(memory[1:], memory[:-1])
    assert np.array_equal(memory[1:], want)
    add_into(memory, memory)
    assert np.array_equal(memory[1:], 2 * want)


def test_a_total_that_cannot_be_written_is_refused():
    total = np.zeros(3)
    total.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        add_into(total, np.ones(3))
