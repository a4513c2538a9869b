"""curves.png: a run's records as four panels."""

import io
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogFormatterSciNotation, MaxNLocator

from refsnn.output import printable
from refsnn.training.config import TrainConfig

LAYERS = colormaps["viridis"]  # colours from the first layer to the last
NAMED = 24  # layers that have room in the legend


class PlainLog(LogFormatterSciNotation):
    """Labels the same ticks, with 2.18 and not 2.18 x 10^0."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def log_scale(axes: Any, rows: list[dict[str, Any]], *names: str) -> None:
    """Use a log scale if a value is positive; constant images give gradients of 0 only."""
    if any(row[name] > 0 for row in rows for name in names):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PlainLog())
        axes.yaxis.set_minor_formatter(PlainLog())


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as bytes of a file of the kind `png`, `svg` or `pdf`, the same each time."""
    dates = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "refsnn"}):  # names in the file, otherwise random
        figure.savefig(file, format=kind, dpi=120, metadata=dates[kind])
    return file.getvalue()


def draw_curves(rows: list[dict[str, Any]], config: TrainConfig) -> bytes:
    """Return the plot as bytes of a PNG; `rows` are the rows of metrics.jsonl."""
    figure = Figure(figsize=(10, 6), layout=ConstrainedLayoutEngine(wspace=0.06))
    title = (
        f"{config.objective.method} training on {config.data.dataset}: {config.network.arch}, "
        f"T = {config.steps}"
    )
    figure.suptitle(printable(f"{title}, seed {config.seed}"))
    (loss, accuracy), (balance, rates) = figure.subplots(2, 2)
    epochs = [row["epoch"] for row in rows]
    mark = "." if len(rows) < 50 else None

    def line(axes: Any, name: str, label: str, **style: Any) -> None:
        axes.plot(epochs, [row[name] for row in rows], marker=mark, label=label, **style)

    line(loss, "loss", "training (combined output)")
    line(loss, "test_loss", "test (main branch)", linestyle="--")
    left_out = "validation_accuracy" in rows[0]
    if left_out:
        line(loss, "validation_loss", "left out (main branch)", linestyle=":")
    loss.set(ylabel="cross-entropy" if config.objective.loss == "cross_entropy" else "loss")
    log_scale(loss, rows, "loss", "test_loss")
    line(accuracy, "train_accuracy", "training")
    line(accuracy, "test_accuracy", "test", linestyle="--")
    if left_out:
        line(accuracy, "validation_accuracy", "left out", linestyle=":")
    accuracy.set(ylabel="accuracy of the main branch")
    line(balance, "lambda", "λ, weight of the side branches")
    balance.set(ylabel="λ", ylim=(-0.02 * (balance.get_ylim()[1] or 1), None))
    gradient = balance.twinx()
    line(gradient, "first_layer_gradient_norm", "norm of ∂L/∂W₁", color="C1", linestyle="--")
    gradient.set(ylabel="first layer's gradient norm")
    log_scale(gradient, rows, "first_layer_gradient_norm")
    handles = balance.get_lines() + gradient.get_lines()
    balance.legend(handles, [h.get_label() for h in handles], fontsize="small")
    layers = list(rows[-1]["firing_rate"])
    named = -(-len(layers) // NAMED)  # every so many layers
    for index, layer in enumerate(layers):
        rates.plot(
            epochs,
            [row["firing_rate"][layer] for row in rows],
            marker=mark,
            color=LAYERS(index / max(len(layers) - 1, 1)),
            label=layer if index % named == 0 or index == len(layers) - 1 else None,
        )
    rates.set(ylabel="spikes per neuron and step", ylim=(0, None))
    for axes in (loss, accuracy):
        axes.legend(fontsize="small")
    rates.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1, 1))
    for axes in (loss, accuracy, balance, rates):
        axes.grid(alpha=0.3)
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    return figure_bytes(figure, "png")
