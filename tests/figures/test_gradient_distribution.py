"""Histograms of the first layer's gradient."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from refsnn.data import load
from refsnn.ops import LIF, get_ops

METHODS = ("vanilla", "shortcut", "evolutionary")


def panel(arch, shift):
    shares = {m: [0.1 * k + shift, 0.0, 0.5] for k, m in enumerate(METHODS)}
    return {
        "arch": arch,
        "count": 7,
        "rms": {m: 10.0 ** -(k + 1) for k, m in enumerate(METHODS)},
        "linear": {"edges": [-0.3, -0.1, 0.1, 0.3], "shares": shares},
        "log": {"edges": [-4, -3, -2, -1], "shares": {m: s[::-1] for m, s in shares.items()}},
    }


DATA = {
    "panels": [panel("resnet20", 0.1), panel("resnet34", 0.2)],
    "sides": {"vanilla": 0, "shortcut": 1, "evolutionary": 0.25},
    "setting": "digits, T = 4",
}


@pytest.fixture
def figure(script):
    return script("gradient_distribution")


def test_outlines_are_the_histograms(figure, script):
    drawn = figure.draw(DATA)
    assert drawn.get_suptitle() == "digits, T = 4"
    assert [t.get_text() for t in drawn.legends[0].get_texts()] == [
        "vanilla, λ = 0",
        "shortcut, λ = 1",
        "evolutionary, λ = 0.25",
    ]
    top, bottom = drawn.axes[:2], drawn.axes[2:]
    for row, scale in ((top, "linear"), (bottom, "log")):
        for axes, of in zip(row, DATA["panels"], strict=True):
            assert axes.get_yscale() == ("log" if scale == "linear" else "linear")
            for patch, method in zip(axes.patches, METHODS, strict=True):
                stairs = patch.get_data()
                assert list(stairs.values) == of[scale]["shares"][method]
                assert list(stairs.edges) == of[scale]["edges"]
                style = script("_style").METHOD_LINES[method]
                assert patch.get_edgecolor() == to_rgba(style["color"])
                assert patch.get_linestyle() == style["linestyle"]
    assert [axes.get_title() for axes in top] == ["resnet20, 7 entries", "resnet34, 7 entries"]
    for axes in bottom:
        shown = [t.get_text() for t in axes.get_legend().get_texts()]
        assert shown == ["rms 1.0e-01", "rms 1.0e-02", "rms 1.0e-03"]


def test_histograms_count_the_entries(figure):
    g = np.array([1.0, -1.0, 0.0, 1e-3])
    of = figure.histograms({"wide": g, "narrow": g / 100})
    assert of["count"] == 4
    assert of["rms"]["wide"] == pytest.approx(np.sqrt(2 / 4), rel=1e-6)
    edges = np.array(of["linear"]["edges"])
    assert edges[-1] == -edges[0] == pytest.approx(1)  # the widest method's
    middle = np.searchsorted(edges, 0) - 1
    assert of["linear"]["shares"]["narrow"][middle] == 1
    assert of["linear"]["shares"]["wide"][middle] == 0.5
    logs = np.array(of["log"]["edges"])
    wide = np.array(of["log"]["shares"]["wide"])
    assert logs[-1] == pytest.approx(0)
    assert wide[-1] == 0.5  # two of four
    assert wide[np.searchsorted(logs, -3) - 1] == 0.25
    assert wide.sum() == 0.75  # a zero has no logarithm


def test_the_outermost_entries_do_not_stretch_the_axis(figure):
    g = np.append(np.linspace(-1, 1, 1001), [-50.0, 50.0])
    of = figure.histograms({"wide": g, "narrow": g / 10})
    assert of["linear"]["edges"][-1] == pytest.approx(0.99, abs=0.01)
    assert sum(of["linear"]["shares"]["wide"]) == pytest.approx(0.99, abs=0.005)


def test_entries_are_those_of_the_first_layer_over_all_seeds(figure, script):
    data = figure.compute(archs=("1-1:2-2",), seeds=3, batch_size=4, steps=2)
    (of,) = data["panels"]
    assert (of["arch"], of["count"]) == ("1-1:2-2", 3 * 9 * 2)
    assert data["setting"] == "digits, batch of 4, T = 2, tanh, 3 seeds"
    gradients = script("_gradients")
    for method, side in gradients.SIDES.items():
        squares = []
        for seed in range(3):
            run, labels = gradients.fresh(
                "1-1:2-2", load("digits"), LIF(), seed, 4, 2, get_ops("numba")
            )
            squares.append(gradients.pull_back(run, labels, side)["stem.conv0.weight"] ** 2)
        assert of["rms"][method] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5)
    assert data["sides"] == gradients.SIDES
