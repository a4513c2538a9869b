"""The curves of Eq. 4."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba


@pytest.fixture
def figure(script):
    return script("surrogates")


def value(data, name, what, x):
    (index,) = [i for i, at in enumerate(data["x"]) if at == pytest.approx(x, abs=1e-9)]
    return data["curves"][name][what][index]


def test_curves_are_the_surrogates_slopes(figure):
    data = figure.compute(gamma=2.0, a=0.9, k=0.5, v_th=2.0, reach=3.0)
    assert value(data, "triangular", "slope", 0.5) == pytest.approx(2 * (1 - 0.25))
    assert value(data, "rectangular", "slope", 0.4) == pytest.approx(1 / 0.9)
    assert value(data, "rectangular", "slope", 0.5) == 0
    assert value(data, "tanh", "slope", 1) == pytest.approx(0.5 * (1 - np.tanh(1) ** 2))
    assert value(data, "tanh_literal", "slope", -3) == pytest.approx(0.5 * (1 + np.tanh(3)) ** 2)
    assert value(data, "rectangular", "primitive", 0) == 0.5
    x = np.array(data["x"])
    for name in ("triangular", "rectangular", "tanh"):
        slope, primitive = (np.array(data["curves"][name][w]) for w in ("slope", "primitive"))
        areas = (slope[1:] + slope[:-1]) / 2 * np.diff(x)
        assert np.allclose(np.cumsum(areas), primitive[1:] - primitive[0], atol=2e-3)


def test_the_slope_at_the_edge_follows_the_rule(figure):
    data = figure.compute(a=0.5)
    assert data["edges"] == [-0.25, 0.25]
    assert data["at_edge"] == {"outside": [0, 0], "inside": [2, 2]}


def test_lines_are_the_curves(figure):
    data = figure.compute()
    slopes, primitives, readings = figure.draw(data).axes
    for axes, names, what in (
        (slopes, ("triangular", "rectangular", "tanh"), "slope"),
        (primitives, ("triangular", "rectangular", "tanh"), "primitive"),
        (readings, ("tanh", "tanh_literal"), "slope"),
    ):
        for line, name in zip(axes.lines, names, strict=False):
            assert list(line.get_xdata()) == data["x"]
            assert list(line.get_ydata()) == data["curves"][name][what]
            assert line.get_color() == figure.LINES[name]["color"]
            assert line.get_linestyle() == figure.LINES[name]["linestyle"]
            assert line.get_ydata().max() <= axes.get_ylim()[1]
    legend = [text.get_text() for text in slopes.get_legend().get_texts()]
    assert legend[:3] == ["triangular, γ = 1", "rectangular, a = 1", "tanh, k = 0.5"]
    assert [t.get_text() for t in readings.get_legend().get_texts()][1] == "as printed, k = 0.5"
    step = primitives.lines[3]
    assert step.get_xydata().tolist() == [[-3, 0], [0, 0], [0, 1], [3, 1]]


def test_edges_are_marked_open_where_outside_and_full_where_the_edge_is_inside(figure):
    data = figure.compute()
    outside, inside = figure.draw(data).axes[0].lines[3:]
    assert outside.get_xydata().tolist() == [[-0.5, 0], [0.5, 0]]
    assert inside.get_xydata().tolist() == [[-0.5, 1], [0.5, 1]]
    assert to_rgba(outside.get_markerfacecolor()) == to_rgba("white")
    assert to_rgba(inside.get_markerfacecolor()) == to_rgba(inside.get_color())


@pytest.mark.parametrize("name", ["gamma", "a", "k", "v_th", "reach"])
def test_invalid_constants_of_a_curve_are_named(figure, name):
    with pytest.raises(ValueError, match=rf"^{name}: got 0"):
        figure.compute(**{name: 0.0})
