"""The pictures of `refsnn show`."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from refsnn.experiments.show import EDGES, Layer, Seen
from refsnn.ops import Array
from refsnn.output import printable
from refsnn.training.plot import LAYERS, NAMED, PlainLog
from refsnn.training.run import longer_after
from refsnn.training.validation import best_row

ACROSS = 5  # panels in a row
SIDE = 1.9  # inches of a panel


def panels(count: int, title: str, **options: Any) -> tuple[Figure, list[Any]]:
    """Return a figure with so many panels, and their axes."""
    across = min(ACROSS, count)
    down = ceil(count / across)
    size = (max(across, 3) * SIDE, down * SIDE + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(printable(title))
    axes = list(figure.subplots(down, across, squeeze=False, **options).flat)
    for unused in axes[count:]:
        unused.axis("off")
    for index, place in enumerate(axes[:count]):
        place.tick_params(labelsize="x-small", labelbottom=index + across >= count)
    return figure, axes[:count]


def draw_rates(seen: Seen, name: str) -> Figure:
    """Draw how often each layer's neurons fire."""
    title = f"{name}: neurons by firing rate, on {seen.images} images"
    figure, axes = panels(len(seen.layers), title, sharex=True)
    for place, layer in zip(axes, seen.layers, strict=True):
        place.hist(layer.rates, bins=np.linspace(0, 1, 21), color="C0")
        place.set_title(f"{layer.name}\n{quiet(layer)}", fontsize="x-small")
        place.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    figure.supxlabel("spikes per image and step", fontsize="small")
    figure.supylabel("neurons", fontsize="small")
    return figure


def quiet(layer: Layer) -> str:
    """Return how many neurons never fire, or always do, in words."""
    return f"never {layer.dead:.0%}, always {layer.saturated:.0%}"


def draw_potentials(seen: Seen, name: str) -> Figure:
    """Draw the potentials before firing of each layer against its threshold."""
    title = f"{name}: potentials before firing, in units of the threshold"
    figure, axes = panels(len(seen.layers), title, sharex=True)
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    for place, layer in zip(axes, seen.layers, strict=True):
        place.fill_between(middles, layer.potentials, step="mid", color="C0", alpha=0.7)
        place.axvline(1, color="C3", linewidth=1)
        outside = 1 - layer.potentials.sum()
        beyond = f"\n{outside:.1%} outside" if outside > 0.0005 else ""
        place.set_title(layer.name + beyond, fontsize="x-small")
        place.set(ylim=(0, None), yticks=())
    figure.supxlabel("potential (red: the threshold)", fontsize="small")
    return figure


def draw_raster(seen: Seen, name: str) -> Figure:
    """Draw the spikes of a few neurons of each layer, for the first images."""
    samples, steps, _ = seen.layers[0].spikes.shape
    rows = [layer.spikes.shape[2] for layer in seen.layers]
    ends = np.cumsum(rows)
    height = 1.2 + 0.05 * ends[-1]
    figure = Figure(figsize=(2.5 + 2.2 * samples, height), layout="constrained")
    figure.suptitle(printable(f"{name}: spikes of up to {max(rows)} neurons of each layer"))
    for index, place in enumerate(figure.subplots(1, samples, squeeze=False, sharey=True)[0]):
        spikes = np.concatenate([layer.spikes[index] for layer in seen.layers], axis=1)
        times = [np.flatnonzero(neuron) + 1 for neuron in spikes.T]
        place.eventplot(times, linelengths=0.8, linewidths=4, colors="black")
        for end in ends[:-1]:
            place.axhline(end - 0.5, color="grey", linewidth=0.5)
        place.set(xlim=(0.5, steps + 0.5), ylim=(ends[-1] - 0.5, -0.5), title=f"image {index}")
        place.set_xticks(range(1, steps + 1), labels=range(1, steps + 1))
        place.set(xlabel="time step")
        place.set_yticks(ends - np.array(rows) / 2 - 0.5, [layer.name for layer in seen.layers])
        place.tick_params(axis="y", labelsize="x-small", length=0)
    return figure


