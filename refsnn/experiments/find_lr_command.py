"""The command `refsnn find-lr`: options, text and picture of a learning-rate range test."""

import argparse
import json
import math
from typing import Any

import numpy as np

from refsnn.data import load
from refsnn.experiments.find_lr import Found, find_lr
from refsnn.ops import validate
from refsnn.output import open_output, progress_bar, table
from refsnn.training.config import PRESETS, TrainConfig, check_precision, make_config
from refsnn.training.options import (
    add_picture,
    add_recipe,
    add_settings,
    add_threads,
    given_settings,
)

LINES = 12  # of the printed table


def add_options(parser: Any) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "--low", type=float, default=1e-5, metavar="X", help="first learning rate (default: 1e-5)"
    )
    parser.add_argument(
        "--high", type=float, default=1.0, metavar="X", help="last learning rate (default: 1)"
    )
    parser.add_argument(
        "--iterations", type=int, default=100, metavar="N", help="learning rates (default: 100)"
    )
    add_picture(parser, "draw the loss against the learning rate")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        help="settings to start from; options override them (default: digits)",
    )
    add_recipe(parser)
    add_settings(parser, ("lr", "epochs", "patience"))
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the test, print its figures and draw them; return the exit code."""
    from refsnn.process import keep_freed_memory, limit_threads

    validate.positive("low", arguments.low)
    if not arguments.low < arguments.high < math.inf:
        raise ValueError(f"high: got {arguments.high}, want more than low, {arguments.low}")
    validate.whole("iterations", arguments.iterations, 3)
    limit_threads(arguments.threads)
    config = make_config(arguments.preset or "digits", **given_settings(arguments))
    for name in ("low", "high"):
        check_precision(name, getattr(arguments, name), config.dtype)
    dataset = load(config.data.dataset, config.data_options())
    keep_freed_memory(large=config.memory != "low")
    with open_output(arguments.picture and str(arguments.picture)) as draw:
        with progress_bar(total=arguments.iterations, unit="it", disable=arguments.json) as bar:
            found = find_lr(
                config, dataset, arguments.low, arguments.high, arguments.iterations, bar
            )
        if arguments.json:
            rows = [one._asdict() for one in found.tried]
            print(json.dumps(found._asdict() | {"tried": rows}, indent=2))
        else:
            print(report(found, config))
        if arguments.picture is not None:
            draw(picture(found, config, arguments.picture.suffix[1:]))
    return 0


def report(found: Found, config: TrainConfig) -> str:
    """Return the figures as text: a few of the learning rates, and what follows from all."""
    places = np.linspace(0, len(found.tried) - 1, min(LINES, len(found.tried))).round().astype(int)
    rows = [
        [f"{one.lr:.2g}", f"{one.loss:.3f}", f"{one.smoothed:.3f}"]
        for one in (found.tried[place] for place in places)
    ]
    head = ["learning rate", "loss", "smoothed"]
    lines = [table(head, rows, ()), f"{len(found.tried)} iterations: {found.ended}"]
    if found.steepest is None or found.lowest is None:
        lines.append("the loss did not fall; try other learning rates (--low, --high)")
    else:
        lines.append(
            f"the loss falls fastest at {found.steepest:.2g} and is lowest at {found.lowest:.2g}; "
            f"a tenth of the latter, {found.lowest / 10:.2g}, up to the former is a usual choice "
            f"for --lr (now {config.optimizer.lr:g})"
        )
    return "\n".join(lines)


def picture(found: Found, config: TrainConfig, kind: str) -> bytes:
    """Return the loss against the learning rate as bytes of a picture."""
    from matplotlib.figure import Figure

    from refsnn.training.plot import figure_bytes

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    rates = [one.lr for one in found.tried]
    axes.plot(rates, [one.loss for one in found.tried], color="0.75", label="loss of the batch")
    axes.plot(rates, [one.smoothed for one in found.tried], label="smoothed")
    for value, style, name in (
        (found.steepest, "--", "falls fastest"),
        (found.lowest, ":", "lowest"),
    ):
        if value is not None:
            axes.axvline(value, color="0.3", linestyle=style, label=f"{name}: {value:.2g}")
    axes.set(
        xscale="log",
        xlabel="learning rate",
        ylabel="loss",
        title=f"{config.network.arch}, {config.objective.method}, {config.optimizer.optimizer}",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure_bytes(figure, kind)
