"""Fig. 1 of any network."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import Bbox


@pytest.fixture
def figure(script):
    return script("workflow")


def boxes(data):
    return [(box["label"], box["repeat"], box["branches"]) for box in data["boxes"]]


def test_blocks_of_resnet18_with_the_branches_that_leave_them(figure):
    assert boxes(figure.compute(arch="resnet18", method="shortcut")) == [
        ("3×3\n64", 1, []),
        ("64", 1, []),
        ("64", 1, [1]),
        ("128\n/2", 1, []),
        ("128", 1, [2]),
        ("256\n/2", 1, []),
        ("256", 1, [3]),
        ("512\n/2", 1, []),
        ("512", 1, [4]),
    ]


def test_equal_blocks_are_one_box(figure):
    data = figure.compute(arch="4-3:8-16", method="evolutionary")
    assert boxes(data)[1:] == [
        ("8", 3, []),
        ("8", 1, [1]),
        ("16\n/2", 1, []),
        ("16", 1, []),
        ("16", 1, [2]),
    ]
    data = figure.compute(arch="4-3:8-16", method="evolutionary", branches="block")
    assert boxes(data)[1:] == [
        ("8", 4, [1, 2, 3, 4]),
        ("16\n/2", 1, [5]),
        ("16", 1, [6]),
        ("16", 1, [7]),
    ]
    data = figure.compute(arch="2-3:8-8", method="vanilla")
    assert boxes(data)[1:] == [("8", 2, []), ("8\n/2", 1, []), ("8", 1, []), ("8", 1, [1])]


def test_vanilla_has_only_the_main_branch(figure):
    data = figure.compute(arch="3-1:8-16", method="vanilla")
    assert boxes(data)[1:] == [("8", 3, []), ("16\n/2", 1, [1])]


def test_stems_of_other_kinds(figure):
    assert boxes(figure.compute(arch="resnet18-imagenet"))[:2] == [
        ("7×7\n64\n/2", 1, []),
        ("pool\n/2", 1, []),
    ]
    assert boxes(figure.compute(arch="resnet20m"))[0] == ("3×3\n64", 3, [])


def draw(figure, **setting):
    data = figure.compute(**setting)
    (axes,) = figure.draw(data).axes
    return data, axes


def texts(axes):
    return [(round(t.get_position()[0], 2), t.get_text()) for t in axes.texts if t.get_text()]


def arrows(axes):
    """(start, end) of every arrow."""
    return [(t.xyann, t.xy) for t in axes.texts if getattr(t, "arrow_patch", None)]


def heads(axes):
    """x of the dashed boxes, which the side branches' heads are."""
    patches = [p for p in axes.patches if isinstance(p, FancyBboxPatch)]
    return [round(p.get_x() + p.get_width() / 2, 2) for p in patches if p.get_linestyle() == "--"]


@pytest.mark.parametrize(("method", "weight"), [("shortcut", "×1"), ("evolutionary", "×λ(i)")])
def test_every_branch_goes_through_its_head_to_the_sum_with_its_weight(figure, method, weight):
    data, axes = draw(figure, arch="1-2-1:8-16-16", method=method)
    assert axes.get_title() == f"1-2-1:8-16-16, {method}"
    leaving = [x for x, box in enumerate(data["boxes"][:-1]) if box["branches"]]
    assert leaving == heads(axes) == [1, 3]
    shown = texts(axes)
    assert [x for x, text in shown if text == weight] == [x + 0.06 for x in leaving]
    assert (1.06, "$b_{1}$") in shown
    assert (3.06, "$b_{2}$") in shown
    assert (5.62, "$b_{3}$") in shown  # behind the main branch's head
    (plus,) = [x for x, text in shown if text == "+"]
    skips = [line for line in axes.lines if len(line.get_xdata()) == 4]
    rest = [line for line in axes.lines if line not in skips]
    bus = [line for line in rest if line.get_ydata()[0] == line.get_ydata()[1]]
    assert [list(line.get_xdata()) for line in bus] == [[1, plus]]
    rising = [line.get_xdata()[0] for line in rest if line not in bus]
    assert rising == leaving
    up = [end[0] for start, end in arrows(axes) if end[1] > start[1]]
    assert up == leaving
    assert [end[0] for start, end in arrows(axes) if end[1] < start[1]] == [plus]


