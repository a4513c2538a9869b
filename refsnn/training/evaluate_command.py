"""The command `refsnn evaluate`: its options, tables and files."""

import argparse
import csv
import io
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.output import counted, open_output, table
from refsnn.process import limit_threads
from refsnn.training.evaluate import Outputs, evaluate_run
from refsnn.training.options import add_best, add_picture, add_threads, add_workers

MOST = 20  # classes of which the terminal shows the whole matrix
WORST = 10  # classes that it shows otherwise


def add_options(parser: Any) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="test on other images: the held-out ones of a data set, or a .npz file with images "
        "and labels (default: the held-out images of the run's data set)",
    )
    add_best(parser)
    parser.add_argument(
        "--predictions",
        metavar="FILE",
        help="write a CSV file with a line for each image: its index, label, predicted class, and "
        "each class's probability; - prints it alone",
    )
    parser.add_argument(
        "--logits",
        action="store_true",
        help="write logits instead of probabilities into the CSV file",
    )
    add_picture(parser, "draw the confusion matrix, and the accuracy by time step")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_threads(parser)
    add_workers(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the run, print its figures and write the files; return the exit code."""
    check(arguments)
    limit_threads(arguments.threads)
    with ExitStack() as stack:
        write = stack.enter_context(open_output(arguments.predictions, print))
        draw = stack.enter_context(open_output(arguments.picture and str(arguments.picture)))
        result, outputs = evaluate_run(
            arguments.folder, arguments.workers, arguments.data, arguments.best
        )
        if arguments.json:
            print(json.dumps(result, indent=2))
        elif arguments.predictions != "-":
            print(report(result))
        if arguments.predictions is not None:
            write(predictions_csv(outputs, arguments.logits))
        if arguments.picture is not None:
            from refsnn.training.evaluate_plot import draw_evaluation

            draw(draw_evaluation(result, arguments.picture.suffix[1:]))
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Raise ValueError for options that do not fit each other, before anything is computed."""
    if arguments.logits and arguments.predictions is None:
        raise ValueError(
            "logits: got it without --predictions FILE, which they would be written to"
        )
    if arguments.json and arguments.predictions == "-":
        raise ValueError("predictions: got - beside --json, want a file: both would be printed")


def predictions_csv(outputs: Outputs, logits: bool) -> str:
    """Return a line of CSV for each image, below the names of the columns.

    Numbers have as many digits as give the same float back.
    """
    labels, values, (*_, predicted), _ = outputs
    if not logits:
        e = np.exp(values - values.max(axis=1, keepdims=True))
        values = e / e.sum(axis=1, keepdims=True)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    what = "logit" if logits else "probability"
    classes = (f"{what}_{index}" for index in range(values.shape[1]))
    lines.writerow(["index", "label", "prediction", *classes])
    rows = zip(labels.tolist(), predicted.tolist(), values, strict=True)
    lines.writerows([index, label, guess, *row] for index, (label, guess, row) in enumerate(rows))
    return text.getvalue().rstrip("\n")


def report(result: dict[str, Any]) -> str:
    """Return the figures as text."""
    by_step = ", ".join(
        f"{accuracy:.4f} after {counted(steps, 'step')}"
        for steps, accuracy in enumerate(result["accuracy_by_step"], 1)
    )
    return (
        f"test accuracy {result['test_accuracy']:.4f}, test loss {result['test_loss']:.4f} "
        f"on {counted(result['images'], 'image')} of {result['dataset']}\n"
        f"accuracy by time step: {by_step}\n"
        f"{result['parameters']} parameters; {result['parameters_removed']} of side branches "
        f"removed; after iteration {result['iteration']}\n\n{classes_table(result)}"
    )


def classes_table(result: dict[str, Any]) -> str:
    """Return the confusion matrix, or of many classes those with the lowest accuracy."""
    classes, matrix = result["classes"], np.array(result["confusion"])
    if len(classes) <= MOST:
        head = ["label", "images", "accuracy", *(str(row["class"]) for row in classes)]
        rows = [
            [str(row["class"]), str(row["images"]), share(row["accuracy"]), *map(str, counts)]
            for row, counts in zip(classes, matrix.tolist(), strict=True)
        ]
        return f"images of each label by predicted class\n{table(head, rows, ())}"
    some = sorted((row for row in classes if row["images"]), key=lambda row: row["accuracy"])
    rows = [
        [str(row["class"]), str(row["images"]), share(row["accuracy"]), taken_for(matrix, row)]
        for row in some[:WORST]
    ]
    head = ["label", "images", "accuracy", "mostly taken for"]
    title = f"the {len(rows)} of {len(classes)} classes with the lowest accuracy"
    return f"{title} (all of them: --json)\n{table(head, rows, head[3:])}"


def share(accuracy: float | None) -> str:
    """Return an accuracy as text, a dash where there are no images."""
    return "-" if accuracy is None else f"{accuracy:.4f}"


def taken_for(matrix: Any, row: dict[str, Any]) -> str:
    """Return the classes that are predicted most often for images of another one."""
    counts = matrix[row["class"]].copy()
    counts[row["class"]] = 0
    most = [index for index in np.argsort(-counts, kind="stable")[:3] if counts[index]]
    return ", ".join(f"{index} ({counts[index]})" for index in most)
