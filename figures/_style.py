"""The figures' fonts, colours and line styles, and the command line of a figure."""

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

os.environ.pop("MPLBACKEND", None)  # figures open no window, and an unknown backend stops imports
import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from refsnn.files.documents import read_json
from refsnn.files.writing import write_atomic
from refsnn.ops import validate

WIDE, DPI = 7.0, 200  # width of a page in inches; pixels per inch

#: Okabe and Ito's colours for the colour-blind
BLACK, BLUE, VERMILION, GREEN, GREY = "#000000", "#0072B2", "#D55E00", "#009E73", "#999999"

#: a method has the same line in every figure, also without colour
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

#: decorates functions that draw, so that these settings hold only there
printed = matplotlib.rc_context(PRINT)


@printed
def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.png (in 256 colours, for a third of the bytes) and NAME.svg, and return the paths.

    The same figure gives the same bytes every time.
    """
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
    """Run a figure's command line: compute, draw and save. Return the exit code.

    The parameters of `compute` become options.
    """
    name = Path(script).stem
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=about)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(script).parent,
        metavar="DIR",
        help="folder for the pictures (default: the script's)",
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="also write the figure's data to a JSON file"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="draw data that --record wrote; compute nothing"
    )
    add_options(parser, compute)
    given = vars(parser.parse_args(argv))
    out, record, data = (given.pop(option) for option in ("out", "record", "data"))
    if data is not None and (given or record):
        parser.error("--data: draws recorded data; leave out the other options")
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
    """Compute the data, write it to `record` if given, and return it as read back from JSON.

    So recorded data give the same figure.
    """
    text = json.dumps({"figure": name} | compute(**given))
    if record is not None:
        write_atomic(record, text.encode())
    return json.loads(text)


def add_options(parser: argparse.ArgumentParser, compute: Callable[..., Any]) -> None:
    """Add an option per parameter of `compute`, of its default's type; a tuple takes several."""
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
    """Draw the data that --record wrote."""
    content = read_json(path, {"type": "object"})
    recorded = content.get("figure")
    if recorded != name:
        raise ValueError(f"data: {path} is of figure {validate.shown(recorded)}, want {name!r}")
    try:
        with warnings.catch_warnings():  # about numbers that can't be drawn
            for category in (RuntimeWarning, UserWarning):
                warnings.simplefilter("error", category)
            return draw(content)
    except KeyError as error:
        raise ValueError(f"data: {path}: {error} is missing") from None
    except Exception as error:  # the data are not checked, and Matplotlib raises anything
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"data: {path}: not what --record wrote ({reason})") from None
