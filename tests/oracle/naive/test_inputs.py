"""PSP-BN's plain loops, alone and before a convolution, against values by hand and differences."""

import numpy as np
import pytest

from refsnn.oracle.naive import layers, norms
from refsnn.oracle.naive.inputs import psp_convolution

GEOMETRY = {"stride": (2, 1), "padding": (1, 0)}


def column(*values):
    """Return a sequence of one neuron with these values over time."""
    return np.array(values, dtype=float).reshape(-1, 1, 1, 1, 1)


@pytest.fixture
def drawn():
    """Draw numbers of every sign for a convolution of two steps."""
    rng = np.random.default_rng(5)
    return {
        "x_seq": rng.normal(0.4, 1, (2, 2, 4, 3, 2)),
        "dc_seq": rng.normal(size=(2, 2, 2, 2, 3)),
        "w": rng.normal(size=(3, 2, 2, 3)),
        "gamma": np.array([1.3, -0.7]),
        "m2_running": np.array([0.8, 1.9]),
    }


@pytest.mark.parametrize(
    ("root", "gamma", "dx", "dgamma"),
    [(True, 5.0, [0.98, -0.14], 0.2), (False, 25.0, [0.96, -0.28], 0.04)],
)
def test_pspbn_by_hand(root, gamma, dx, dgamma):
    """The mean of 1 and 49 is 25."""
    got = norms.pspbn(column(1, 7), column(1, 0), [gamma], [5.0], True, 0.0, 0.5, root)
    np.testing.assert_allclose(got["y"].ravel(), [1, 7], rtol=1e-15)
    np.testing.assert_allclose(got["x"].ravel(), dx, rtol=1e-14)
    np.testing.assert_allclose(got["gamma"], [dgamma], rtol=1e-14)
    assert got["square"].tolist() == [15]


@pytest.mark.parametrize(("root", "factor"), [(True, 0.5), (False, 0.25)])
def test_pspbn_of_running_statistics_by_hand(root, factor):
    got = norms.pspbn(column(1, 7), column(1, 10), [3.0], [4.0], False, 0.0, 0.5, root)
    assert got["y"].ravel().tolist() == [3 * factor, 21 * factor]
    assert got["x"].ravel().tolist() == [3 * factor, 30 * factor]
    assert got["gamma"].tolist() == [71 * factor]
    assert got["square"].tolist() == [4]


def test_pspbn_of_centred_numbers_is_batch_norm():
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(2, 3, 2, 3, 2, 4))
    x -= x.mean(axis=(0, 1, 2, 3))
    dy -= dy.mean(axis=(0, 1, 2, 3))  # a batch norm passes no common part of dy back
    gamma, zeros, ones = rng.normal(size=4), np.zeros(4), np.ones(4)
    got = norms.pspbn(x, dy, gamma, ones, True, momentum=1.0)
    want = norms.tdbn(x, dy, gamma, zeros, zeros, ones, 1.0, True, momentum=1.0)
    for name in ("y", "x", "gamma"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-12, atol=1e-14, err_msg=name)
    n = x[..., 0].size
    np.testing.assert_allclose(got["square"], want["var"] * (n - 1) / n, rtol=1e-13)


def test_pspbn_keeps_zeros_and_divides_by_the_root_of_the_rate():
    spikes = (np.random.default_rng(2).random((4, 3, 2, 2, 3)) < 0.3).astype(float)
    spikes[..., 2] = 0.0  # a silent channel
    dy = np.ones(spikes.shape)
    got = norms.pspbn(spikes, dy, [2.0, -1.0, 3.0], np.ones(3), True, momentum=1.0)
    np.testing.assert_array_equal(got["y"] != 0.0, spikes == 1.0)
    rates = spikes.mean(axis=(0, 1, 2, 3))
    np.testing.assert_allclose(got["square"], rates, rtol=1e-14)
    np.testing.assert_allclose(got["y"][..., 0].max(), 2 / np.sqrt(rates[0] + 1e-5), rtol=1e-14)
    np.testing.assert_allclose(got["x"][..., 2], 3 / np.sqrt(1e-5), rtol=1e-14)


@pytest.mark.parametrize("root", [True, False])
def test_pspbn_of_larger_numbers(root):
    """With the root, y stays as it is; without, it is divided by the factor."""
    x = np.random.default_rng(3).normal(size=(2, 3, 1, 2, 2))
    settings = (x, [1.5, 2.0], np.ones(2), True, 0.0, 0.1, root)
    plain, larger = norms.pspbn(x, *settings), norms.pspbn(8 * x, *settings)
    np.testing.assert_allclose(larger["y"] * (1 if root else 8), plain["y"], rtol=1e-14)


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_the_convolution_are_derivatives(drawn, training, root):
    def run(**moved):
        return psp_convolution(**(drawn | moved), **GEOMETRY, training=training, root=root)

    got = run()
    for argument, name in (("x_seq", "x"), ("w", "w"), ("gamma", "gamma")):
        want = np.zeros(drawn[argument].shape)
        for place in np.ndindex(*want.shape):
            sums = []
            for distance in (1e-5, -1e-5):
                array = drawn[argument].copy()
                array[place] += distance
                sums.append((run(**{argument: array})["c"] * drawn["dc_seq"]).sum())
            want[place] = (sums[0] - sums[1]) / 2e-5
        np.testing.assert_allclose(got[name], want, rtol=1e-7, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_convolution_agrees_with_pytorch(drawn, training, root):
    torch = pytest.importorskip("torch")
    got = psp_convolution(**drawn, **GEOMETRY, training=training, root=root)
    t = {name: torch.tensor(array) for name, array in drawn.items()}
    x, w, gamma = (t[name].requires_grad_() for name in ("x_seq", "w", "gamma"))
    m2 = (x**2).mean(dim=(0, 1, 2, 3)) if training else t["m2_running"]
    y = gamma * x / ((m2 + 1e-5).sqrt() if root else m2 + 1e-5)
    c = torch.nn.functional.conv2d(
        y.flatten(0, 1).permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), **GEOMETRY
    )
    c = c.permute(0, 2, 3, 1).unflatten(0, (2, 2))
    (c * t["dc_seq"]).sum().backward()
    want = {"c": c, "x": x.grad, "w": w.grad, "gamma": gamma.grad}
    for name, array in want.items():
        found = array.detach().numpy()
        np.testing.assert_allclose(got[name], found, rtol=1e-12, atol=1e-13, err_msg=name)


def test_the_running_square_of_the_convolution(drawn):
    got = psp_convolution(**drawn, **GEOMETRY, training=True, momentum=0.25)
    batch = (drawn["x_seq"] ** 2).mean(axis=(0, 1, 2, 3))
    np.testing.assert_allclose(got["square"], 0.75 * drawn["m2_running"] + 0.25 * batch, rtol=1e-14)
    got = psp_convolution(**drawn, **GEOMETRY, training=False)
    np.testing.assert_array_equal(got["square"], drawn["m2_running"])


def test_a_square_of_one_leaves_the_plain_convolution(drawn):
    drawn |= {"gamma": np.ones(2), "m2_running": np.ones(2)}
    got = psp_convolution(**drawn, **GEOMETRY, training=False, eps=0.0)
    for t in range(2):
        want = layers.conv_forward(drawn["x_seq"][t], drawn["w"], **GEOMETRY)
        np.testing.assert_array_equal(got["c"][t], want)
