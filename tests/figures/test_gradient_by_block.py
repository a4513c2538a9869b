"""The first layer's gradient by block and batch norm: the measurement, and the lines of it."""

import numpy as np
import pytest

from refsnn.data import load
from refsnn.ops import LIF, NORMS, get_ops
from refsnn.training.monitor import first_gradient_norm


@pytest.fixture
def figure(script):
    return script("gradient_by_block")


def data_of(figure):
    """Values that differ by panel, line, depth and seed."""
    panels = [
        {
            label: [[-i - k - depth / 8, -i - k - depth / 8 - 0.5] for depth in (8, 14)]
            for k, label in enumerate(panel)
        }
        for i, panel in enumerate(figure.PANELS)
    ]
    return {"depths": [8, 14], "panels": panels, "seeds": 2, "setting": "digits, T = 4"}


def test_every_network_has_its_line(figure):
    data = data_of(figure)
    drawn = figure.draw(data)
    assert drawn.get_suptitle() == "digits, T = 4"
    for axes, panel in zip(drawn.axes, data["panels"], strict=True):
        assert axes.get_yscale() == "log"
        legend = [text.get_text() for text in axes.get_legend().get_texts()]
        assert legend == [*panel, "lowest to highest of 2 seeds"]
        for line, values in zip(axes.lines, panel.values(), strict=True):
            assert list(line.get_xdata()) == [8, 14]
            assert np.allclose(np.log10(line.get_ydata()), np.mean(values, axis=1))


@pytest.mark.slow
def test_norms_are_those_of_the_networks_that_labels_name(figure, script):
    data = figure.compute(depths=(8,), seeds=2, batch_size=4, steps=2)
    gradients, digits = script("_gradients"), load("digits")
    networks = {"SEW ADD": {"block": "sew_add"}, "MS": {"block": "ms"}}
    networks |= {"TEBN": {"norm_model": NORMS["tebn"]()}, "paper's block": {}}
    shown = data["panels"][0] | data["panels"][1]
    for label, network in networks.items():
        given = gradients.of_depth(8), digits, LIF(), 1, 4, 2, get_ops("numba")
        run, labels = gradients.fresh(*given, branches="none", **network)
        norm = first_gradient_norm(gradients.pull_back(run, labels, 0.0))
        assert shown[label][0][1] == pytest.approx(np.log10(norm), abs=1e-3), label
    assert shown["batch norm"] == shown["paper's block"]


def test_invalid_settings_are_named(figure):
    with pytest.raises(ValueError, match=r"^seeds: got 0"):
        figure.compute(seeds=0)
