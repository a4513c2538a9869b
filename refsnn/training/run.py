"""A run: a folder that is trained into, epoch by epoch, and can be resumed to the same bits."""

import json
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from refsnn.data import Batch, Dataset, Loader, in_order, load
from refsnn.files.writing import append_line, optional, write_atomic, write_json
from refsnn.network import Network, init_buffers, init_params
from refsnn.ops import get_ops
from refsnn.training import checkpoint
from refsnn.training.algorithm import Step, evaluate, train_step
from refsnn.training.checkpoint import CheckpointError, State
from refsnn.training.config import TrainConfig
from refsnn.training.fit import check_fit
from refsnn.training.folder import check_place, load_state, read_config, read_metrics
from refsnn.training.lock import lock, unlock
from refsnn.training.monitor import first_gradient_norm
from refsnn.training.optimizer import init_state

CHECKPOINT_SECONDS = 300.0  # within an epoch; one more at each epoch's end


class Interrupted(Exception):
    """Stopped as asked, with a checkpoint to resume from."""


def network_for(config: TrainConfig, dataset: Dataset) -> Network:
    """ValueError where the two don't fit."""
    check_fit(config, dataset)
    return config.build_network(dataset.train.images.shape[-1], dataset.num_classes)


def batches_of(config: TrainConfig, dataset: Dataset) -> int:
    """Iterations of an epoch."""
    return -(-len(dataset.train.labels) // config.batch_size)


def initial_state(config: TrainConfig, net: Network) -> State:
    """All draws come from the seed: one stream for parameters, one for the data's order (and one
    for each batch's augmentation, `batch_seed`)."""
    init_rng, data_rng = np.random.default_rng(config.seed).spawn(2)
    params = init_params(net, init_rng, config.dtype)
    buffers = init_buffers(net, config.dtype)
    return State(params, buffers, init_state(params, config.optimizer), data_rng)


def batch_seed(seed: int, i: int) -> np.random.SeedSequence:
    """Of the augmentation at iteration i: a batch can be made before its turn, or again."""
    return np.random.SeedSequence(seed, spawn_key=(2, i))


def fingerprint(dataset: Dataset) -> str:
    """A digest of all images and labels, so that a run is not resumed on other ones."""
    return checkpoint.digest(
        {
            f"{part} {name}": value
            for part, split in (("train", dataset.train), ("test", dataset.test))
            for name, value in split.identity().items()
        }
    ).hex()


def require_unused(folder: Path) -> None:
    for name in ("config.json", "checkpoint.npz", "metrics.jsonl", "summary.json", "curves.png"):
        if (folder / name).exists():
            raise ValueError(
                f"out: {folder} holds a {name} already; resume that run or choose another folder"
            )


def start(folder: Path, config: TrainConfig) -> "Run":
    """A new run in a folder that is made for it; ValueError where there is a run already."""
    require_unused(folder)
    run = Run(folder, config)  # all that can be wrong with the settings and data shows here
    folder.mkdir(parents=True, exist_ok=True)
    run.unlock = weakref.finalize(run, unlock, folder, lock(folder))
    require_unused(folder)  # since another process may have been faster
    write_json(folder / "config.json", config.to_dict())
    return run


def resume(folder: Path) -> "Run":
    """The run of a folder, as far as its checkpoint; Locked while another process has it."""
    config, file = read_config(folder), lock(folder)
    try:
        run = Run(folder, config)
    except BaseException:
        unlock(folder, file)
        raise
    run.unlock = weakref.finalize(run, unlock, folder, file)
    return run


class Run:
    """A folder with its configuration, data, network and state."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder, self.config = folder, config
        self.unlock: Callable[[], object] = lambda: None
        begun = (folder / "checkpoint.npz").exists()
        self.make_dataset = partial(load, config.data.dataset, config.data_options(begun))
        self.dataset = self.make_dataset()
        self.net = network_for(config, self.dataset)
        self.ops = get_ops(config.ops)
        if (folder / "checkpoint.npz").exists():
            self.state = load_state(folder, config, self.net)
        elif (folder / "metrics.jsonl").exists():
            raise CheckpointError(f"{folder}: the run has begun, but its checkpoint.npz is missing")
        else:
            self.state = initial_state(config, self.net)
            self.state.data = fingerprint(self.dataset)
        if self.state.data != fingerprint(self.dataset):
            raise CheckpointError(
                f"{folder}: {config.data.dataset} is not the data that it began with"
            )
        self.batches = batches_of(config, self.dataset)
        try:
            check_place(self.state, self.net, len(self.dataset.train.labels), self.batches, config)
        except ValueError as error:
            raise CheckpointError(f"{folder / 'checkpoint.npz'}: {error}") from None
        self.compiled = False  # by the first step of this process

    @property
    def total(self) -> int:
        return self.config.epochs * self.batches

    def save(self) -> None:
        checkpoint.save(self.folder / "checkpoint.npz", self.state, self.config.to_dict())

    def train(
        self,
        stop: Callable[[], bool] = lambda: False,
        quiet: bool = False,
        workers: int | None = None,
    ) -> None:
        """Train to the end, or until `stop` says so, which raises Interrupted; others
        may then.

        `workers` processes make the batches (see `Loader`).
        """
        try:
            self.train_epochs(stop, quiet, workers)
        finally:
            self.unlock()

    def train_epochs(self, stop: Callable[[], bool], quiet: bool, workers: int | None) -> None:
        if self.state.iteration == 0:
            self.save()
        done_epochs = self.state.iteration // self.batches
        rows = read_metrics(self.folder)[:done_epochs]
        if len(rows) < done_epochs:
            raise ValueError(
                f"{self.folder / 'metrics.jsonl'}: got rows of {len(rows)} epochs, want "
                f"{done_epochs}, which the checkpoint has finished"
            )
        write_atomic(
            self.folder / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode()
        )
        images = len(self.dataset.train.labels)
        with (
            np.errstate(all="ignore"),
            tqdm(  # require_finite looks itself
                total=self.config.epochs * images,
                initial=done_epochs * images
                + self.state.iteration % self.batches * self.config.batch_size,
                unit="img",
                disable=quiet,
                smoothing=0.1,
                dynamic_ncols=True,
            ) as bar,
            Loader(self.dataset, self.make_dataset, workers) as loader,
        ):
            while self.state.iteration < self.total:
                self.train_epoch(loader, bar, stop)

    def plan(self, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch (from 0), from the one at position `first` on."""
        order, size = self.state.order, self.config.batch_size
        for position in range(first, self.batches):
            seed = batch_seed(self.config.seed, epoch * self.batches + position + 1)
            yield Batch(order[position * size : (position + 1) * size], seed)

    def train_epoch(self, loader: Loader, bar: Any, stop: Callable[[], bool]) -> None:
        """From where the state stands to the epoch's end: its row, then its checkpoint."""
        state, size = self.state, self.config.batch_size
        epoch, position = divmod(state.iteration, self.batches)
        if position == 0:
            state.order = state.rng.permutation(len(self.dataset.train.labels))
            state.sums = {}
        saved = start = time.monotonic()
        first = position
        batches = loader.batches("train", self.plan(epoch, position), self.config.dtype)
        if not self.compiled:
            bar.set_description("compiling")
        for position, batch in enumerate(batches, first):
            step = train_step(state, self.net, self.config, self.ops, batch, self.batches)
            self.record(step, batch[1])
            side, lr = step.side, step.lr
            if not self.compiled and position < self.batches - 1:
                first, start = position + 1, time.monotonic()  # of what the speed is measured on
            if not self.compiled:
                self.compiled = True
                bar.set_description()
            del step  # or its gradients would live through the next step
            bar.update(len(batch[1]))
            bar.set_postfix(self.progress(side, epoch), refresh=False)
            last = position == self.batches - 1
            if not last and (stop() or time.monotonic() - saved > CHECKPOINT_SECONDS):
                self.save()
                saved = time.monotonic()
                if stop():
                    raise Interrupted
        trained = min(self.batches * size, len(state.order)) - first * size
        speed = {"images": trained, "seconds": time.monotonic() - start}  # of this process
        self.finish_epoch(loader, {"epoch": epoch + 1, "lambda": side, "lr": lr} | speed)
        if stop() and state.iteration < self.total:
            raise Interrupted

    def record(self, step: Step, labels: Any) -> None:
        """Add one step's figures to the epoch's sums."""
        correct = int((step.logits.argmax(axis=1) == labels).sum())
        figures = {
            "images": len(labels),
            "loss": step.loss * len(labels),
            "correct": correct,
            "steps": 1,
            "gradient_norm": first_gradient_norm(step.grads),
        } | {f"rate.{name}": rate for name, rate in step.rates.items()}
        sums = self.state.sums
        self.state.sums = {name: sums.get(name, 0) + value for name, value in figures.items()}

    def progress(self, side: float, epoch: int) -> dict[str, str]:
        sums = self.state.sums
        return {
            "epoch": f"{epoch + 1}/{self.config.epochs}",
            "loss": f"{sums['loss'] / sums['images']:.3f}",
            "acc": f"{sums['correct'] / sums['images']:.3f}",
            "λ": f"{side:.3f}",
        }

    def finish_epoch(self, loader: Loader, row: dict[str, Any]) -> None:
        """Complete the epoch's row by the sums and the test split, then write both files."""
        sums = self.state.sums
        row |= {
            "iteration": self.state.iteration,
            "loss": sums["loss"] / sums["images"],
            "train_accuracy": sums["correct"] / sums["images"],
            "images_per_second": row["images"] / row["seconds"],
            "first_layer_gradient_norm": sums["gradient_norm"] / sums["steps"],
            "firing_rate": {
                name.removeprefix("rate."): value / sums["steps"]
                for name, value in sums.items()
                if name.startswith("rate.")
            },
        }
        images = in_order(len(self.dataset.test.labels))
        batches = loader.batches("test", images, self.config.dtype)
        row |= evaluate(self.state, self.net, self.config, self.ops, batches)
        append_line(self.folder / "metrics.jsonl", json.dumps(row))
        self.save()

    def summarize(self) -> dict[str, Any]:
        """Write curves.png of a finished run, if that can be drawn, then summary.json, by which it
        counts as finished."""
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
