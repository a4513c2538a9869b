"""The numerical gradient that the hand-derived ones are held against."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def numeric_gradient():
    def gradient(f, x, step=1e-6):
        """Central differences of the scalar f at the float64 array (or number) x."""
        x = np.asarray(x, float)
        dx = np.empty_like(x)
        for i in np.ndindex(x.shape):
            e = np.zeros_like(x)
            e[i] = step
            dx[i] = (f(x + e) - f(x - e)) / (2 * step)
        return dx

    return gradient
