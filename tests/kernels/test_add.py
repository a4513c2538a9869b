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
