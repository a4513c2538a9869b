"""Map of where the first layer's gradient vanishes or explodes, by surrogate height and width.

Colour shows the factor by which one more residual block changes the norm of dL/dW_1 at
initialisation, measured between a shallower and a deeper network. The map uses triangles, the only
shape of Eq. 4 whose height (gamma) and width can be chosen freely: a tanh's width is fixed, and a
rectangle's height is 1/a. Width is the integral of the squared slope divided by the squared height,
since a gradient's variance is multiplied by the mean square of the slopes: a for a rectangle, 2/3
of half the base for a triangle, 4/3 for a tanh. Markers show the surrogates in use, at their height
and width, filled with the colour of the factor measured with them.
"""

import sys
from typing import Any

import numpy as np
from _gradients import SIDES, fresh, log10_norm, of_depth, one_thread, pull_back, with_surrogate
from _style import WIDE, main, printed
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from refsnn.data import load
from refsnn.network import Forward
from refsnn.ops import LIF, SURROGATES, Array, Surrogate, get_ops, make_surrogate, validate
from refsnn.training.monitor import first_gradient_norm

METHODS = ("vanilla", "shortcut")
#: (label, name, shape) of the surrogates in use
MARKS = (
    ("tanh, k = 1/2", "tanh", 0.5),
    ("rectangular, a = 1", "rectangular", 1.0),
    ("rectangular, a = 2", "rectangular", 2.0),
    ("triangular, γ = 1", "triangular", 1.0),
)
MARKERS = ("o", "s", "D", "^")
FACTORS = (0.1, 0.2, 0.5, 1, 2, 5, 10)


@one_thread()
def compute(
    shallow: int = 20,
    deep: int = 56,
    cells: int = 9,
    seeds: int = 2,
    batch_size: int = 64,
    steps: int = 4,
    dataset: str = "digits",
) -> dict[str, Any]:
    """Compute log10 of the factor per block, as a `map` (height, width) by method and for MARKS."""
    if not shallow < deep:
        raise ValueError(f"deep: got {deep}, want more than shallow, {shallow}")
    validate.whole("cells", cells, 2)
    validate.whole("seeds", seeds, 1)
    data, ops = load(dataset), get_ops("numba")
    runs = {
        depth: [
            fresh(of_depth(depth), data, LIF(), seed, batch_size, steps, ops)
            for seed in range(seeds)
        ]
        for depth in (shallow, deep)
    }

    def factors(surrogate: Surrogate) -> dict[str, float]:
        logs = {depth: log_norms(runs[depth], surrogate) for depth in runs}
        return {m: (logs[deep][m] - logs[shallow][m]) / ((deep - shallow) / 2) for m in METHODS}

    heights, widths = np.geomspace(0.25, 2, cells).tolist(), np.geomspace(0.35, 2.8, cells).tolist()
    triangle = SURROGATES["triangular"]
    found = [[factors(triangle(height, 1.5 * width)) for width in widths] for height in heights]
    marks = []
    for label, name, shape in MARKS:
        surrogate = make_surrogate(name, shape)
        height, width = height_and_width(surrogate, LIF().v_th)
        marks.append(
            {"label": label, "height": height, "width": width, "factors": factors(surrogate)}
        )
    return {
        "heights": heights,
        "widths": widths,
        "marks": marks,
        "map": {m: [[cell[m] for cell in row] for row in found] for m in METHODS},
        "setting": f"from {shallow} to {deep} layers; {data.name}, batch of {batch_size}, "
        f"T = {steps}, {seeds} seeds",
    }


def log_norms(runs: list[tuple[Forward, Array]], surrogate: Surrogate) -> dict[str, float]:
    """Return the mean of log10 |dL/dW_1| over runs, by method."""
    logs: dict[str, list[float]] = {method: [] for method in METHODS}
    for run, labels in runs:
        run = with_surrogate(run, LIF(surrogate=surrogate))
        for method in METHODS:
            value = first_gradient_norm(pull_back(run, labels, SIDES[method]))
            logs[method].append(log10_norm(str(surrogate), value))
    return {method: float(np.mean(values)) for method, values in logs.items()}


def height_and_width(surrogate: Surrogate, v_th: float) -> tuple[float, float]:
    """Return the slope's largest value, and the integral of its square over that value squared."""
    x = np.linspace(-20, 20, 40_001)
    h = surrogate.slope(x, v_th)
    return float(h.max()), float(np.trapezoid((h / h.max()) ** 2, x))


@printed
def draw(data: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(WIDE, 3.6))
    figure.suptitle(data["setting"])
    panels = figure.subplots(1, len(data["map"]), sharey=True)
    most = np.abs(list(data["map"].values())).max()
    colours = ScalarMappable(Normalize(-most, most), "cividis")
    for axes, (method, logs) in zip(panels, data["map"].items(), strict=True):
        draw_map(axes, data["widths"], data["heights"], np.array(logs), colours)
        for mark, marker in zip(data["marks"], MARKERS, strict=True):
            axes.plot(
                mark["width"],
                mark["height"],
                marker=marker,
                linestyle="",
                markersize=8,
                color="black",
                markerfacecolor=colours.to_rgba(mark["factors"][method]),
                markeredgewidth=1.4,
                path_effects=[withStroke(linewidth=4.5, foreground="white")],
                label=mark["label"],
            )
        axes.set(xlabel=r"width of the surrogate slope, $\int h^2$ / height$^2$", title=method)
    panels[0].set_ylabel("height of the surrogate slope")
    bar = figure.colorbar(colours, ax=panels, label="factor on |∂L/∂W₁| per block")
    ticks = [f for f in FACTORS if abs(np.log10(f)) <= most]
    bar.set_ticks(np.log10(ticks), labels=[f"{f:g}" for f in ticks])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_map(axes: Any, widths: Any, heights: Any, logs: Any, colours: Any) -> None:
    """Draw cells and lines of equal factor; the gradient vanishes below 1 and explodes above."""
    axes.pcolormesh(edges(widths), edges(heights), logs, norm=colours.norm, cmap=colours.cmap)
    levels = np.log10(FACTORS)
    lines = axes.contour(
        widths,
        heights,
        logs,
        levels,
        colors=["white" if f <= 1 else "black" for f in FACTORS],
        linestyles="solid",
        linewidths=[2 if f == 1 else 0.8 for f in FACTORS],
    )
    axes.clabel(lines, fmt=lambda level: f"{10**level:g}", fontsize=7)
    axes.grid(False)
    for corner, value, side in ((0.03, logs[0, 0], "left"), (0.97, logs[-1, -1], "right")):
        word, colour = ("vanishes", "white") if value < 0 else ("explodes", "black")
        axes.text(
            corner, corner, word, color=colour, transform=axes.transAxes, ha=side, va="center"
        )
    axes.set(xscale="log", yscale="log")
    for axis, values in ((axes.xaxis, widths), (axes.yaxis, heights)):
        ticks = [t for t in (0.25, 0.5, 1, 2, 4) if values[0] <= t <= values[-1]]
        axis.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
        axis.set_minor_locator(NullLocator())


def edges(centres: Any) -> Any:
    """Return the edges of cells with geometrically spaced centres."""
    half = np.sqrt(centres[1] / centres[0])
    return np.append(np.array(centres) / half, centres[-1] * half)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
