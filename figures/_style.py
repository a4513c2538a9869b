"""What the figures share: fonts, colours, line styles, and the command line of a figure."""

import argparse
import io
import json
import os
import sys
import warnings
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

os.environ.pop("MPLBACKEND", None)  # of windows, of which there are none; one amiss stops imports
import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from refsnn.files.documents import read_json
from refsnn.files.writing import write_atomic
from refsnn.ops import validate

WIDE, DPI = 7.0, 200  # a page's width in inches, and its pixels an inch

#: Okabe and Ito's colours, which the colour-blind can tell apart
BLACK, BLUE, VERMILION, GREEN, GREY = "#000000", "#0072B2", "#D55E00", "#009E73", "#999999"

#: a method is the same line in every figure, also without colour
METHOD_LINES: dict[str, dict[str, Any]] = {
    "vanilla": {"color": BLACK, "linestyle": "-", "marker": "o"},
    "shortcut": {"color": BLUE, "linestyle": "--", "marker": "s"},
    "evolutionary": {"color": VERMILION, "linestyle": "-.", "marker": "^"},
}

PRINT = {
    "font.size": 8,
    "figure.titlesize": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.handlelength": 2.8,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "refsnn",
}

#: decorates what draws: these settings hold within, and nowhere else
printed = matplotlib.rc_context(PRINT)


@printed
def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """NAME.png (256 colours, which make a third of the bytes) and NAME.svg, alike every time."""
    png, svg, pixels = io.BytesIO(), io.BytesIO(), io.BytesIO()
    figure.savefig(pixels, format="png", dpi=DPI)
    Image.open(pixels).convert("RGB").quantize(256).save(png, "png", optimize=True)
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    for path, content in zip(paths, (png, svg), strict=True):
        write_atomic(path, content.getvalue())
    return paths


def main(
    script: str,
    about: str,
    compute: Callable[..., dict[str, Any]],
    draw: Callable[[dict[str, Any]], Figure],
    argv: list[str] | None = None,
) -> int:
    """Compute, draw and save; the options are compute's parameters. Returns the exit code."""
    name = Path(script).stem
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=about)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(script).parent,
        metavar="DIR",
        help="folder of the pictures (default: the script's)",
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the data to a JSON file")
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="draw what --record wrote; compute nothing"
    )
    add_options(parser, compute)
    given = vars(parser.parse_args(argv))
    out, record, data = (given.pop(option) for option in ("out", "record", "data"))
    if data is not None and (given or record):
        parser.error("--data: draws what is recorded; leave the other options out")
    try:
        if data is None:
            figure = draw(measure(name, compute, given, record))
        else:
            figure = draw_recorded(data, name, draw)
        out.mkdir(parents=True, exist_ok=True)
        for path in save(figure, out, name):
            print(path)
    except (ValueError, TypeError, OSError) as error:
        print(f"{name}.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def measure(
    name: str, compute: Callable[..., dict[str, Any]], given: dict[str, Any], record: Path | None
) -> dict[str, Any]:
    """By way of JSON, so that what is recorded draws the same."""
    text = json.dumps({"figure": name} | compute(**given))
    if record is not None:
        write_atomic(record, text.encode())
    return json.loads(text)


def add_options(parser: argparse.ArgumentParser, compute: Callable[..., Any]) -> None:
    """An option for each parameter of compute, of its default's type; a tuple takes several."""
    for name, parameter in signature(compute).parameters.items():
        default = parameter.default
        several = isinstance(default, tuple)
        shown = " ".join(map(str, default)) if several else default
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            type=type(default[0] if several else default),
            nargs="+" if several else None,
            help="(none)" if shown == "" else f"(default: {shown})",
        )


def draw_recorded(path: Path, name: str, draw: Callable[[dict[str, Any]], Figure]) -> Figure:
    """The figure of what --record wrote."""
    content = read_json(path, {"type": "object"})
    of = content.get("figure")
    if of != name:
        raise ValueError(f"data: {path} is of figure {validate.shown(of)}, want {name!r}")
    try:
        with warnings.catch_warnings():  # of numbers that have no place in a figure
            for kind in (RuntimeWarning, UserWarning):
                warnings.simplefilter("error", kind)
            return draw(content)
    except KeyError as error:
        raise ValueError(f"data: {path}: {error} is missing") from None
    except Exception as error:  # what is drawn has no rules; Matplotlib raises whatever
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"data: {path}: not what --record wrote ({reason})") from None
