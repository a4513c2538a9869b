"""The table of an ablation, as JSON, as text and as a plot.

`tabulate` makes the object that table.json holds, from which the text and the plot are made. It has
`settings`, which all runs share, and `rows`, one for each architecture and T. A row has

- `arch`, `depth`, `steps`, `settings` (the other settings in which rows differ), `chance`;
- `methods`: for each method `n`, `mean`, `std` (ddof 1), `accuracy` by seed, `class_accuracy` of
  each class by seed (null for a class without images), and the seeds whose runs `diverged`, are
  `missing` or can't be read (`damaged`), which no mean includes;
- `differences`: for each pair of methods `n`, `mean` and 95 % interval (`low`, `high`), paired by
  seed.

Accuracies are fractions of the test split, with the main branch alone, after the last epoch.
"""

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refsnn.experiments.ablation import (
    Result,
    depth,
    fixed,
    recipe_names,
    varying,
)
from refsnn.experiments.statistics import paired_difference, spread
from refsnn.files.documents import read_json
from refsnn.files.schema import Rules, object_with
from refsnn.files.writing import optional, write_atomic, write_json
from refsnn.ops import METHODS, SURROGATES
from refsnn.output import printable
from refsnn.training.config import TrainConfig, decided_by_recipes, from_dict, make_config

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = dict[str, Any]
PAIRS = (("shortcut", "vanilla"), ("evolutionary", "vanilla"), ("evolutionary", "shortcut"))
MOST_CLASSES = 20  # that a page has room for
LEFT_OUT = ("diverged", "missing", "damaged")  # states of runs that no mean includes
DIFFERENCES = [f"{first} - {second}" for first, second in PAIRS]


def some_of(names: Sequence[str], rules: Rules) -> Rules:
    """Return the rules of an object with some of these fields, each with the same rules."""
    return {
        "type": "object",
        "properties": dict.fromkeys(names, rules),
        "additionalProperties": False,
    }


NUMBER_OR_NONE = {"type": ["number", "null"]}
SEEDS = {"type": "array", "items": {"type": "integer"}}
CELL = object_with(
    {
        "n": {"type": "integer"},
        "mean": NUMBER_OR_NONE,
        "std": NUMBER_OR_NONE | {"minimum": 0},
        "accuracy": {"type": "object", "additionalProperties": {"type": "number"}},
        "diverged": SEEDS,
        "missing": SEEDS,
    },
    {
        "damaged": SEEDS,
        "class_accuracy": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": NUMBER_OR_NONE},
        },
    },
)
DIFFERENCE = object_with(
    {"n": {"type": "integer"}} | dict.fromkeys(("mean", "low", "high"), NUMBER_OR_NONE)
)
#: what table.json holds
TABLE = object_with(
    {
        "settings": {"type": "object"},
        "rows": {
            "type": "array",
            "items": object_with(
                {
                    "arch": {"type": "string"},
                    "depth": {"type": "integer"},
                    "steps": {"type": "integer"},
                    "settings": {"type": "object"},
                    "chance": NUMBER_OR_NONE,
                    "methods": some_of(METHODS, CELL),
                    "differences": some_of(DIFFERENCES, DIFFERENCE),
                }
            ),
        },
    }
)