def draw_weights(seen: Seen, name: str) -> Figure:
    """Draw the filters of the first convolution: in colour if they take three channels."""
    filters = np.moveaxis(seen.weights, -1, 0)  # (C_out, kh, kw, C_in)
    in_colour = filters.shape[-1] == 3
    shown = filters if in_colour else filters.mean(axis=-1)
    most = float(np.abs(shown).max()) or 1.0
    across = min(8, len(shown))
    down = ceil(len(shown) / across)
    figure = Figure(figsize=(max(across * 0.75, 4), down * 0.75 + 1), layout="constrained")
    what = "" if in_colour or filters.shape[-1] == 1 else ", mean over the input channels"
    figure.suptitle(printable(f"{name}: weights of stem.conv0{what}"), fontsize="medium")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    drawn = None
    for place in axes:
        place.axis("off")
    for place, one in zip(axes, shown, strict=False):
        if in_colour:
            place.imshow((one / most + 1) / 2)
        else:
            drawn = place.imshow(one, cmap="RdBu_r", vmin=-most, vmax=most)
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.8)
    return figure


def draw_gradients(rows: list[dict[str, Any]], name: str) -> Figure:
    """Draw the norm of the gradient of each layer's weights over the epochs of a run.

    `rows` are those of metrics.jsonl that have `gradient_norm`.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    layers = [layer for layer in rows[-1]["gradient_norm"] if not layer.startswith("branch.")]
    named = -(-len(layers) // NAMED)
    positive = False
    for index, layer in enumerate(layers):
        values = [row["gradient_norm"][layer] for row in rows]
        positive |= any(value > 0 for value in values)
        axes.plot(
            [row["epoch"] for row in rows],
            values,
            marker="." if len(rows) < 50 else None,
            color=LAYERS(index / max(len(layers) - 1, 1)),
            label=layer if index % named == 0 or index == len(layers) - 1 else None,
        )
    if positive:
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel="norm of the gradient, last iteration of each epoch")
    axes.set_title(printable(f"{name}: gradient by layer of the main branch"), fontsize="medium")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_runs(names: Sequence[str], metrics: Sequence[list[dict[str, Any]]]) -> Figure:
    """Draw the curves of several runs over each other.

    A star marks the best epoch by the images left out; a dotted line, where a run that had ended
    was made longer.
    """
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True)
    curves = (
        ("test_accuracy", "accuracy on the held-out images", "linear"),
        ("loss", "training loss", "log"),
        ("lr", "learning rate", "linear"),
        ("first_layer_gradient_norm", "norm of the first layer's gradient", "log"),
        ("firing_rate", "mean firing rate of the layers", "linear"),
        ("lambda", "λ, weight of the side branches", "linear"),
    )
    for place, (field, label, scale) in zip(axes.flat, curves, strict=True):
        positive = False
        for name, rows in zip(names, metrics, strict=True):
            values = [mean_rate(row) if field == "firing_rate" else row[field] for row in rows]
            marker = "." if len(rows) < 50 else None
            epochs = [row["epoch"] for row in rows]
            (line,) = place.plot(epochs, values, marker=marker, label=printable(name))
            positive |= any(value > 0 for value in values)
            if best := best_row(rows):
                at = epochs.index(best["epoch"])
                place.plot(epochs[at], values[at], marker="*", ms=12, color=line.get_color())
            for epoch in longer_after(rows):
                place.axvline(epoch, color=line.get_color(), linestyle=":", linewidth=1)
        place.set(ylabel=label, xlabel="epoch")
        if scale == "log" and positive:
            place.set_yscale("log")
            place.yaxis.set_major_formatter(PlainLog())
            place.yaxis.set_minor_formatter(PlainLog())
        place.xaxis.set_major_locator(MaxNLocator(integer=True))
        place.xaxis.set_tick_params(labelbottom=True)
        place.grid(alpha=0.3)
    axes[0, 0].legend(fontsize="small")
    return figure


def mean_rate(row: dict[str, Any]) -> float:
    """Return the mean of an epoch's firing rates over the layers."""
    rates: Array = np.array(list(row["firing_rate"].values()))
    return float(rates.mean())
