"""Norms against depth and layer: the measurement, and the lines that show it."""

from itertools import product

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from refsnn.data import load
from refsnn.network import Network, architecture
from refsnn.ops import LIF, get_ops
from refsnn.training.monitor import first_gradient_norm

DATA = {
    "depths": [8, 14, 20],
    "sides": {"vanilla": 0, "shortcut": 1, "evolutionary": 0.25},
    "first": {
        "vanilla": [[-1, -2], [-3, -5], [-6, -7]],
        "shortcut": [[-1, -1.5], [-1, -2], [-2, -2]],
        "evolutionary": [[-2, -2], [-2, -3], [-3, -4]],
    },
    "layers": {
        "vanilla": [[-5, -4, -3], [-6, -5, -3]],
        "shortcut": [[-4, -3, -3], [-4, -4, -3]],
        "evolutionary": [[-4, -4, -3], [-5, -4, -3]],
    },
    "branches": [2],
    "names": ["a", "b", "c"],
    "seeds": 2,
    "setting": "digits, T = 4",
}


@pytest.fixture
def figure(script):
    return script("gradient_by_depth")


@pytest.fixture
def axes(figure):
    return figure.draw(DATA).axes


@pytest.mark.parametrize("panel", ["first", "layers"])
def test_lines_are_geometric_means_and_bands_the_range(axes, panel, script):
    shown = axes[0] if panel == "first" else axes[1]
    assert shown.get_yscale() == "log"
    x = DATA["depths"] if panel == "first" else [1, 2, 3]
    for index, method in enumerate(DATA["sides"]):
        values = np.array(DATA[panel][method], float)
        values = values if panel == "layers" else values.T  # (seed, x)
        line, band = shown.lines[index], shown.collections[index]
        assert list(line.get_xdata()) == x
        assert np.allclose(np.log10(line.get_ydata()), values.mean(axis=0))
        vertices = band.get_paths()[0].vertices
        for at, low, high in zip(x, values.min(axis=0), values.max(axis=0), strict=True):
            heights = np.log10(vertices[vertices[:, 0] == at, 1])
            assert heights.min() == pytest.approx(low)
            assert heights.max() == pytest.approx(high)
        style = script("_style").METHOD_LINES[method]
        assert to_rgba(line.get_color()) == to_rgba(style["color"])
        assert line.get_linestyle() == style["linestyle"]
        assert to_rgba(band.get_facecolor()[0])[:3] == to_rgba(style["color"])[:3]


def test_texts_name_methods_weights_setting_and_depth(axes):
    legend = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert legend == [
        "vanilla",
        "shortcut, weight 1",
        "evolutionary, λ = 0.25",
        "lowest to highest of 2 seeds",
    ]
    assert axes[0].get_title() == "digits, T = 4"
    assert axes[1].get_title().startswith("20 layers")


def test_dotted_lines_stand_where_branches_leave(axes):
    dotted = [line for line in axes[1].lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == DATA["branches"]


def test_branches_leave_from_the_last_layer_of_a_stage(figure):
    net = Network(architecture("2-1-1:2-3-4"), 1, 10)
    names = ["stem.lif0"] + [f"{block.name}.lif{k}" for block in net.blocks() for k in (1, 2)]
    assert figure.branch_layers(net, names) == [5, 7]  # 1 + 2 * 2 layers, and two more


@pytest.mark.slow
def test_norms_are_measured_by_depth_and_seed(figure, script):
    data = figure.compute(depths=(14, 8), seeds=2, batch_size=4, steps=2)
    assert (data["depths"], data["branches"]) == ([8, 14], [5, 9])
    gradients, digits = script("_gradients"), load("digits")
    for depth, seed in product((8, 14), range(2)):
        setting = gradients.of_depth(depth), digits, LIF(), seed, 4, 2
        run, labels = gradients.fresh(*setting, get_ops("numba"))
        apart, _ = gradients.fresh(*setting, gradients.unfused())
        for method, side in gradients.SIDES.items():
            norm = first_gradient_norm(gradients.pull_back(run, labels, side))
            shown = data["first"][method][data["depths"].index(depth)][seed]
            assert shown == pytest.approx(np.log10(norm), abs=1e-3)
            deltas = gradients.delta_norms(apart, labels, side)[1]
            if depth == 14:
                assert data["names"] == list(deltas)
                assert np.allclose(data["layers"][method][seed], np.log10(list(deltas.values())))


def test_invalid_settings_are_named(figure):
    with pytest.raises(ValueError, match=r"^seeds: got 0"):
        figure.compute(seeds=0)
    with pytest.raises(ValueError, match=r"^depths: got 9"):
        figure.compute(depths=(8, 9))
