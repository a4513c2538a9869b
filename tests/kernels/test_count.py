"""Counting spikes word by word."""

import numpy as np
import pytest

from refsnn.kernels.count import BLOCK, WORD, count_spikes

SIZES = [0, 1, WORD - 1, WORD, WORD + 1, 3 * WORD * BLOCK - 1, 3 * WORD * BLOCK + 5]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("density", [0, 0.3, 1])
def test_the_number_is_numpys(size, density):
    x = (np.random.default_rng(0).random(size) < density).astype(np.uint8)
    assert count_spikes(x) == np.count_nonzero(x)


@pytest.mark.parametrize("laid_out", [lambda x: x[::2], lambda x: x.T, lambda x: x[1:, 3:]])
def test_other_layouts_are_counted_as_they_are(laid_out):
    x = laid_out((np.random.default_rng(0).random((40, 30)) < 0.3).astype(np.uint8))
    x.flags.writeable = False
    assert count_spikes(x) == np.count_nonzero(x)


@pytest.mark.parametrize("number", [2, 3, 128, 255])
@pytest.mark.parametrize("at", [0, WORD - 1, WORD * BLOCK, -1])
def test_other_numbers_are_refused_wherever_they_are(number, at):
    x = np.zeros(2 * WORD * BLOCK + 3, np.uint8)
    x[at] = number
    with pytest.raises(ValueError, match=f"^x: got {number} among spikes, want 0 and 1$"):
        count_spikes(x)
