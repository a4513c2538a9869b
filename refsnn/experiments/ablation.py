"""Ablations: folders of runs that differ in method, architecture, T and seed.

The file `ablation.json` in it holds the other settings, which the first call determines. The folder
`runs` holds a run folder for each combination; later calls may add more.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from refsnn.experiments.presets import Grid
from refsnn.files.arrays import read_whole
from refsnn.files.documents import read_json, read_toml
from refsnn.files.schema import object_with
from refsnn.files.writing import write_json
from refsnn.network import architecture
from refsnn.ops import METHODS, validate
from refsnn.training.config import (
    TrainConfig,
    decided_by_recipes,
    from_dict,
    make_config,
    overlaid,
    recipe_of,
    renamed,
)
from refsnn.training.folder import CLASSES, SHARE, read_config, without_groups
from refsnn.training.recipes import PAPER

SETTINGS = object_with({"settings": {"type": "array", "items": {"type": "object"}}})
SUMMARY = object_with({"test_accuracy": SHARE}, {"test_class_accuracy": CLASSES})
FILE = {
    "type": "object",
    "properties": {"grid": {"type": "array", "items": {"type": "object"}}},
}
BIAS = "params/head.fc.bias"  # one number per class
AXES = ("method", "arch", "steps", "seed")
Settings = dict[str, Any]


class Planned(NamedTuple):
    folder: Path
    config: TrainConfig


class Result(NamedTuple):
    """The result of a run; a finished one has its `accuracy` (0 to 1) and number of `classes`."""

    config: TrainConfig
    state: str  # finished, diverged, missing, or damaged: finished, but its files can't be read
    accuracy: float | None = None
    classes: int | None = None
    reason: str = ""  # why it is damaged
    class_accuracy: tuple[float | None, ...] = ()  # empty for runs of older versions


def configs(grids: Iterable[Grid]) -> list[TrainConfig]:
    """Return the configurations of all combinations in the grids, each once."""
    made: dict[TrainConfig, None] = {}
    for grid in grids:
        for values in product(grid.methods, grid.archs, grid.steps, grid.seeds):
            made[from_dict(grid.settings | dict(zip(AXES, values, strict=True)))] = None
    return list(made)


def read_grids(path: Path, given: Settings) -> list[TrainConfig]:
    """Read the configurations of a .toml file, with the `given` settings over them, each once.

    A setting that is a list is crossed with the others; a table [[grid]] is a grid by itself, and
    settings before it belong to all grids. They may stand in tables of their groups' names, such as
    [neuron]. ValueError names the file and what is wrong.
    """
    content = read_toml(path, FILE)
    grids = content.pop("grid", [{}])
    made: dict[TrainConfig, None] = {}
    for number, grid in enumerate(grids):
        try:
            settings = renamed(without_groups(content) | without_groups(grid))
            settings = overlaid(settings, given)
            several = {name: x if isinstance(x, list) else [x] for name, x in settings.items()}
            for values in product(*several.values()):
                config = make_config("digits", **dict(zip(several, values, strict=True)))
                made[config] = None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: grid[{number}]: {error}") from None
    if not made:
        raise ValueError(f"{path}: got a grid without a combination, want at least one")
    return list(made)


def fixed(config: TrainConfig) -> Settings:
    """Return all settings except the axes."""
    return {name: value for name, value in config.to_dict().items() if name not in AXES}


def depth(arch: str) -> int:
    """Count the layers with weights from input to output: two per block, the stem and the head."""
    found = architecture(arch)
    return found.stem.convs + 2 * sum(found.depths) + 1 + (found.hidden > 0)


def varying(settings: Sequence[Settings]) -> list[str]:
    """Return the names of the settings that are not the same in all of them."""
    return [name for name in settings[0] if any(s[name] != settings[0][name] for s in settings)]


def order(config: TrainConfig, settings: Sequence[Settings]) -> tuple[Any, ...]:
    """Return the key that sorts the runs for the table."""
    return (
        settings.index(fixed(config)),
        depth(config.network.arch),
        config.network.arch,
        config.steps,
        METHODS.index(config.objective.method),
        config.seed,
    )


def recipe_names(settings: Sequence[Settings]) -> list[str] | None:
    """Return the recipe that makes each of the settings, PAPER for the paper's own network.

    None unless each is one of these, and some are recipes.
    """
    found = [recipe_of(values) for values in settings]
    if None in found or set(found) == {PAPER}:
        return None
    return [str(name) for name in found]


def folder_name(config: TrainConfig, settings: Sequence[Settings]) -> str:
    values, names = config.to_dict(), varying(settings)
    words = [str(values[name]) for name in names]
    if (made := recipe_names(settings)) is not None and len(settings) > 1:
        rest = [str(values[name]) for name in names if name not in decided_by_recipes()]
        words = [made[settings.index(fixed(config))], *rest]
    words += [values["arch"], f"T{config.steps}", values["method"], f"seed{config.seed}"]
    return re.sub(r"[^\w.-]+", "_", "-".join(words))


def settings_of(out: Path, wanted: Iterable[TrainConfig]) -> list[Settings]:
    """Return the fixed settings of the folder `out`, or those of `wanted` if `out` is new.

    ValueError where `wanted` has settings that `out` does not have.
    """
    asked: list[Settings] = []
    for config in wanted:
        if fixed(config) not in asked:
            asked.append(fixed(config))
    path = out / "ablation.json"
    if (out / "config.json").exists():
        raise ValueError(f"out: {out} is the folder of a run, want one for several runs")
    if not path.exists():
        return asked
    there = [fixed(config) for config in read_settings(path)]
    for settings in asked:
        if settings not in there:
            names, other = min(
                ((varying([settings, other]), other) for other in there), key=lambda x: len(x[0])
            )
            has = ", ".join(f"{name} {validate.named(other[name])}" for name in names)
            got = ", ".join(f"{name} {validate.named(settings[name])}" for name in names)
            raise ValueError(f"out: {out} is for {has}; got {got}, which needs another folder")
    return there


def read_settings(path: Path) -> list[TrainConfig]:
    """Read ablation.json; ValueError says what is wrong with it."""
    configs = []
    for number, values in enumerate(read_json(path, SETTINGS)["settings"]):
        try:
            configs.append(from_dict(values))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: settings[{number}]: {error}") from None
    if not configs:
        raise ValueError(f"{path}: settings: got none, want at least one")
    return configs


def plan(out: Path, wanted: Iterable[TrainConfig], settings: Sequence[Settings]) -> list[Planned]:
    """Return the wanted runs with their folders, in the table's order."""
    ordered = sorted(wanted, key=lambda config: order(config, settings))
    return [Planned(out / "runs" / folder_name(c, settings), c) for c in ordered]


