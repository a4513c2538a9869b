"""Both sets of operations give the same network, whatever its parts are of."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from refsnn.network import Network, architecture, backward, forward, init_buffers, init_params
from refsnn.network import neuron_caches as neurons
from refsnn.ops import LIF, NUMPY, SURROGATES, BatchNorm, get_ops


class Steeper(SURROGATES["tanh"]):
    def slope(self, x, v_th):
        return 1 / (1 + 9 * x * x)


class Wider(SURROGATES["triangular"]):
    def slope(self, x, v_th):
        return super().slope(x / 3, v_th)


@dataclass(frozen=True)
class Sigmoid:
    """Shares nothing with refsnn's own."""

    alpha: float = 3.0

    def primitive(self, x, v_th):
        return 1 / (1 + np.exp(-self.alpha * x))

    def slope(self, x, v_th):
        o = self.primitive(x, v_th)
        return self.alpha * o * (1 - o)


class Steps:
    """Computed in float64, whatever it is given."""

    def slope(self, x, v_th):
        return np.where(np.abs(x) < 0.7, 0.9, 0.1)


class Inside:
    """Counts."""

    def slope(self, x, v_th):
        return np.abs(x) < 0.7


class Doubled(LIF):
    """A leak of its own."""

    tau = property(lambda self: 0.9, lambda self, value: None)


class Scaled(BatchNorm):
    scale = property(lambda self: 0.5, lambda self, value: None)


OWN = [
    LIF(surrogate=Steeper()),
    LIF(surrogate=Wider()),
    LIF(surrogate=Sigmoid()),
    LIF(surrogate=Steps()),
    LIF(surrogate=Inside()),
    LIF(surrogate=Sigmoid(), reset_gradient="detached"),
    LIF(surrogate=Sigmoid(), smooth=True),
    Doubled(),
]


def net_of(lif=None, norm=None):
    return Network(
        architecture("1-1:4-8"), 2, 3, lif=lif or LIF(), norm=norm or BatchNorm(eps=1e-3)
    )


def passes(net, ops, dtype=np.float32):
    """(neurons' caches, logits and gradients) of a step."""
    rng = np.random.default_rng(3)
    params = {
        name: (value + 0.2 * rng.normal(size=value.shape)).astype(dtype)
        for name, value in init_params(net, rng).items()
    }
    buffers = {name: value.astype(dtype) for name, value in init_buffers(net).items()}
    run = forward(net, params, buffers, rng.normal(size=(3, 4, 8, 8, 2)).astype(dtype), ops)
    grads = backward(
        run, [np.cos(np.arange(b.size, dtype=dtype)).reshape(b.shape) for b in run.branches]
    )
    return dict(neurons(run)), run.branches, grads


def named(p):
    return f"{type(p).__name__}-{type(p.surrogate).__name__}"


@pytest.mark.parametrize("p", OWN, ids=named)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_with_parts_of_ones_own_has_the_gradients_of_the_equations(p, dtype):
    net, tolerance = net_of(p), 2e-5 if dtype == np.float32 else 1e-12
    (_, logits, got), (_, wanted_logits, want) = (
        passes(net, ops, dtype) for ops in (get_ops("numba"), NUMPY)
    )
    for a, b in zip(logits, wanted_logits, strict=True):
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()
    largest = max(np.abs(g).max() for g in want.values())
    assert largest > 0
    for name, b in want.items():
        assert got[name].dtype == dtype
        scale = max(np.abs(b).max(), 1e-3 * largest)
        assert np.abs(got[name] - b).max() <= 10 * tolerance * scale, name


@pytest.mark.parametrize("p", OWN[:-1], ids=named)
def test_another_slope_gives_other_gradients(p):
    """So that the test above can fail."""
    want, other = (passes(net_of(x), NUMPY)[2] for x in (p, LIF(smooth=p.smooth)))
    name = "stem.conv0.weight"
    assert np.abs(want[name] - other[name]).max() > 0.01 * np.abs(want[name]).max()


def test_one_pass_over_memory_is_for_what_it_knows_exactly():
    kernels, single = get_ops("numba"), np.dtype(np.float32)
    for name, kind in SURROGATES.items():
        surrogate = kind()
        known = name != "rectifier"  # whose slope no kernel computes
        assert kernels.fuses(single, LIF(surrogate=surrogate), BatchNorm()) == known
        assert not NUMPY.fuses(single, LIF(surrogate=surrogate), BatchNorm())
    for dtype in (np.float64, np.float16, np.longdouble, np.dtype(">f4")):
        assert not kernels.fuses(dtype, LIF(), BatchNorm())
    for p in OWN:
        assert not kernels.fuses(single, p, BatchNorm())
    assert not kernels.fuses(single, LIF(), Scaled())
    assert not replace(kernels, norm_neuron_forward=None).fuses(single, LIF(), BatchNorm())
