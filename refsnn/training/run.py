"""Runs: trainings with a folder, from which they are resumed to the same bits."""

import json
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.data import Dataset, Loader, load
from refsnn.files.writing import append_line, optional, write_atomic, write_json
from refsnn.training import checkpoint
from refsnn.training.checkpoint import CheckpointError, State
from refsnn.training.config import TrainConfig
from refsnn.training.folder import check_place, load_state, read_config, read_metrics
from refsnn.training.lock import lock, unlock
from refsnn.training.trainer import Trainer, never


def fingerprint(dataset: Dataset) -> str:
    """Compute a digest of all images and labels, so that a run isn't resumed on other data."""
    return checkpoint.digest(
        {
            f"{part} {name}": value
            for part, split in (("train", dataset.train), ("test", dataset.test))
            for name, value in split.identity().items()
        }
    ).hex()


def require_unused(folder: Path) -> None:
    """Check that the folder holds no file of a run; ValueError names one."""
    for name in ("config.json", "checkpoint.npz", "metrics.jsonl", "summary.json", "curves.png"):
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


def resume(folder: Path) -> "Run":
    """Open the run of a folder at its checkpoint; Locked while another process has it."""
    config, file = read_config(folder), lock(folder)
    try:
        run = Run(folder, config)
    except BaseException:
        unlock(folder, file)
        raise
    run.unlock = weakref.finalize(run, unlock, folder, file)
    return run


class Run(Trainer):
    """A training with a folder: its configuration, records and checkpoint."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder = folder
        self.unlock: Callable[[], object] = lambda: None
        self.begun = (folder / "checkpoint.npz").exists()
        self.make_dataset = partial(load, config.data.dataset, config.data_options(self.begun))
        super().__init__(config, self.make_dataset())
        try:
            check_place(self.state, self.net, len(self.dataset.train.labels), self.batches, config)
        except ValueError as error:
            raise CheckpointError(f"{folder / 'checkpoint.npz'}: {error}") from None

    def first_state(self) -> State:
        """Read the checkpoint, or where the run has not begun, draw the initial state."""
        data, dataset = fingerprint(self.dataset), self.dataset
        mean, std = (np.asarray(x, np.float64) for x in (dataset.mean, dataset.std))
        if self.begun:
            state = load_state(self.folder, self.config, self.net)
            if state.data != data:
                raise CheckpointError(
                    f"{self.folder}: {self.config.data.dataset} is not the data that it began with"
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

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(self.folder / "checkpoint.npz", self.state, self.config.to_dict())

    def train(
        self,
        stop: Callable[[], bool] = never,
        quiet: bool = False,
        workers: int | None = None,
    ) -> None:
        """Train to the end, or until `stop` says so, which raises Interrupted.

        Either way other processes may use the folder afterwards. `workers` processes make the
        batches (see `Loader`).
        """
        try:
            self.write_epochs(stop, quiet, workers)
        finally:
            self.unlock()

    def write_epochs(self, stop: Callable[[], bool], quiet: bool, workers: int | None) -> None:
        """Train, and after each epoch write its row of metrics, then the checkpoint."""
        if self.state.iteration == 0:
            self.save()
        done_epochs = self.state.iteration // self.batches
        rows = read_metrics(self.folder)[:done_epochs]
        if len(rows) < done_epochs:
            raise ValueError(
                f"{self.folder / 'metrics.jsonl'}: got rows of {len(rows)} epochs, want "
                f"{done_epochs}, which the checkpoint has finished"
            )
        metrics = self.folder / "metrics.jsonl"
        write_atomic(metrics, "".join(json.dumps(r) + "\n" for r in rows).encode())
        with (
            self.progress_bar(quiet) as bar,
            Loader(self.dataset, self.make_dataset, workers) as loader,
        ):
            for row in self.train_epochs(loader, bar, stop, self.save):
                append_line(metrics, json.dumps(row))
                self.save()

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
            "arch": config.network.arch,
            "time_steps": config.steps,
            "seed": config.seed,
            "images_per_second": sum(r["images"] for r in rows) / sum(r["seconds"] for r in rows),
            "lambda_last": rows[-1]["lambda"],
            "epochs": config.epochs,
            "test_loss": rows[-1]["test_loss"],
            "parameters": self.net.count_parameters(),
            "skipped": self.dataset.skipped,
        }
        curves = self.folder / "curves.png"
        with optional(curves):
            from refsnn.training.plot import draw_curves

            write_atomic(curves, draw_curves(rows, config))
        write_json(self.folder / "summary.json", summary)
        self.unlock()
        return summary
