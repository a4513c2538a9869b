"""The command `refsnn energy`: its options, table and picture."""

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.experiments.energy import ACCUMULATE, MULTIPLY_ACCUMULATE, Operations, summary
from refsnn.ops import validate
from refsnn.output import counted, open_output, printable, table
from refsnn.process import limit_threads
from refsnn.training.evaluate import forward_passes
from refsnn.training.options import add_best, add_picture, add_threads, add_workers


def add_options(parser: Any) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="count on other images, as for refsnn evaluate (default: the held-out images of the "
        "run's data set)",
    )
    parser.add_argument(
        "--images", type=int, metavar="N", help="count on the first N images (default: all)"
    )
    parser.add_argument(
        "--accumulate",
        type=float,
        default=ACCUMULATE,
        metavar="PJ",
        help=f"energy of an accumulate in pJ (default: {ACCUMULATE}, 32-bit floats at 45 nm)",
    )
    parser.add_argument(
        "--multiply-accumulate",
        type=float,
        default=MULTIPLY_ACCUMULATE,
        metavar="PJ",
        help="energy of a multiply-accumulate in pJ (default: "
        f"{MULTIPLY_ACCUMULATE}, 32-bit floats at 45 nm)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="also write a JSON object; - prints it and nothing else"
    )
    add_best(parser)
    add_picture(parser, "draw the energy by layer")
    add_threads(parser)
    add_workers(parser)


def run(arguments: argparse.Namespace) -> int:
    """Count, print the table, and write the files; return the exit code."""
    for name in ("accumulate", "multiply_accumulate"):
        validate.at_least(name, getattr(arguments, name), 0)
    if arguments.images is not None:
        validate.whole("images", arguments.images, 1)
    limit_threads(arguments.threads)
    with ExitStack() as stack:
        write = stack.enter_context(open_output(arguments.json))
        draw = stack.enter_context(open_output(arguments.picture and str(arguments.picture)))
        result = measure(
            arguments.folder,
            arguments.data,
            arguments.images,
            arguments.workers,
            arguments.accumulate,
            arguments.multiply_accumulate,
            arguments.best,
        )
        if arguments.json != "-":
            print(report(result))
        write(json.dumps(result, indent=2))
        if arguments.picture is not None:
            draw(picture(result, arguments.picture.suffix[1:]))
    return 0


def measure(
    folder: Path,
    data: str | None,
    most: int | None,
    workers: int | None,
    accumulate: float,
    multiply_accumulate: float,
    best: bool = False,
) -> dict[str, Any]:
    """Return the counts of a run's network for an image, the mean over up to `most` images."""
    operations, images = Operations(), 0
    for tested, run, labels in forward_passes(folder, data, most, workers, best):
        operations.add(run)
        images, about = images + len(labels), tested
    return {
        "arch": about.config.network.arch,
        "steps": about.config.steps,
        "dataset": about.dataset,
        "batch_norm_folds": about.config.norm.norm_model in ("bn", "psp")
        and not about.config.norm.norm_identity,
        "images": images,
        "accumulate_picojoules": accumulate,
        "multiply_accumulate_picojoules": multiply_accumulate,
        **summary(operations, accumulate, multiply_accumulate),
    }


HEAD = (
    *("layer", "takes", "rate", "synaptic", "MACs", "rate x FLOPs", "off by", "updates", "nJ"),
    "dense nJ",
)


def report(result: dict[str, Any]) -> str:
    """Return the counts as a table, below a title."""
    rows = [cells(row) for row in result["layers"]]
    total = result["total"]
    ratio = result["formula_over_count"]
    off = "" if ratio is None else f"{ratio - 1:+.1%}"
    rows.append(
        [
            *("total", "", "", number(total["synaptic_operations"]), number(total["macs"])),
            *(number(total["formula"]), off, number(total["neuron_updates"])),
            *(f"{total['nanojoules']:.1f}", f"{total['dense_nanojoules']:.1f}"),
        ]
    )
    title = (
        f"{result['arch']}, T = {result['steps']}: operations for an image, the mean over "
        f"{counted(result['images'], 'image')} of {result['dataset']}"
    )
    folded = ", which can be folded into the weights" if result["batch_norm_folds"] else ""
    costs = (
        f"energy: {result['accumulate_picojoules']:g} pJ for a synaptic operation (an accumulate), "
        f"{result['multiply_accumulate_picojoules']:g} pJ for a multiply-accumulate (MAC)\n"
        f"dense: the same layers once, without spikes, every weight a MAC: "
        f"{result['dense_over_spiking']:.2f} times the energy\n"
        f"weights read: {number(total['weights_read'])}, one for each of these operations but a "
        "skip's\n"
        f"not in the energy: {number(total['norm_macs'])} MACs of batch norm"
        f"{folded}, and the neurons' updates"
    )
    return f"{title}\n\n{table(HEAD, rows, HEAD[:2])}\n\n{costs}"


def cells(row: dict[str, Any]) -> list[str]:
    """Return a layer's row of the table."""
    formula, synaptic = row["formula"], row["synaptic_operations"]
    rate = row["firing_rate"]
    return [
        row["layer"],
        row["takes"],
        "" if rate is None else f"{rate:.3f}",
        number(synaptic),
        number(row["macs"]),
        "" if formula is None else number(formula),
        f"{formula / synaptic - 1:+.1%}" if formula and synaptic else "",
        number(row["neuron_updates"]),
        f"{row['nanojoules']:.1f}",
        f"{row['dense_nanojoules']:.1f}",
    ]


def number(value: float) -> str:
    """Return a count with separators, rounded to a whole number."""
    return f"{value:,.0f}"


def picture(result: dict[str, Any], kind: str) -> bytes:
    """Draw the energy by layer; return the bytes of a file of the kind `png`, `svg` or `pdf`."""
    from matplotlib.figure import Figure

    from refsnn.training.plot import figure_bytes

    rows = result["layers"]
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    spiking, dense = ([row[name] for row in rows] for name in ("nanojoules", "dense_nanojoules"))
    axes.barh(places - 0.2, spiking, 0.4, label="spiking, as counted")
    axes.barh(places + 0.2, dense, 0.4, color="lightgrey", label="dense, without time")
    axes.set_yticks(places, [row["layer"] for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="energy for an image in nJ", ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize="small")
    total = result["total"]
    title = f"{result['arch']}, T = {result['steps']}, {result['dataset']}: "
    title += f"{total['nanojoules']:.0f} nJ an image, dense {total['dense_nanojoules']:.0f} nJ"
    axes.set_title(printable(title), fontsize="medium")
    return figure_bytes(figure, kind)
