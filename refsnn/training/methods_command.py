"""The command `refsnn methods`: list the methods that `--recipe` knows."""

import argparse
import json
import textwrap
from typing import Any

from refsnn import spec
from refsnn.ops import validate
from refsnn.output import print_json
from refsnn.training.recipes import Recipe, recipes

WIDTH = 88
RUNS = (
    "accuracy in % of resnet8, T = 4, 20 epochs, five seeds"  # of the ablation's preset `methods`
)


def add_options(parser: Any) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="say all about this method")
    parser.add_argument("--json", action="store_true", help="print an object for each method")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the methods, or one of them."""
    known = recipes()
    if arguments.name is not None:
        if arguments.name not in known:
            hint = validate.nearest(arguments.name, known)
            raise ValueError(f"method: got {validate.shown(arguments.name)}{hint}")
        known = {arguments.name: known[arguments.name]}
    if arguments.json:
        print_json(json.dumps([recipe._asdict() for recipe in known.values()], indent=2))
    else:
        text = short if arguments.name is None else whole
        print("\n".join(text(recipe) for recipe in known.values()))
    return 0


def short(recipe: Recipe) -> str:
    """Describe a method in a few words: its source, what it changes, and what it needs."""
    text = f"{recipe.source}: {recipe.changes}"
    if recipe.needs:
        text += f" [needs --{recipe.needs}]"
    if recipe.differs:
        text += " [with a difference]"
    return filled(
        recipe.name, f"{text}. {' '.join(recipe.clauses)}. Digits in %: {accuracies(recipe)}"
    )


def whole(recipe: Recipe) -> str:
    """Describe a method: its settings, its clauses, and where it differs from its authors'."""
    options = " ".join(option(name, value) for name, value in recipe.settings.items())
    clauses = "; ".join(f"{name}: {spec.clause(name).title}" for name in recipe.clauses)
    parts = {
        "source": recipe.source,
        "changes": recipe.changes,
        "settings": options,
        "clauses": clauses,
        "code": ", ".join(dict.fromkeys(spec.clause(name).code for name in recipe.clauses)),
        "checked": f"by {', '.join(recipe.checked)}",
        "digits": f"{accuracies(recipe)} ({RUNS})",
        "differs": recipe.differs,
        "needs": recipe.needs and f"--{recipe.needs}",
        "published": recipe.published,
    }
    return "\n".join([recipe.name, *(filled(name, text) for name, text in parts.items() if text)])


def accuracies(recipe: Recipe) -> str:
    """Return the recorded accuracies with their standard deviations."""
    return ", ".join(
        f"{method} {mean:.1f} ± {deviation:.1f}"
        for method, (mean, deviation) in recipe.digits.items()
    )


def filled(name: str, text: str) -> str:
    """Return a name and a text beside it, in lines of WIDTH."""
    indent = max(map(len, recipes())) + 2
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"{name:{indent}}",
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def option(name: str, value: Any) -> str:
    """Return a setting as an option of `refsnn train`."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{dashed}" if value else f"--no-{dashed}"
    return f"--{dashed} {value}"
