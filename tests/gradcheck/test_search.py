"""The worst element of many, in few questions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refsnn.gradcheck.search import worst_element


@given(st.integers(1, 5000), st.data())
def test_the_one_element_at_fault_is_found(size, data):
    culprit = data.draw(st.integers(0, size - 1))
    asked = []

    def off(part):
        asked.append(part)
        return float(abs(part[culprit])), float(part[culprit])

    v = np.where(np.arange(size) % 2, 1.0, -2.0)
    assert worst_element(v, off) == ((culprit,), v[culprit])
    assert len(asked) <= 16 + 2 * np.ceil(np.log2(size))
