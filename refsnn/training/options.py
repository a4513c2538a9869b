"""Settings of a run as options of a command."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

from refsnn import spec
from refsnn.training.config import settings_fields


def add_settings(
    parser: Any, leave_out: tuple[str, ...] = (), of_preset: Collection[str] = ()
) -> None:
    """Add an option for every setting but those left out; a preset may change defaults."""
    groups: dict[str, Any] = {}
    for group, item in settings_fields():
        if item.name not in leave_out:
            if group not in groups:
                groups[group] = parser.add_argument_group(f"settings: {group}")
            add_option(groups[group], item, item.name in of_preset)


def add_option(parser: Any, item: Any, of_preset: bool) -> None:
    """Add the option of one setting; one that is on or off also has a --no- form."""
    unit, choices = item.metadata["unit"], item.metadata["choices"]
    shown = "by kind" if item.default is None else item.default
    shown = "the preset's" if of_preset else shown
    clauses = ", ".join(spec.clauses_of(item.name))
    text = item.metadata["help"] + (f", in {unit}" if unit else "")
    text += f" ({clauses})" if clauses else ""
    if shown != "":
        text += f" (default: {shown})"
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    if isinstance(item.default, bool):
        options["action"] = argparse.BooleanOptionalAction
    else:
        options["type"] = number_or_none if item.default is None else type(item.default)
        if choices:
            options["choices"] = choices
        else:
            metavars = {int: "N", float: "X", number_or_none: "X"}
            options["metavar"] = metavars.get(options["type"], "NAME")
    parser.add_argument("--" + item.name.replace("_", "-"), **options)


def number_or_none(text: str) -> float | None:
    """Return a number, or None for the word none."""
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, want a number or none") from None


PICTURES = (".png", ".svg", ".pdf")


def add_picture(parser: Any, text: str) -> None:
    """Add --picture, the file of a picture; `text` says what it shows."""
    help_text = f"{text} ({', '.join(PICTURES)})"
    parser.add_argument("--picture", type=picture_file, metavar="FILE", help=help_text)


def picture_file(text: str) -> Path:
    """Return the path of a picture; argparse's error where its suffix is of no known format."""
    if Path(text).suffix not in PICTURES:
        raise argparse.ArgumentTypeError(f"got {text}, want a name ending in {', '.join(PICTURES)}")
    return Path(text)


def add_recipe(parser: Any) -> None:
    parser.add_argument(
        "--recipe",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="a method of the literature, over the preset; options override it (refsnn methods "
        "lists them; paper is the paper's own)",
    )


def add_best(parser: Any) -> None:
    parser.add_argument(
        "--best",
        action="store_true",
        help="take the epoch with the best accuracy on the images left out by --validation "
        "(default: the last epoch)",
    )


def add_threads(parser: Any) -> None:
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of the kernels and of BLAS (default: as the environment says)",
    )


def add_workers(parser: Any) -> None:
    parser.add_argument(
        "--workers",
        type=number_of_workers,
        metavar="N",
        help="processes that make batches ahead (default: 1 where that is costly, else 0)",
    )


def number_of_workers(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, want a whole number, 0 for none")
    return int(text)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings given on the command line, by name."""
    names = ["recipe", *(item.name for _, item in settings_fields())]
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    for name in ("dataset", "data_dir"):  # the run may be used elsewhere
        if given.get(name, "") and (name == "data_dir" or given[name].endswith(".npz")):
            given[name] = str(Path(given[name]).resolve())
    return given
