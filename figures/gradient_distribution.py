"""Distribution of the entries of the first layer's gradient dL/dW_1 at initialisation, by method.

Above, the entries as in the paper; below, their magnitudes, which show vanishing gradients.
Evolutionary training is at its beginning, with lambda = 0.25. Entries of all seeds are pooled.
"""

import sys
from typing import Any

import numpy as np
from _gradients import SIDES, fresh, one_thread, pull_back
from _style import METHOD_LINES, WIDE, main, printed
from matplotlib.figure import Figure

from refsnn.data import load
from refsnn.ops import LIF, get_ops, make_surrogate, validate

BINS = 31


@one_thread()
def compute(
    archs: tuple[str, ...] = ("resnet20", "resnet34"),
    seeds: int = 10,
    batch_size: int = 64,
    steps: int = 4,
    surrogate: str = "tanh",
    dataset: str = "digits",
) -> dict[str, Any]:
    """Compute histograms of the entries g and of log10 |g|, by architecture and method."""
    validate.whole("seeds", seeds, 1)
    data, lif, ops = load(dataset), LIF(surrogate=make_surrogate(surrogate)), get_ops("numba")
    panels = []
    for arch in archs:
        entries: dict[str, list[Any]] = {method: [] for method in SIDES}
        for seed in range(seeds):
            run, labels = fresh(arch, data, lif, seed, batch_size, steps, ops)
            for method, side in SIDES.items():
                grads = pull_back(run, labels, side)
                entries[method].append(grads["stem.conv0.weight"].ravel())
        pooled = {method: np.concatenate(g).astype(np.float64) for method, g in entries.items()}
        panels.append({"arch": arch} | histograms(pooled))
    setting = f"{data.name}, batch of {batch_size}, T = {steps}, {surrogate}, {seeds} seeds"
    return {"panels": panels, "sides": SIDES, "setting": setting}


def histograms(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the fractions of the entries g, and of log10 |g|, in BINS bins.

    The bins of g cover 99 % of the magnitudes of the method with the widest distribution. The
    histogram of log10 |g| leaves out zeros.
    """
    everything = np.concatenate(list(entries.values()))
    reach = max(np.quantile(np.abs(g), 0.99) for g in entries.values())
    logs = {method: np.log10(np.abs(g[g != 0])) for method, g in entries.items()}
    low, high = np.quantile(np.concatenate(list(logs.values())), [0.001, 1])
    found: dict[str, Any] = {"count": len(everything) // len(entries)}
    for name, values, edges in (
        ("linear", entries, np.linspace(-reach, reach, BINS + 1)),
        ("log", logs, np.linspace(low, high, BINS + 1)),
    ):
        shares = {m: np.histogram(v, edges)[0] / len(entries[m]) for m, v in values.items()}
        shares = {method: share.tolist() for method, share in shares.items()}
        found[name] = {"edges": edges.tolist(), "shares": shares}
    found["rms"] = {method: float(np.sqrt(np.mean(g**2))) for method, g in entries.items()}
    return found


@printed
def draw(data: dict[str, Any]) -> Figure:
    panels = data["panels"]
    figure = Figure(figsize=(WIDE, 4.4))
    figure.suptitle(data["setting"])
    grid = figure.subplots(2, len(panels), squeeze=False)
    sides = {method: f"{method}, λ = {side:g}" for method, side in data["sides"].items()}
    for (above, below), panel in zip(grid.T, panels, strict=True):
        outline(above, panel["linear"], sides)
        outline(below, panel["log"], {m: f"rms {rms:.1e}" for m, rms in panel["rms"].items()})
        above.set(title=f"{panel['arch']}, {panel['count']} entries", xlabel="entry g of ∂L/∂W₁")
        above.ticklabel_format(axis="x", scilimits=(0, 0))
        above.set_yscale("log")
        below.set(xlabel="log₁₀ |g|")
        below.legend(loc="upper left")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def outline(axes: Any, histogram: dict[str, Any], labels: dict[str, str]) -> None:
    for method, shares in histogram["shares"].items():
        line = {name: METHOD_LINES[method][name] for name in ("color", "linestyle")}
        axes.stairs(shares, histogram["edges"], label=labels[method], **line)
    axes.set_ylabel("fraction of the entries")


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