def read_table(path: Path) -> Table:
    """Read a table.json; ValueError says what is wrong with it."""
    found: Table = read_json(path, TABLE)
    try:
        check_rows(found["rows"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return found


def recorded_results(path: Path) -> dict[TrainConfig, Result]:
    """Return the results of the finished and diverged runs that a table.json records.

    ValueError says what is wrong with the file, or with its settings.
    """
    found: Table = read_table(path)
    results = {}
    for number, row in enumerate(found["rows"]):
        shared = found["settings"] | row["settings"] | {"arch": row["arch"], "steps": row["steps"]}
        classes = round(1 / row["chance"]) if row["chance"] else None
        for method, values in row["methods"].items():
            for seed, accuracy in (values["accuracy"] | dict.fromkeys(values["diverged"])).items():
                try:
                    config = from_dict(shared | {"method": method, "seed": int(seed)})
                except (ValueError, TypeError) as error:
                    raise ValueError(f"{path}: rows[{number}]: {error}") from None
                state = "diverged" if accuracy is None else "finished"
                of_classes = tuple(values.get("class_accuracy", {}).get(seed, ()))
                results[config] = Result(
                    config, state, accuracy, classes, class_accuracy=of_classes
                )
    return results


def check_rows(rows: Sequence[Table]) -> None:
    """Check that there are rows, and that each interval contains its mean; ValueError if not."""
    if not rows:
        raise ValueError("rows: got none, want at least one")
    for number, row in enumerate(rows):
        for name, difference in row["differences"].items():
            low, mean, high = (difference[key] for key in ("low", "mean", "high"))
            if None not in (low, mean, high) and not low <= mean <= high:
                raise ValueError(
                    f"rows[{number}].differences.{name}: got an interval from {low} to {high} "
                    f"around {mean}"
                )


def tabulate(results: Sequence[Result]) -> Table:
    """Make the table of results, which are in the table's order."""
    settings = [fixed(result.config) for result in results]
    names = varying(settings)
    rows = groupby(results, lambda r: (fixed(r.config), r.config.network.arch, r.config.steps))
    return {
        "settings": {name: value for name, value in settings[0].items() if name not in names},
        "rows": [row(list(members), names) for _, members in rows],
    }


def row(results: Sequence[Result], names: Sequence[str]) -> Table:
    config = results[0].config
    classes = [result.classes for result in results if result.classes is not None]
    methods = {}
    for method in METHODS:
        if members := [result for result in results if result.config.objective.method == method]:
            methods[method] = cell(members)
    return {
        "arch": config.network.arch,
        "depth": depth(config.network.arch),
        "steps": config.steps,
        "settings": {name: config.to_dict()[name] for name in names},
        "chance": 1 / classes[0] if classes else None,
        "methods": methods,
        "differences": {
            f"{first} - {second}": paired_difference(
                methods[first]["accuracy"], methods[second]["accuracy"]
            )._asdict()
            for first, second in PAIRS
            if first in methods and second in methods
        },
    }


def cell(results: Sequence[Result]) -> Table:
    def seeds(state: str) -> list[int]:
        return [result.config.seed for result in results if result.state == state]

    finished = [result for result in results if result.state == "finished"]
    accuracy = {str(r.config.seed): r.accuracy for r in finished if r.accuracy is not None}
    found = spread(list(accuracy.values()))._asdict() | {
        "accuracy": accuracy,
        "diverged": seeds("diverged"),
        "missing": seeds("missing"),
        "damaged": seeds("damaged"),
    }
    of_classes = {str(r.config.seed): list(r.class_accuracy) for r in finished if r.class_accuracy}
    return found | ({"class_accuracy": of_classes} if of_classes else {})


#: a surrogate's name -> the symbol of its shape (Eq. 4, R5), if that is not alpha
SYMBOLS = {"tanh": "k", "rectangular": "a", "triangular": "γ", "tanh_literal": "k"}
SYMBOLS |= {"gaussian": "σ", "dspike": "b", "rectifier": "width"}


def worded(row: Table, common: Table) -> dict[str, str]:
    """Return a row's settings as people write them: the surrogate is `tanh, k = 0.5`.

    `common` are the settings that all rows share.
    """
    settings = row["settings"]
    found = {name: str(x) for name, x in settings.items() if name != "surrogate_shape"}
    if {"surrogate", "surrogate_shape"} & settings.keys():
        both = common | settings
        name, shape = both.get("surrogate"), both.get("surrogate_shape")
        symbol = SYMBOLS.get(str(name), "α" if name in SURROGATES else "shape")
        found["surrogate"] = f"{name}" if shape is None else f"{name}, {symbol} = {shape:g}"
    return found


def described(table: Table) -> list[dict[str, str]]:
    """Return each row's settings in words; instead of what a recipe decides, its name."""
    rows, common = table["rows"], table["settings"]
    words = [worded(row, common) for row in rows]
    made = recipe_names([common | row["settings"] for row in rows])
    if made is None or not rows[0]["settings"]:
        return words
    decided = decided_by_recipes()
    return [
        {"recipe": name} | {key: x for key, x in found.items() if key not in decided}
        for name, found in zip(made, words, strict=True)
    ]


def percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.2f}"


def accuracy_text(values: Table) -> str:
    notes = [f"n = {values['n']}"]
    notes += [f"{len(values[k])} {k}" for k in LEFT_OUT if values.get(k)]
    std = "" if values["std"] is None else f" ± {percent(values['std'])}"
    return f"{percent(values['mean'])}{std} ({', '.join(notes)})"


def difference_text(values: Table) -> str:
    shown = f"{percent(values['mean'], '+')} (n = {values['n']})"
    if values["low"] is None:
        return shown
    return f"{shown} [{percent(values['low'], '+')}, {percent(values['high'], '+')}]"


def to_markdown(table: Table) -> str:
    """Format accuracies and differences as Markdown whose columns are aligned on a terminal too."""
    rows, settings, defaults = table["rows"], table["settings"], make_config().to_dict()
    differ = [name for name, value in settings.items() if value != defaults.get(name)]
    named = [name for name in dict.fromkeys(["dataset", "epochs", *differ]) if name in settings]
    several = has_several(rows, "methods", "std")
    of_what = "mean ± standard deviation of n seeds" if several else "of one seed"
    parts = [
        f"Test accuracy in %, main branch alone, after the last epoch: {of_what}.\nRuns that "
        "diverged, are missing or damaged are counted, but are in no mean.",
        grid(table, "methods", METHODS, accuracy_text, chance=True),
        f"Settings of all runs: {', '.join(f'{name} {settings[name]}' for name in named)}.",
    ]
    if any(row["differences"] for row in rows):
        interval = (
            ", with their 95 % confidence interval\n(Student's t, not corrected for several "
            "comparisons)"
        )
        parts[2:2] = [
            "Differences in percentage points, paired by seed"
            f"{interval * has_several(rows, 'differences', 'low')}:",
            grid(table, "differences", DIFFERENCES, difference_text),
        ]
    return "\n\n".join(parts) + "\n"


def has_several(rows: Sequence[Table], part: str, measure: str) -> bool:
    """Tell whether any cell has what only several seeds give."""
    return any(values[measure] is not None for row in rows for values in row[part].values())


def grid(
    table: Table,
    part: str,
    columns: Sequence[str],
    text: Callable[[Table], str],
    chance: bool = False,
) -> str:
    """Format one part of the rows as a Markdown table, without columns that no row has."""
    rows = table["rows"]
    columns = [name for name in columns if any(name in row[part] for row in rows)]
    words = described(table)
    head = [*words[0], "architecture", "layers", "T", *columns]
    lines = [head + ["chance"] * chance]
    for row, of_row in zip(rows, words, strict=True):
        line = list(of_row.values())
        line += [row["arch"], str(row["depth"]), str(row["steps"])]
        line += [text(row[part][name]) if name in row[part] else "" for name in columns]
        lines.append(line + [percent(row["chance"])] * chance)
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Format a head and rows as a Markdown table."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head, *rows = lines
    return "\n".join(
        f"| {' | '.join(c.ljust(w) for c, w in zip(line, widths, strict=True))} |"
        for line in (head, ["-" * width for width in widths], *rows)
    )


def class_accuracies(row: Table) -> dict[str, list[float | None]]:
    """Return the mean accuracy of each class by method, where all runs have it.

    Empty where there are more classes than a page has room for.
    """
    found = {}
    for method, values in row["methods"].items():
        by_seed = values.get("class_accuracy", {})
        if by_seed and by_seed.keys() == values["accuracy"].keys():
            classes = list(zip(*by_seed.values(), strict=True))
            if len(classes) <= MOST_CLASSES:
                found[method] = [None if None in x else float(np.mean(x)) for x in classes]
    return found


def classes_to_markdown(table: Table) -> str:
    """Format the accuracies by class as Markdown; empty if no row has them."""
    lines, described_rows = [], described(table)
    for row, of_row in zip(table["rows"], described_rows, strict=True):
        words = [*of_row.values(), row["arch"], str(row["depth"])]
        for method, values in class_accuracies(row).items():
            shown = ["–" if x is None else f"{100 * x:.1f}" for x in values]
            lines.append([*words, str(row["steps"]), method, *shown])
    if not lines:
        return ""
    names = [*described_rows[0], "architecture", "layers", "T", "method"]
    columns = max(map(len, lines))
    head = [*names, *map(str, range(columns - len(names)))]
    lines = [head, *(line + [""] * (columns - len(line)) for line in lines)]
    return f"Test accuracy of each class in %, mean over the seeds:\n\n{aligned(lines)}\n"


#: colours for the colour-blind (Okabe and Ito), and markers that differ without colour
STYLES = {
    "vanilla": ("#000000", "o"),
    "shortcut": ("#0072B2", "s"),
    "evolutionary": ("#D55E00", "^"),
    "shortcut - vanilla": ("#0072B2", "s"),
    "evolutionary - vanilla": ("#D55E00", "^"),
    "evolutionary - shortcut": ("#009E73", "D"),
}


WIDE = 44  # letters in a line of a row's name
FAR = 0.6  # where all accuracies are above, the picture leaves chance out, to show differences


def draw(table: Table) -> "Figure":
    """Draw accuracies at the left and differences at the right, one line of marks per row."""
    from matplotlib.figure import Figure

    rows = table["rows"]
    check_rows(rows)
    methods = {name for row in rows for name in row["methods"]}
    names, shared = line_labels(table)
    names = [textwrap.fill(name, WIDE) for name in names]
    lines = max((name.count("\n") + 1 for name in names), default=1)
    height = 1.8 + len(rows) * (0.1 + max(0.12 * len(methods), 0.17 * lines))
    figure = Figure(figsize=(10, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    draw_methods(left, rows)
    draw_differences(right, rows)
    for axes, across in ((left, 3), (right, 1)):
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="y", length=0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=across, frameon=False)
        for border in range(1, len(rows)):
            axes.axhline(border - 0.5, color="0.8", linewidth=0.8)
    left.set_ylim(len(rows) - 0.5, -0.5)
    figure.suptitle(textwrap.fill(shared, 3 * WIDE), fontsize="medium")
    left.set_yticks(range(len(rows)), names)
    return figure


def line_labels(table: Table) -> tuple[list[str], str]:
    """Return the words beside each row's marks, and those that all rows share, for the title."""
    parts = [
        [*words, row["arch"], f"{row['depth']} layers", f"T = {row['steps']}"]
        for row, words in zip(table["rows"], in_words(table), strict=True)
    ]
    shared = set(parts[0]).intersection(*parts[1:]) if len(parts) > 1 else set()
    names = [", ".join(part for part in row if part not in shared) for row in parts]
    return [*map(printable, names)], printable(", ".join(p for p in parts[0] if p in shared))


def labels(table: Table) -> list[str]:
    """Return the words above each row's panel."""
    return [
        printable("\n".join([f"{row['depth']} layers, T = {row['steps']}", *words, row["arch"]]))
        for row, words in zip(table["rows"], in_words(table), strict=True)
    ]


def in_words(table: Table) -> list[list[str]]:
    """Return each row's settings as words with their names; surrogates and recipes without."""
    plain = ("surrogate", "recipe")
    return [
        [value if name in plain else f"{name} {value}" for name, value in words.items()]
        for words in described(table)
    ]


def marks(
    rows: Sequence[Table], part: str, names: Sequence[str]
) -> Iterator[tuple[str, list[float], list[Table]]]:
    """Yield each name with its marks' positions, one above the other, and their cells."""
    for name in names:
        offset = offset_of(name, names)
        found = [(i + offset, row[part][name]) for i, row in enumerate(rows) if name in row[part]]
        found = [(y, values) for y, values in found if values["mean"] is not None]
        if found:
            yield name, [y for y, _ in found], [values for _, values in found]


def offset_of(name: str, names: Sequence[str]) -> float:
    """Return how far from the middle of its row a name's mark stands."""
    return (names.index(name) - (len(names) - 1) / 2) * 0.6 / len(names)


def draw_methods(axes: "Axes", rows: Sequence[Table]) -> None:
    for name, y, cells in marks(rows, "methods", METHODS):
        (color, marker), means = STYLES[name], [100 * cell["mean"] for cell in cells]
        bars = [math.nan if cell["std"] is None else 100 * cell["std"] for cell in cells]
        axes.errorbar(
            means, y, xerr=bars, color=color, marker=marker, linestyle="", capsize=3, label=name
        )
        for position, cell in zip(y, cells, strict=True):
            if cell["n"] > 1:
                seeds = [100 * value for value in cell["accuracy"].values()]
                axes.plot(seeds, [position + 0.1] * len(seeds), "|", color=color, alpha=0.6)
    for index, row in enumerate(rows):
        for name, cell in row["methods"].items():
            if cell["diverged"] and not cell["n"]:
                place = 0.01, index + offset_of(name, METHODS)
                across = axes.get_yaxis_transform()  # x from 0 to 1
                style: dict[str, Any] = {"fontsize": "x-small", "verticalalignment": "center"}
                axes.text(*place, "diverged", transform=across, color=STYLES[name][0], **style)
    marked = "mean ± std, seeds" if has_several(rows, "methods", "std") else "one seed"
    cells = [cell for row in rows for cell in row["methods"].values()]
    lowest = min((x for cell in cells for x in cell["accuracy"].values()), default=0.0)
    if lowest < FAR:
        for index, row in enumerate(rows):
            if (chance := row["chance"]) is not None:
                axes.vlines(100 * chance, index - 0.5, index + 0.5, color="0.4", linestyle=":")
        marked += ", chance (dotted)"
    axes.set(xlabel=f"test accuracy, %\n{marked}")


def draw_differences(axes: "Axes", rows: Sequence[Table]) -> None:
    for name, y, cells in marks(rows, "differences", DIFFERENCES):
        (color, marker), means = STYLES[name], [100 * cell["mean"] for cell in cells]
        bars = [
            math.nan if cell["low"] is None else 100 * (cell["mean"] - cell["low"])
            for cell in cells
        ]
        axes.errorbar(
            means, y, xerr=bars, color=color, marker=marker, linestyle="", capsize=3, label=name
        )
    axes.axvline(0, color="0.4", linewidth=0.8)
    interval = "\n95 % confidence interval" * has_several(rows, "differences", "low")
    axes.set(xlabel=f"difference, points{interval}")


def write(out: Path, table: Table) -> list[str]:
    """Write table.json, table.md and, if they can be drawn, ablation.png and ablation.svg.

    Returns the files' names. The same table gives the same bytes.
    """
    write_json(out / "table.json", table)
    text = "\n".join(filter(None, (to_markdown(table), classes_to_markdown(table))))
    write_atomic(out / "table.md", printable(text).encode())
    names = ["table.json", "table.md"]
    with optional(out / "ablation.png"):
        for name, picture in pictures(table).items():
            write_atomic(out / name, picture)
            names.append(name)
    return names


def pictures(table: Table) -> dict[str, bytes]:
    """Draw the table; return the files' contents by name."""
    import matplotlib

    found = {}
    with matplotlib.rc_context({"svg.hashsalt": "refsnn"}):
        figure = draw(table)
        for suffix, unwanted in (("png", "Software"), ("svg", "Date")):
            image = io.BytesIO()
            figure.savefig(image, format=suffix, dpi=150, metadata={unwanted: None})
            found[f"ablation.{suffix}"] = image.getvalue()
    return found
