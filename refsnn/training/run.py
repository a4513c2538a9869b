"""Runs: trainings with a folder, from which they are resumed to the same bits."""

import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.data import Dataset, Loader, load
from refsnn.files.writing import append_line, optional, write_atomic, write_json
from refsnn.training import checkpoint
from refsnn.training.callbacks import Callback
from refsnn.training.checkpoint import CheckpointError, State
from refsnn.training.config import TrainConfig, recipe_of
from refsnn.training.folder import (
    BEST,
    LAST,
    check_place,
    load_state,
    read_config,
    read_metrics,
)
from refsnn.training.lock import lock, unlock
from refsnn.training.teacher import Teacher
from refsnn.training.trainer import Trainer, never
from refsnn.training.validation import Row, best_row, is_out_of_patience


def fingerprint(dataset: Dataset, teacher: Teacher | None = None) -> str:
    """Compute a digest of all images and labels, so that a run isn't resumed on other data.

    A teacher counts too.
    """
    arrays = {
        f"{part} {name}": value
        for part, split in (("train", dataset.train), ("test", dataset.test))
        for name, value in split.identity().items()
    }
    if teacher is not None:
        arrays |= {f"teacher {name}": value for name, value in teacher.identity.items()}
    return checkpoint.digest(arrays).hex()


def require_unused(folder: Path) -> None:
    """Check that the folder holds no file of a run; ValueError names one."""
    for name in ("config.json", LAST, BEST, "metrics.jsonl", "summary.json", "curves.png"):
        if (folder / name).exists():
            raise ValueError(
                f"out: {folder} holds a {name} already; resume that run or choose another folder"
            )


def start(folder: Path, config: TrainConfig) -> "Run":
    """Make a run in a new folder; ValueError where the folder holds a run already."""
    require_unused(folder)
    run = Run(folder, config)  # all that can be wrong with the settings and data shows here
    folder.mkdir(parents=True, exist_ok=True)
    run.unlock = weakref.finalize(run, unlock, folder, lock(folder))
    require_unused(folder)  # since another process may have been faster
    write_json(folder / "config.json", config.to_dict())
    return run


def resume(folder: Path, given: Mapping[str, Any] | None = None) -> "Run":
    """Open the run of a folder at its checkpoint; Locked while another process has it.

    `given` are settings by name, of which the epochs alone may differ from the run's. With more of
    them than it was meant to have, the learning rate and the side branches' weight go on as in a
    run of so many epochs, from where it stands. ValueError where another setting differs, where the
    epochs are fewer, or where the run has ended early.
    """
    config, file = read_config(folder), lock(folder)
    try:
        given = given or {}
        for name, value in given.items():
            has = config.to_dict()[name]
            if name != "epochs" and value != has:
                raise ValueError(f"{name}: got {value!r}, but the run to resume has {has!r}")
        epochs = given.get("epochs", config.epochs)
        longer = config.changed(epochs=epochs)
        if longer.epochs < config.epochs:
            raise ValueError(
                f"epochs: got {epochs}, but the run to resume has {config.epochs}; want as many or "
                "more"
            )
        run = Run(folder, longer)
        if longer.epochs > config.epochs:
            run.require_patience()
            (folder / "summary.json").unlink(missing_ok=True)  # with it, the run counts as finished
            write_json(folder / "config.json", longer.to_dict())
    except BaseException:
        unlock(folder, file)
        raise
    run.unlock = weakref.finalize(run, unlock, folder, file)
    return run


def longer_after(rows: Sequence[Row]) -> list[int]:
    """Return the epochs after which the run was made longer than it was meant to be."""
    known = [row for row in rows if "epochs" in row]  # rows of older versions do not say it
    return [a["epoch"] for a, b in pairwise(known) if a["epochs"] != b["epochs"]]


