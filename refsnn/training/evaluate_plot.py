"""The picture of `refsnn evaluate`: the confusion matrix, and the accuracy by time step."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from refsnn.output import printable
from refsnn.training.plot import figure_bytes

MOST = 20  # classes whose numbers of images are written into the matrix


def draw_evaluation(result: dict[str, Any], kind: str) -> bytes:
    """Return the picture as bytes of a file of the kind `png`, `svg` or `pdf`."""
    matrix = np.array(result["confusion"])
    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    title = f"{result['arch']}, {result['method']}, on {result['images']} images of"
    accuracy = f"accuracy {result['test_accuracy']:.1%}"
    figure.suptitle(printable(f"{title} {result['dataset']}: {accuracy}"))
    confusion, steps = figure.subplots(1, 2, width_ratios=(3, 2))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shown = confusion.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, ax=confusion, label="share of the label's images", shrink=0.8)
    confusion.set(xlabel="predicted class", ylabel="label")
    if len(matrix) <= MOST:
        confusion.set(xticks=range(len(matrix)), yticks=range(len(matrix)))
        for (label, predicted), count in np.ndenumerate(matrix):
            if count:
                color = "white" if shares[label, predicted] > 0.5 else "black"
                place = {"ha": "center", "va": "center", "fontsize": "small"}
                confusion.text(predicted, label, str(count), color=color, **place)
    by_step = result["accuracy_by_step"]
    steps.plot(range(1, len(by_step) + 1), by_step, marker="o")
    steps.set(xlabel="time steps that are used", ylabel="accuracy", ylim=(0, 1.02))
    steps.axhline(1 / len(matrix), color="grey", linestyle=":", label="chance")
    steps.legend(fontsize="small", loc="lower right")
    steps.xaxis.set_major_locator(MaxNLocator(integer=True))
    steps.grid(alpha=0.3)
    return figure_bytes(figure, kind)
