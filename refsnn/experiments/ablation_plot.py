"""Pictures of an ablation: its runs by epoch, and accuracies by class; a panel for each row."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refsnn.experiments.ablation import Planned, fixed
from refsnn.experiments.table import STYLES, Table, class_accuracies, labels
from refsnn.files.writing import optional, write_atomic
from refsnn.ops import METHODS
from refsnn.training.folder import read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 3  # panels beside each other, at most
Curves = dict[str, list[list[float]]]  # by method: each run's test accuracy by epoch


def read_curves(runs: Sequence[Planned]) -> list[Curves]:
    """Read the test accuracies by epoch of runs in the table's order, one group for each row.

    Runs without a finished epoch, or whose records can't be read or are elsewhere, are left out.
    """
    groups = groupby(runs, lambda r: (fixed(r.config), r.config.network.arch, r.config.steps))
    found = []
    for _, members in groups:
        curves: Curves = {}
        for run in members:
            try:
                rows = read_metrics(run.folder)
            except (ValueError, OSError):
                continue
            if rows:
                accuracies = [row["test_accuracy"] for row in rows]
                curves.setdefault(run.config.objective.method, []).append(accuracies)
        found.append(curves)
    return found


def draw(table: Table, curves: Sequence[Curves]) -> "Figure":
    """Draw test accuracy by epoch: a thin line for each run, a thick one for a method's mean.

    The mean is drawn for the epochs that all runs of the method have reached.
    """
    from matplotlib.ticker import MaxNLocator

    rows = table["rows"]
    figure, panels = panels_of(len(rows), 2.8, sharey=True)
    for axes, row, by_method, title in zip(panels, rows, curves, labels(table), strict=False):
        for method in (m for m in METHODS if m in by_method):
            color, runs = STYLES[method][0], by_method[method]
            for accuracies in runs:
                axes.plot(epochs(accuracies), percent(accuracies), color=color, lw=0.5, alpha=0.5)
            shared = min(map(len, runs))
            mean = np.mean([accuracies[:shared] for accuracies in runs], axis=0)
            axes.plot(epochs(mean), percent(mean), color=color, lw=2, label=method)
        if row["chance"] is not None:
            axes.axhline(100 * row["chance"], color="0.4", linestyle=":", lw=1)
        axes.set_title(title, fontsize="small")
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    for axes in panels[::ACROSS]:
        axes.set(ylabel="test accuracy, %")
    handles = {h.get_label(): h for axes in panels for h in axes.get_legend_handles_labels()[0]}
    if handles:
        figure.legend(handles=list(handles.values()), loc="outside upper center", ncols=3)
    return figure


def panels_of(count: int, height: float, **options: Any) -> tuple["Figure", list[Any]]:
    """Return a figure with so many panels of that height in inches, and their axes."""
    from matplotlib.figure import Figure

    across = min(ACROSS, count)
    down = -(-count // across)
    figure = Figure(figsize=(3.4 * across + 1, height * down + 0.4), layout="constrained")
    panels: list[Any] = list(figure.subplots(down, across, squeeze=False, **options).flat)
    for axes in panels[count:]:
        axes.axis("off")
    return figure, panels[:count]


def draw_classes(table: Table) -> "Figure | None":
    """Draw each class's mean accuracy by method as a map of colours; None if no row has them."""
    titled = zip(table["rows"], labels(table), strict=True)
    rows = [(found, title) for row, title in titled if (found := class_accuracies(row))]
    if not rows:
        return None
    figure, panels = panels_of(len(rows), 1.9)
    for axes, (found, title) in zip(panels, rows, strict=True):
        shown = 100 * np.array(list(found.values()), float)
        axes.imshow(shown, vmin=0, vmax=100, aspect="auto")
        axes.set_yticks(range(len(found)), found, fontsize="small")
        axes.set_xticks(range(shown.shape[1]))
        axes.tick_params(axis="x", labelsize="small")
        axes.set(xlabel="class")
        axes.set_title(title, fontsize="small")
        for (y, x), value in np.ndenumerate(shown):
            if np.isfinite(value):
                color = "black" if value > 60 else "white"
                axes.text(x, y, f"{value:.0f}", ha="center", va="center", color=color, fontsize=6)
    figure.colorbar(panels[0].images[0], ax=panels, label="test accuracy, %", shrink=0.8)
    return figure


def epochs(accuracies: Sequence[float]) -> range:
    return range(1, len(accuracies) + 1)


def percent(accuracies: Iterable[float]) -> list[float]:
    return [100 * accuracy for accuracy in accuracies]


def write(out: Path, table: Table, runs: Sequence[Planned]) -> list[str]:
    """Write curves.png and classes.png, if they can be drawn; return the files' names.

    `runs` are in the table's order.
    """
    from refsnn.training.plot import figure_bytes

    names: list[str] = []
    pictures: dict[str, Callable[[], Figure | None]] = {
        "curves.png": partial(draw, table, read_curves(runs)),
        "classes.png": partial(draw_classes, table),
    }
    for name, picture in pictures.items():
        with optional(out / name):
            if (figure := picture()) is None:
                (out / name).unlink(missing_ok=True)  # that of other runs
                continue
            write_atomic(out / name, figure_bytes(figure, "png"))
            names.append(name)
    return names
