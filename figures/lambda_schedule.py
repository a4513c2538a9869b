"""The side branches' weight during training: three methods, and Eq. 10 by two clocks (D16)."""

import sys
from typing import Any

from _style import GREEN, METHOD_LINES, WIDE, main, printed
from matplotlib.figure import Figure

from refsnn.ops import METHODS, validate
from refsnn.training.config import make_config


def compute(epochs: int = 8, batches: int = 12, lam: float = 0.25) -> dict[str, Any]:
    """Compute the weight at every iteration i = 1 … epochs * batches, as in training."""
    validate.whole("batches", batches, 1)
    settings = {method: {"method": method} for method in METHODS}
    settings["by epoch"] = {"method": "evolutionary", "lam_clock": "epoch"}
    weights = {}
    for name, setting in settings.items():
        config = make_config(epochs=epochs, lam=lam, **setting)
        iterations = range(1, epochs * batches + 1)
        weights[name] = [config.side_coefficient(i, batches) for i in iterations]
    return {"epochs": epochs, "batches": batches, "weights": weights}


@printed
def draw(data: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(WIDE, 2.3))
    methods, clocks = figure.subplots(1, 2)
    total = data["epochs"] * data["batches"]
    iterations = list(range(1, total + 1))
    weights = data["weights"]
    for method in METHODS:
        line = METHOD_LINES[method] | {"marker": ""}
        methods.plot(iterations, weights[method], label=method, **line)
    labels = {"evolutionary": "clock: iteration", "by epoch": "clock: epoch"}
    lines = {"evolutionary": METHOD_LINES["evolutionary"], "by epoch": {"color": GREEN}}
    for name, label in labels.items():
        clocks.plot(iterations, weights[name], label=label, **lines[name] | {"marker": ""})
    methods.set(xlabel="iteration i", ylabel="weight of a side branch")
    clocks.set(xlabel="iteration i", ylabel="λ(i)")
    methods.set_title("Eq. 7, 6 and 10")
    clocks.set_title(f"Eq. 10, {data['epochs']} epochs of {data['batches']} iterations")
    clocks.set_xticks([epoch * data["batches"] for epoch in range(data["epochs"] + 1)])
    methods.legend()
    clocks.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
