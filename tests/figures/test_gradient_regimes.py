"""The map of vanishing and exploding gradients."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from scipy.interpolate import RegularGridInterpolator

from refsnn.data import load
from refsnn.ops import LIF, SURROGATES, get_ops, make_surrogate
from refsnn.training.monitor import first_gradient_norm

LABELS = ("tanh, k = 1/2", "rectangular, a = 1", "rectangular, a = 2", "triangular, γ = 1")
DATA = {
    "heights": [0.25, 0.5, 1.0],
    "widths": [0.5, 1.0, 2.0, 4.0],
    "map": {
        "vanilla": [[-0.9, -0.6, -0.3, 0.0], [-0.5, -0.2, 0.1, 0.4], [-0.1, 0.2, 0.5, 0.8]],
        "shortcut": [[0.1, 0.2, 0.3, 0.4], [-0.1, -0.1, 0.1, 0.4], [-0.4, -0.3, -0.2, -0.1]],
    },
    "marks": [
        {
            "label": label,
            "height": 0.3 + 0.1 * k,
            "width": 0.6 + 0.2 * k,
            "factors": {"vanilla": -0.4 + 0.2 * k, "shortcut": 0.3 - 0.2 * k},
        }
        for k, label in enumerate(LABELS)
    ],
    "setting": "from 20 to 56 layers",
}


@pytest.fixture
def figure(script):
    return script("gradient_regimes")


@pytest.fixture
def drawn(figure):
    return figure.draw(DATA)


def test_cells_have_the_colours_of_their_factors(drawn):
    assert drawn.get_suptitle() == DATA["setting"]
    for axes, (method, logs) in zip(drawn.axes, DATA["map"].items(), strict=False):
        assert axes.get_title() == method
        mesh = axes.collections[0]
        assert np.array_equal(mesh.get_array(), logs)
        assert (mesh.norm.vmin, mesh.norm.vmax) == (-0.9, 0.9)  # the same in both, 1 in the middle
        corners = mesh.get_coordinates()
        for i, height in enumerate(DATA["heights"]):
            for j, width in enumerate(DATA["widths"]):
                (left, low), (right, high) = corners[i, j], corners[i + 1, j + 1]
                assert np.sqrt(left * right) == pytest.approx(width)
                assert np.sqrt(low * high) == pytest.approx(height)


def test_lines_of_equal_factor_lie_where_the_map_has_it(drawn):
    at = RegularGridInterpolator((DATA["heights"], DATA["widths"]), DATA["map"]["vanilla"])
    lines = drawn.axes[0].collections[1]
    seen = set()
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        for width, height in path.vertices:
            if width in DATA["widths"] or height in DATA["heights"]:  # elsewhere labels cut lines
                assert at((height, width)) == pytest.approx(level, abs=1e-9)
                seen.add(round(10**level, 3))
    assert seen == {0.2, 0.5, 1, 2, 5}
    labels = {text.get_text() for text in drawn.axes[0].texts}
    assert labels <= {"0.2", "0.5", "1", "2", "5", "vanishes", "explodes"}
    assert "1" in labels


def test_marks_stand_at_their_height_and_width_with_their_own_colour(drawn):
    for axes, method in zip(drawn.axes, DATA["map"], strict=False):
        mesh = axes.collections[0]
        for line, mark in zip(axes.lines, DATA["marks"], strict=True):
            assert line.get_xydata().tolist() == [[mark["width"], mark["height"]]]
            colour = mesh.cmap(mesh.norm(mark["factors"][method]))
            assert to_rgba(line.get_markerfacecolor()) == pytest.approx(colour)
    assert [t.get_text() for t in drawn.legends[0].get_texts()] == list(LABELS)
    assert len({line.get_marker() for line in drawn.axes[0].lines}) == len(LABELS)


def test_words_in_the_corners_are_true(drawn):
    def words(axes):
        return [t.get_text() for t in axes.texts if t.get_text().endswith("s")]

    assert words(drawn.axes[0]) == ["vanishes", "explodes"]
    assert words(drawn.axes[1]) == ["explodes", "vanishes"]


def test_the_bar_is_labelled_with_factors(drawn):
    bar = drawn.axes[2]
    for tick, label in zip(bar.get_yticks(), bar.get_yticklabels(), strict=True):
        assert 10**tick == pytest.approx(float(label.get_text()))
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0.2", "0.5", "1", "2", "5"]


@pytest.mark.parametrize(
    ("surrogate", "height", "width"),
    [
        (make_surrogate("rectangular", 1.0), 1, 1),
        (make_surrogate("rectangular", 2.0), 0.5, 2),
        (make_surrogate("tanh", 0.5), 0.5, 4 / 3),  # the integral of sech^4
        (make_surrogate("triangular", 1.5), 1.5, 2 / 3),
        (SURROGATES["triangular"](0.5, 3.0), 0.5, 2),
    ],
)
def test_height_and_width_of_known_shapes(figure, surrogate, height, width):
    got = figure.height_and_width(surrogate, 1.0)
    assert got == pytest.approx((height, width), rel=2e-3)


@pytest.mark.slow
def test_factors_per_block_are_measured_at_every_height_and_width(figure, script):
    data = figure.compute(shallow=8, deep=14, cells=2, seeds=2, batch_size=4, steps=2)
    gradients, digits = script("_gradients"), load("digits")

    def factor(surrogate, side):
        logs = {
            depth: [
                first_gradient_norm(
                    gradients.pull_back(
                        *gradients.fresh(
                            gradients.of_depth(depth),
                            digits,
                            LIF(surrogate=surrogate),
                            seed,
                            4,
                            2,
                            get_ops("numba"),
                        ),
                        side,
                    )
                )
                for seed in range(2)
            ]
            for depth in (8, 14)
        }
        return (np.log10(logs[14]).mean() - np.log10(logs[8]).mean()) / 3

    assert (data["heights"][0], data["widths"][1]) == (0.25, pytest.approx(2.8))
    triangle = SURROGATES["triangular"](0.25, 1.5 * 2.8)
    for method, side in (("vanilla", 0.0), ("shortcut", 1.0)):
        assert data["map"][method][0][1] == pytest.approx(factor(triangle, side), abs=1e-6)
        wanted = factor(make_surrogate("tanh", 0.5), side)
        assert data["marks"][0]["factors"][method] == pytest.approx(wanted, abs=1e-6)
    assert [mark["label"] for mark in data["marks"]] == list(LABELS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shallow": 20, "deep": 20}, r"^deep: got 20, want more than shallow, 20"),
        ({"cells": 1}, r"^cells: got 1"),
        ({"seeds": 0}, r"^seeds: got 0"),
    ],
)
def test_invalid_settings_are_named(figure, options, said):
    with pytest.raises(ValueError, match=said):
        figure.compute(**options)
