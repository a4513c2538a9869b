"""What is said of SpikingJelly, snnTorch and Norse, asserted of the installed versions."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

X = [-3.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 3.0]


def tanh_slope(x):
    return 0.5 * (1 - np.tanh(x) ** 2)


def slopes(fire, dtype=torch.float64, at=X):
    x = torch.tensor(at, dtype=dtype, requires_grad=True)
    (h,) = torch.autograd.grad(fire(x).sum(), x)
    return h.numpy()


def test_spikingjellys_surrogates():
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    x = np.array(X)
    for fire, want in (
        (surrogate.Sigmoid(2.0), tanh_slope(x)),
        (surrogate.PiecewiseQuadratic(2.0), 2 * np.maximum(0, 1 - 2 * np.abs(x))),  # v_th = 1/2
        (surrogate.Rect(1.0), 1.0 * (np.abs(x) < 0.5)),
        (surrogate.Rect(0.5), 0.5 * (np.abs(x) < 1)),
        (surrogate.Sigmoid(), 1 / np.cosh(2 * x) ** 2),  # alpha = 4
        (surrogate.SuperSpike(3.0), 3 / (1 + np.abs(x)) ** 2),  # alpha is its height
    ):
        np.testing.assert_allclose(slopes(fire), want, atol=1e-15)
    assert surrogate.Sigmoid()(torch.zeros(1)) == 1  # it fires at the threshold


def test_spikingjelly_keeps_its_potential_unless_it_is_reset():
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = neuron.LIFNode(tau=2.0, decay_input=False)
    assert [node(torch.full((1,), 0.75)).item() for _ in range(2)] == [0, 1]
    with pytest.raises(AssertionError):
        neuron.LIFNode(tau=1.0)


def test_snntorchs_surrogates():
    surrogate = pytest.importorskip("snntorch.surrogate")
    x = np.array(X)
    np.testing.assert_allclose(slopes(surrogate.sigmoid(slope=2)), tanh_slope(x), atol=1e-7)
    np.testing.assert_allclose(slopes(surrogate.atan()), 1 / (1 + (np.pi * x) ** 2), atol=1e-7)
    fast = 1 / (1 + 25 * np.abs(x)) ** 2
    np.testing.assert_allclose(slopes(surrogate.fast_sigmoid()), fast, atol=1e-7)
    assert slopes(surrogate.triangular()).tolist() == [1] * 4 + [-1] * 5  # not a triangle
    assert np.isnan(slopes(surrogate.sigmoid(), torch.float32, [-3.6])).all()  # inf / inf
    assert surrogate.sigmoid()(torch.zeros(1, dtype=torch.float64)).dtype == torch.float32


def test_norses_surrogates():
    pytest.importorskip("norse")
    from norse.torch.functional.threshold import threshold

    x = np.array(X)
    for method, alpha, want in (
        ("tanh", 2.0, 1 - np.tanh(2 * x) ** 2),
        ("triangle", 0.5, 0.5 * np.maximum(0, 1 - np.abs(x))),
        ("super", 100.0, 1 / (1 + np.abs(x)) ** 2),  # alpha is left out
        ("super", 1.0, 1 / (1 + np.abs(x)) ** 2),
    ):
        h = slopes(lambda x, m=method, a=alpha: threshold(x, m, a))
        np.testing.assert_allclose(h, want, atol=1e-15, err_msg=method)
        assert threshold(torch.zeros(1), method, alpha) == 0  # strict


def test_norses_lif_cell_filters_its_input():
    """So it is not the paper's neuron: a current stays, and decays by its own time constant."""
    norse = pytest.importorskip("norse.torch")
    cell, state = norse.LIFCell(), None
    currents = []
    for c in (0.25, 0.0, 0.0):
        _, state = cell(torch.full((1,), c), state)
        currents.append(state.i.item())
    np.testing.assert_allclose(currents, [0.2, 0.16, 0.128], rtol=1e-6)
