"""Small networks with inputs, in float64."""

import numpy as np
import pytest

from refsnn.network import Network, architecture, init_buffers, init_params


@pytest.fixture(scope="session")
def build():
    """A network, parameters moved off their initial zeros and ones, and buffers likewise."""

    def make(arch="1-2:2-3", width=1.0, **settings):
        net = Network(architecture(arch).scaled(width), 2, 3, **settings)
        rng = np.random.default_rng(5)
        params = init_params(net, rng)
        params = {name: p + 0.2 * rng.normal(size=p.shape) for name, p in params.items()}
        for name in params:
            if "bn" in name and name.endswith("bias"):
                params[name] += 0.7  # so that even a few channels keep firing
        buffers = {name: b + rng.uniform(0, 0.5, b.shape) for name, b in init_buffers(net).items()}
        return net, params, buffers

    return make


@pytest.fixture(scope="session")
def sequence():
    """An input (T, N, size, size, 2) whose steps all differ, and labels."""

    def make(steps=3, n=4, size=8):
        rng = np.random.default_rng(7)
        return rng.normal(size=(steps, n, size, size, 2)), rng.integers(0, 3, n)

    return make
