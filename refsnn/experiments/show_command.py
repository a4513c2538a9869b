"""The command `refsnn show`: pictures of runs, and how two runs differ."""

import argparse
import base64
import csv
import html
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.experiments.show import Comparison, Seen, compare, look
from refsnn.files.writing import write_atomic
from refsnn.output import counted, open_output, printable, table
from refsnn.process import limit_threads
from refsnn.training.callbacks import scalars
from refsnn.training.evaluate import evaluate_run
from refsnn.training.folder import read_metrics
from refsnn.training.options import add_best, add_threads, add_workers

KINDS = ("png", "svg", "pdf")


def add_options(parser: Any) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folders of runs; the neurons are those of the first one, the others are compared "
        "with it",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("pictures"),
        metavar="DIR",
        help="folder for the pictures (default: pictures)",
    )
    parser.add_argument(
        "--format", choices=KINDS, default="png", help="format of the pictures (default: png)"
    )
    parser.add_argument(
        "--html",
        action="store_true",
        help="write one page instead, DIR/index.html, with the pictures in it",
    )
    parser.add_argument(
        "--data", metavar="NAME", help="watch the neurons on other images, as refsnn evaluate"
    )
    add_best(parser)
    for name, default, text in (
        ("images", 200, "images that the neurons are watched on"),
        ("neurons", 12, "neurons of each layer in the raster"),
        ("samples", 1, "images in the raster"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    parser.add_argument(
        "--csv",
        metavar="FILE",
        help="also write each run's figures of each epoch as a line of CSV; - prints it alone",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_threads(parser)
    add_workers(parser)


def run(arguments: argparse.Namespace) -> int:
    """Watch the runs, write the pictures and print the figures; return the exit code."""
    if arguments.json and arguments.csv == "-":
        raise ValueError("csv: got - beside --json, want a file: both would be printed")
    limit_threads(arguments.threads)
    with open_output(arguments.csv, print) as write_csv:
        show(arguments, write_csv)
    return 0


def show(arguments: argparse.Namespace, write_csv: Callable[[str], None]) -> None:
    """Watch the runs, write the pictures and print the figures."""
    folders, names = arguments.folders, names_of(arguments.folders)
    metrics = [read_metrics(folder) for folder in folders]
    seen = look(
        folders[0],
        arguments.data,
        arguments.images,
        arguments.neurons,
        arguments.samples,
        arguments.workers,
        arguments.best,
    )
    compared = comparisons(folders, arguments)
    kind = "svg" if arguments.html else arguments.format
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_csv(metrics_csv(names, metrics))
    if arguments.json:
        print(json.dumps(as_dict(seen, names, compared), indent=2))
    elif arguments.csv != "-":
        print(report(seen, names, compared))
    pictures = draw(seen, names, metrics, kind)
    for folder, rows in zip(folders, metrics, strict=True):
        if not rows:
            print(f"refsnn: {folder}: no epoch is recorded, so no curve is drawn", file=sys.stderr)
    if arguments.html:
        text = page(names, report(seen, names, compared), pictures)
        write_atomic(arguments.out / "index.html", text.encode())
        written = "index.html"
    else:
        for name, content in pictures.items():
            write_atomic(arguments.out / f"{name}.{kind}", content)
        written = ", ".join(f"{name}.{kind}" for name in pictures)
    if not arguments.json and arguments.csv != "-":
        print(f"\nin {printable(str(arguments.out))}: {written}")


def metrics_csv(names: list[str], metrics: list[list[dict[str, Any]]]) -> str:
    """Return the rows of metrics.jsonl of each run as CSV; a figure that a run lacks is empty."""
    lines = [
        {"run": printable(name)} | dict(scalars(row))
        for name, rows in zip(names, metrics, strict=True)
        for row in rows
    ]
    columns = dict.fromkeys(column for line in lines for column in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or ["run"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().rstrip("\n")


def names_of(folders: list[Path]) -> list[str]:
    """Return the folders' names, or their paths where names are equal."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def comparisons(folders: list[Path], arguments: argparse.Namespace) -> list[Comparison]:
    """Compare each run after the first with it, on the same images; ValueError if they differ."""
    if len(folders) == 1:
        return []
    found = []
    right = labels = None
    for folder in folders:
        outputs = evaluate_run(folder, arguments.workers, arguments.data, arguments.best)[1]
        if labels is not None and not np.array_equal(labels, outputs.labels):
            raise ValueError(
                f"{folder}: tested on other images than {folders[0]}; give both the same by --data"
            )
        own, labels = outputs.predictions[-1] == outputs.labels, outputs.labels
        if right is None:
            right = own
        else:
            found.append(compare(right, own))
    return found


def draw(
    seen: Seen, names: list[str], metrics: list[list[dict[str, Any]]], kind: str
) -> dict[str, bytes]:
    """Return the pictures by name."""
    from refsnn.experiments import show_plot as plot
    from refsnn.training.plot import figure_bytes

    figures = {
        "firing_rates": plot.draw_rates(seen, names[0]),
        "potentials": plot.draw_potentials(seen, names[0]),
        "raster": plot.draw_raster(seen, names[0]),
        "weights": plot.draw_weights(seen, names[0]),
    }
    if rows := [row for row in metrics[0] if "gradient_norm" in row]:
        figures["gradients"] = plot.draw_gradients(rows, names[0])
    if any(metrics):
        figures["curves"] = plot.draw_runs(names, metrics)
    return {name: figure_bytes(figure, kind) for name, figure in figures.items()}


def report(seen: Seen, names: list[str], compared: list[Comparison]) -> str:
    """Return the layers' figures and the comparisons as text."""
    rows = [
        [
            layer.name,
            str(layer.rates.size),
            f"{layer.rates.mean():.3f}",
            f"{layer.dead:.1%}",
            f"{layer.saturated:.1%}",
        ]
        for layer in seen.layers
    ]
    head = ["layer", "neurons", "firing rate", "never fire", "fire at every step"]
    text = f"{printable(names[0])}: {seen.config.network.arch}, T = {seen.config.steps}, "
    text += f"on {counted(seen.images, 'image')}\n\n{table(head, rows, head[:1])}"
    for name, one in zip(names[1:], compared, strict=True):
        text += (
            f"\n\n{printable(name)} - {printable(names[0])}: accuracy {one.difference:+.4f} on "
            f"{counted(one.images, 'image')}; right where the other is wrong: {printable(name)} "
            f"{one.only_second}, {printable(names[0])} {one.only_first} "
            f"(p = {one.p_value:.2g}, exact McNemar test)"
        )
        for winner, images in ((name, one.second), (names[0], one.first)):
            if images:
                more = f", … {len(images)} in all (--json)" if len(images) > LISTED else ""
                listed = ", ".join(map(str, images[:LISTED]))
                text += f"\nimages that only {printable(winner)} classifies right: {listed}{more}"
    if compared:
        text += "\nThis compares trained networks; methods are compared by runs of several seeds."
    return text


def as_dict(seen: Seen, names: list[str], compared: list[Comparison]) -> dict[str, Any]:
    """Return the layers' figures and the comparisons for JSON."""
    return {
        "run": names[0],
        "images": seen.images,
        "layers": [
            {
                "name": layer.name,
                "neurons": layer.rates.size,
                "firing_rate": float(layer.rates.mean()),
                "never_fire": layer.dead,
                "fire_at_every_step": layer.saturated,
            }
            for layer in seen.layers
        ],
        "comparisons": [
            {
                "run": name,
                "difference": one.difference,
                "images": one.images,
                "only_first": one.only_first,
                "only_second": one.only_second,
                "only_first_images": one.first,
                "only_second_images": one.second,
                "p_value": one.p_value,
            }
            for name, one in zip(names[1:], compared, strict=True)
        ],
    }


LISTED = 12  # images by number, in the text
STYLE = "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
STYLE += "img{max-width:100%}pre{overflow-x:auto;background:#f4f4f4;padding:1em}"


def page(names: list[str], text: str, pictures: dict[str, bytes]) -> str:
    """Return a page of HTML that holds the text and the pictures, and loads nothing."""
    title = html.escape(printable(", ".join(names)))
    parts = [
        f'<h2>{name.replace("_", " ")}</h2>\n<img alt="{name.replace("_", " ")}" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(content).decode()}">'
        for name, content in pictures.items()
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n<pre>{html.escape(text)}</pre>\n"
        f"{body}\n</body>\n</html>\n"
    )