class Run(Trainer):
    """A training with a folder: its configuration, records and checkpoint."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder = folder
        self.unlock: Callable[[], object] = lambda: None
        self.begun = (folder / LAST).exists()
        self.make_dataset = partial(load, config.data.dataset, config.data_options(self.begun))
        super().__init__(config, self.make_dataset())
        try:
            check_place(self.state, self.net, self.division.training, self.batches, config)
        except ValueError as error:
            raise CheckpointError(f"{folder / LAST}: {error}") from None

    def first_state(self) -> State:
        """Read the checkpoint, or where the run has not begun, draw the initial state."""
        data, dataset = fingerprint(self.dataset, self.teacher), self.dataset
        mean, std = (np.asarray(x, np.float64) for x in (dataset.mean, dataset.std))
        if self.begun:
            state = load_state(self.folder, self.config, self.net)
            if state.data != data:
                teacher = " or its teacher not the one" if self.teacher is not None else ""
                raise CheckpointError(
                    f"{self.folder}: {self.config.data.dataset} is not the data{teacher} that it "
                    "began with"
                )
            state.mean, state.std = mean, std  # version 0.1 did not keep them
            return state
        if (self.folder / "metrics.jsonl").exists():
            raise CheckpointError(
                f"{self.folder}: the run has begun, but its checkpoint.npz is missing"
            )
        state = super().first_state()
        state.data, state.mean, state.std = data, mean, std
        return state

    def save(self, name: str = LAST) -> None:
        """Write a checkpoint."""
        checkpoint.save(self.folder / name, self.state, self.config.to_dict())

    def require_best(self, best: Row) -> None:
        """Raise CheckpointError if best.npz is not of the best epoch.

        That can be where a run was killed between both, and then made longer.
        """
        state, _ = checkpoint.load(self.folder / BEST)
        if state.iteration != best["iteration"]:
            raise CheckpointError(
                f"{self.folder / BEST}: is of iteration {state.iteration}, but the best epoch is "
                f"{best['epoch']}, of iteration {best['iteration']}"
            )

    def require_patience(self) -> None:
        """Raise ValueError if the run has ended early."""
        rows, patience = read_metrics(self.folder), self.config.patience
        if is_out_of_patience(rows, patience):
            raise ValueError(
                f"epochs: the best epoch is {patience} epochs ago (patience), so the run ended in "
                f"epoch {rows[-1]['epoch']} and does not go on"
            )

    def train(
        self,
        stop: Callable[[], bool] = never,
        quiet: bool = False,
        workers: int | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Train to the end, or until `stop` says so, which raises Interrupted.

        Either way other processes may use the folder afterwards. `workers` processes make the
        batches (see `Loader`). The callbacks get each epoch's row of metrics after it is saved.
        """
        try:
            self.write_epochs(stop, quiet, workers, callbacks)
        finally:
            self.unlock()

    def write_epochs(
        self,
        stop: Callable[[], bool],
        quiet: bool,
        workers: int | None,
        callbacks: Sequence[Callback],
    ) -> None:
        """Train, and after each epoch write its row of metrics, then the checkpoint.

        Where the epoch is the best one so far, best.npz is written before the row and the
        checkpoint.
        """
        if self.state.iteration == 0:
            self.save()
        done_epochs = self.state.iteration // self.batches
        rows = read_metrics(self.folder)[:done_epochs]
        if len(rows) < done_epochs:
            raise ValueError(
                f"{self.folder / 'metrics.jsonl'}: got rows of {len(rows)} epochs, want "
                f"{done_epochs}, which the checkpoint has finished"
            )
        self.rows, metrics = rows, self.folder / "metrics.jsonl"
        write_atomic(metrics, "".join(json.dumps(r) + "\n" for r in rows).encode())
        with (
            self.progress_bar(quiet) as bar,
            Loader(self.dataset, self.make_dataset, workers) as loader,
        ):
            for row in self.train_epochs(loader, bar, stop, self.save):
                if best_row(self.rows) is row:
                    self.save(BEST)
                append_line(metrics, json.dumps(row))
                self.save()
                for callback in callbacks:
                    callback(deepcopy(row))

    def summarize(self) -> dict[str, Any]:
        """Write curves.png of a finished run, if that can be drawn, then summary.json.

        A run with a summary counts as finished.
        """
        config, rows = self.config, read_metrics(self.folder)
        if not rows:
            raise ValueError(f"{self.folder}: metrics.jsonl is missing or empty")
        summary = {
            "test_accuracy": rows[-1]["test_accuracy"],
            "method": config.objective.method,
            "recipe": recipe_of(config.to_dict()),
            "arch": config.network.arch,
            "time_steps": config.steps,
            "seed": config.seed,
            "images_per_second": sum(r["images"] for r in rows) / sum(r["seconds"] for r in rows),
            "lambda_last": rows[-1]["lambda"],
            "epochs": rows[-1]["epoch"],
            "test_loss": rows[-1]["test_loss"],
            "parameters": self.net.count_parameters(),
            "skipped": self.dataset.skipped,
        }
        if "test_class_accuracy" in rows[-1]:  # rows of older versions lack it
            summary["test_class_accuracy"] = rows[-1]["test_class_accuracy"]
        if best := best_row(rows):
            self.require_best(best)
            summary |= {
                "stopped_early": rows[-1]["epoch"] < config.epochs,
                "best_epoch": best["epoch"],
                "best_validation_accuracy": best["validation_accuracy"],
                "best_test_accuracy": best["test_accuracy"],
            }
        if longer := longer_after(rows):
            summary["longer_after"] = longer
        curves = self.folder / "curves.png"
        with optional(curves):
            from refsnn.training.plot import draw_curves

            write_atomic(curves, draw_curves(rows, config))
        write_json(self.folder / "summary.json", summary)
        self.unlock()
        return summary