def test_boxes_stand_in_order_with_their_labels_and_numbers(figure):
    data, axes = draw(figure, arch="4-4:8-16", method="shortcut", branches="block")
    shown = texts(axes)
    for x, box in enumerate(data["boxes"]):
        assert (x, box["label"]) in shown
        assert ((x, f"×{box['repeat']}") in shown) == (box["repeat"] > 1)
    assert (1.06, "$b_{1}$…$b_{4}$") in shown
    along = [(start[0], end[0]) for start, end in arrows(axes) if start[1] == end[1] == 0]
    assert along == sorted(along)
    assert len(along) == len(data["boxes"]) + 2  # from the image, and to the loss


def test_without_side_branches_nothing_is_added(figure):
    _, axes = draw(figure, arch="resnet18", method="vanilla")
    assert heads(axes) == []
    assert all(len(line.get_xdata()) == 4 for line in axes.lines)  # skips
    assert "+" not in [text for _, text in texts(axes)]


def test_every_block_has_a_skip_dashed_where_it_is_a_convolution(figure):
    data, axes = draw(figure, arch="1-2-1:8-16-16", method="shortcut")
    skips = {
        round(np.mean(line.get_xdata()), 1): line.get_linestyle()
        for line in axes.lines
        if len(line.get_xdata()) == 4
    }
    styles = {"identity": "-", "conv": "--"}
    assert skips == {x: styles[box["skip"]] for x, box in enumerate(data["boxes"]) if box["skip"]}
    assert [box["skip"] for box in data["boxes"]] == ["", "identity", "conv", "identity", "conv"]


def test_the_legend_says_what_the_colours_mean(figure):
    for method, words in (("shortcut", 5), ("vanilla", 4)):
        _, axes = draw(figure, arch="1-1:8-16", method=method)
        legend = [text.get_text() for text in axes.get_legend().get_texts()]
        assert len(legend) == words
        assert any("side branch" in text for text in legend) == (method != "vanilla")


def test_a_hidden_layer_is_in_the_main_head(figure):
    _, axes = draw(figure, arch="resnet19-tet")
    assert "GAP\nFC\nLIF\nFC" in [text for _, text in texts(axes)]


@pytest.mark.parametrize(
    ("arch", "branches"),
    [
        ("resnet34", "stage"),
        ("resnet34", "block"),
        ("resnet19-tet", "stage"),
        ("1-1-1-1-1-1-1-1-1-1-1-1:8-8-8-8-8-8-8-8-8-8-8-1024", "stage"),
    ],
)
def test_no_text_leaves_the_page_or_its_box_or_overlaps_another(figure, arch, branches):
    drawn = figure.draw(figure.compute(arch=arch, branches=branches))
    drawn.canvas.draw()
    (axes,) = drawn.axes
    shown = [text for text in axes.texts if text.get_text()]
    extents = [text.get_window_extent() for text in shown]
    for extent in extents:
        assert Bbox.intersection(extent, drawn.bbox).size == pytest.approx(extent.size)
    for one, other in combinations(extents, 2):
        assert not one.overlaps(other)
    for box in (p for p in axes.patches if isinstance(p, FancyBboxPatch)):
        frame = box.get_window_extent()
        (label,) = [e for e in extents if frame.contains(*e.get_points().mean(axis=0))]
        assert Bbox.intersection(label, frame).size == pytest.approx(label.size)


def test_an_invalid_network_is_named(figure):
    for setting in ({"method": "other"}, {"branches": "all"}, {"arch": "resnet"}):
        (name,) = setting
        with pytest.raises(ValueError, match=rf"^{name}: got"):
            figure.compute(**setting)
