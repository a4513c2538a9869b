from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture
def dense():
    """A layer as a user would write it: y = tanh(x @ w + b)."""

    def forward(x, w, b):
        y = np.tanh(x @ w + b)
        return y, (x, w, y)

    def backward(dy, cache):
        x, w, y = cache
        da = dy * (1 - y * y)
        return da @ w.T, x.T @ da, da.sum(axis=0)

    rng = np.random.default_rng(3)
    inputs = {"x": rng.normal(size=(5, 4)), "w": rng.normal(size=(4, 4)), "b": rng.normal(size=4)}
    return SimpleNamespace(forward=forward, backward=backward, inputs=inputs)


@pytest.fixture
def verdicts():
    """(subject, kind) -> verdict of a report's checks."""
    return lambda report: {(c.subject, c.kind): c.verdict for c in report.checks}
