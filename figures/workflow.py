"""The paper's Fig. 1, drawn from a network: its blocks, their skips, and the side branches.

A box is a residual block (Eq. 5) with its channels; /2 halves the image, x n means n equal blocks.
"""

import sys
from itertools import groupby
from typing import Any

from _style import BLACK, BLUE, GREEN, GREY, VERMILION, WIDE, main, printed
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyBboxPatch

from refsnn.network import Block, Network, architecture
from refsnn.ops import METHODS, validate

BOX, LEVEL, BUS = 0.74, 1.1, 2.15  # width of a box; heights of the heads and of the line they join
SKIP = 0.78  # how far below the middle of its block a skip runs
WEIGHTS = {"vanilla": "", "shortcut": "×1", "evolutionary": "×λ(i)"}


def compute(
    arch: str = "resnet18",
    method: str = "evolutionary",
    branches: str = "stage",
    channels: int = 3,
    classes: int = 10,
) -> dict[str, Any]:
    """List the boxes: the stem, then groups of equal blocks, with the branches b_l of each."""
    validate.one_of("method", method, METHODS)
    net = Network(
        architecture(arch), channels, classes, "none" if method == "vanilla" else branches
    )
    boxes = stem_boxes(net)
    number = 0
    for _, equal in groupby(net.blocks(), lambda block: (*block[1:4], role(block))):
        blocks = list(equal)
        block, repeat = blocks[0], len(blocks)
        leaving = [] if role(block) == "" else list(range(number + 1, number + repeat + 1))
        number += len(leaving)
        label = f"{block.c_out}" + halving(block.stride)
        skip = "conv" if net.has_projection(block) else "identity"
        boxes.append({"label": label, "repeat": repeat, "branches": leaving, "skip": skip})
    return {"arch": arch, "method": method, "boxes": boxes, "hidden": net.arch.hidden}


def role(block: Block) -> str:
    """Return which branch leaves after the block: none (""), a side branch, or the main one."""
    return "" if block.branch is None else "head" if block.branch == "head" else "side"


def stem_boxes(net: Network) -> list[dict[str, Any]]:
    stem = net.arch.stem
    label = f"{stem.kernel}×{stem.kernel}\n{net.arch.stem_width}" + halving(stem.stride)
    boxes = [{"label": label, "repeat": stem.convs, "branches": [], "skip": ""}]
    if stem.pool is not None:
        label = "pool" + halving(stem.pool.stride)
        boxes.append({"label": label, "repeat": 1, "branches": [], "skip": ""})
    return boxes


def halving(stride: int) -> str:
    return f"\n/{stride}" if stride > 1 else ""


@printed
def draw(data: dict[str, Any]) -> Figure:
    boxes = data["boxes"]
    end = len(boxes)  # where the main branch's head stands; the sum and the loss follow
    sides = [x for x, box in enumerate(boxes[:-1]) if box["branches"]]
    left, right, low, high = -1.5, end + 2.8, -1.55, BUS + 0.2 if sides else 0.75
    width = max(WIDE, 0.45 * (right - left))
    figure = Figure(figsize=(width, width * (high - low) / (right - left) + 0.3))
    axes = figure.add_subplot(xlim=(left, right), ylim=(low, high), aspect="equal")
    axes.set_title(f"{data['arch']}, {data['method']}")
    axes.set_axis_off()
    axes.text(-1, 0, "image\nT times", ha="center", va="center", fontsize=7)
    arrow(axes, (-0.68, 0), (-BOX / 2, 0))
    for x, box in enumerate(boxes):
        draw_box(axes, x, 0, box["label"], BLUE, box["repeat"])
        draw_skip(axes, x, box["skip"])
        arrow(axes, (x + BOX / 2, 0), (x + 1 - BOX / 2, 0))
    for x in sides:
        draw_branch(axes, x, boxes[x]["branches"], WEIGHTS[data["method"]])
    if data["hidden"]:
        draw_box(axes, end, 0, "GAP\nFC\nLIF\nFC", BLACK, height=1.1)
    else:
        draw_box(axes, end, 0, "GAP\nFC", BLACK)
    arrow(axes, (end + BOX / 2, 0), (end + 1.85, 0))
    axes.text(end + 0.62, 0.12, name_of(boxes[-1]["branches"]), ha="center", fontsize=7)
    if sides:
        draw_sum(axes, sides[0], end + 1.1)
    axes.text(end + 1.6, 0.18, "$o_{final}$", ha="center")
    axes.text(end + 1.95, 0, "loss $L$", va="center")
    draw_legend(axes, bool(sides))
    return figure


