"""Commands whose every step of input and output is a moment to be killed at."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import good_files as good

TINY = [
    "--dataset",
    "data.npz",
    "--ops",
    "numpy",
    "--batch-size",
    "8",
    "--threads",
    "1",
]
TRAIN = ["train", "--out", "run", "--arch", "1-1:2-2", "--steps", "1", "--epochs", "2", *TINY]
ABLATION = [
    "refsnn",
    "ablation",
    "--out",
    "ablation",
    "--methods",
    "vanilla",
    "evolutionary",
    "--archs",
    "1-1:2-2",
    "--steps",
    "1",
    "--seeds",
    "1",
    "--epochs",
    "1",
    "--jobs",
    "2",
    *TINY,
]
FRAMES = ["frames", "data"]
SURROGATES = ["refsnn", "vectors", "generate", "vectors", "--level", "surrogate"]
NEURONS = ["refsnn", "vectors", "generate", "vectors", "--level", "block"]
SPEED = ("images", "seconds", "images_per_second")  # of a process


class Scenario(NamedTuple):
    command: list[str]
    prepare: Callable[[Path], object]
    again: Callable[[Path], list[str]] | None = None  # default: the same command
    before: list[str] | None = None  # run before, undisturbed


def data(folder: Path) -> None:
    (folder / "data.npz").write_bytes(good.dataset())


def recordings(folder: Path) -> None:
    for part in ("Train", "Test"):
        for digit in "01":
            place = folder / "data" / part / digit
            place.mkdir(parents=True)
            (place / "00001.bin").write_bytes(good.atis())


def damaged_cache(folder: Path) -> None:
    (contents,) = folder.glob("cache/nmnist-*/contents.json")
    contents.write_bytes(b"[")


def resumed(folder: Path) -> list[str]:
    """What a person would: there is nothing to resume before config.json is there."""
    return ["train", "--resume", "run"] if (folder / "run" / "config.json").exists() else TRAIN


SCENARIOS = {
    "training": Scenario(TRAIN, data, resumed),
    "ablation": Scenario(ABLATION, data),
    "cache": Scenario(FRAMES, recordings),
    "damaged cache": Scenario(FRAMES, damaged_cache, before=FRAMES),
    "vectors": Scenario(SURROGATES, lambda folder: None),
    "other vectors": Scenario(SURROGATES, lambda folder: None, before=NEURONS),
}


def made(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every file in the folder and its content; without times, which differ from run to run."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            yield name, "a folder"
        elif path.name == "metrics.jsonl":
            yield name, [without_speed(line) for line in path.read_text().splitlines()]
        elif path.name == "summary.json":
            yield name, without_speed(path.read_text())
        else:
            yield name, path.read_bytes()


def without_speed(text: str) -> Any:
    return {name: value for name, value in json.loads(text).items() if name not in SPEED}


def fresh(folder: Path, template: Path) -> Path:
    """A new folder like the template."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    return folder