def existing(out: Path, settings: Sequence[Settings]) -> tuple[list[TrainConfig], list[str]]:
    """Return the configurations of the runs in `out`, and a message per run that can't be read.

    ValueError where a run's settings differ from those that its folder's name says.
    """
    found, damaged = [], []
    for path in sorted(out.glob("runs/*/config.json")):
        try:
            config = read_config(path.parent)
        except (ValueError, OSError) as error:
            damaged.append(str(error))
            continue
        if fixed(config) not in settings or folder_name(config, settings) != path.parent.name:
            raise ValueError(
                f"{path}: got a run of other settings than its folder's name says, such as one "
                "that was made longer; move the folder elsewhere"
            )
        found.append(config)
    return found, damaged


def prepare(out: Path, settings: Sequence[Settings]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "ablation.json", {"settings": settings})


def result(run: Planned) -> Result:
    """Read the result of a run; damaged files raise nothing, so that other runs still count."""
    if (run.folder / "summary.json").exists():
        try:
            read_config(run.folder)
            summary = read_json(run.folder / "summary.json", SUMMARY)
            arrays = read_whole(run.folder / "checkpoint.npz", None, [BIAS])
            if BIAS not in arrays:
                raise ValueError(f"{run.folder / 'checkpoint.npz'}: {BIAS} is missing")
        except (ValueError, OSError) as error:
            return Result(run.config, "damaged", reason=str(error))
        return Result(
            run.config,
            "finished",
            summary["test_accuracy"],
            arrays[BIAS].size,
            class_accuracy=tuple(summary.get("test_class_accuracy", ())),
        )
    diverged = (run.folder / "diverged.json").exists()
    return Result(run.config, "diverged" if diverged else "missing")