def draw_skip(axes: Any, x: float, kind: str) -> None:
    """Draw a block's skip below it, from its input to the sum before its last neurons."""
    if kind:
        corners = [x - 0.46, x - 0.46, x + 0.44, x + 0.44], [0, -SKIP, -SKIP, 0]
        axes.plot(*corners, color=GREEN, linestyle="-" if kind == "identity" else "--", zorder=0)


def draw_legend(axes: Any, sides: bool) -> None:
    """Say below the picture what the colours mean."""
    kinds = {
        "stem or residual block": {"color": BLUE},
        "skip": {"color": GREEN},
        "skip with a 1×1 convolution": {"color": GREEN, "linestyle": "--"},
        "main branch's head": {"color": BLACK},
    }
    if sides:
        kinds["side branch, left out at inference"] = {"color": VERMILION, "linestyle": "--"}
    lines = [Line2D([], [], label=label, **style) for label, style in kinds.items()]
    axes.legend(handles=lines, loc="lower center", ncols=3, frameon=False, fontsize=6)


def draw_sum(axes: Any, first: float, x: float) -> None:
    """Draw the line that the side branches join, and the sum with the main branch."""
    axes.plot([first, x], [BUS, BUS], color=VERMILION)
    arrow(axes, (x, BUS), (x, 0.15), VERMILION)
    axes.text(x - 0.1, BUS - 0.1, "in training only", ha="right", va="top", fontsize=7)
    axes.add_patch(Circle((x, 0), 0.15, facecolor="white", edgecolor=BLACK, zorder=3))
    axes.text(x, 0, "+", ha="center", va="center", zorder=4)


def draw_branch(axes: Any, x: float, branches: list[int], weight: str) -> None:
    """Draw a side branch upwards from its block through its head to the line of the sum."""
    arrow(axes, (x, 0.35), (x, LEVEL - 0.3), VERMILION)
    draw_box(axes, x, LEVEL, "GAP\nFC", VERMILION, height=0.6, linestyle="--")
    axes.plot([x, x], [LEVEL + 0.3, BUS], color=VERMILION)
    axes.text(x + 0.06, LEVEL + 0.38, name_of(branches), fontsize=7)
    axes.text(x + 0.06, LEVEL + 0.72, weight, fontsize=7)


def draw_box(
    axes: Any,
    x: float,
    y: float,
    label: str,
    colour: str,
    repeat: int = 1,
    height: float = 0.7,
    linestyle: str = "-",
) -> None:
    corner, pad = (x - BOX / 2 + 0.05, y - height / 2 + 0.05), "round,pad=0.05"
    axes.add_patch(
        FancyBboxPatch(
            corner,
            BOX - 0.1,
            height - 0.1,
            pad,
            facecolor="white",
            edgecolor=colour,
            linestyle=linestyle,
        )
    )
    axes.text(x, y, label, ha="center", va="center", fontsize=7)
    if repeat > 1:
        axes.text(x, y - height / 2 - 0.08, f"×{repeat}", ha="center", va="top", fontsize=7)


def arrow(axes: Any, start: Any, end: Any, colour: str = GREY) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def name_of(branches: list[int]) -> str:
    """Return the label b_l, or those of the first and the last of several branches."""
    ends = [f"$b_{{{number}}}$" for number in dict.fromkeys((branches[0], branches[-1]))]
    return "…".join(ends)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
