"""Training in memory, epoch by epoch; `run` adds the folder that it can be resumed from."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from refsnn.data import Batch, Dataset, Loader, in_order
from refsnn.network import Network, init_buffers, init_params
from refsnn.ops import Precompile, get_ops
from refsnn.output import progress_bar
from refsnn.training.algorithm import Step, evaluate, search_shape, train_step
from refsnn.training.checkpoint import State
from refsnn.training.compatible import check_fit
from refsnn.training.config import TrainConfig
from refsnn.training.memory import keeps_all
from refsnn.training.monitor import (
    first_gradient_norm,
    require_finite_figures,
    weight_gradient_norms,
)
from refsnn.training.optimizer import init_state
from refsnn.training.teacher import features_of, load_teacher
from refsnn.training.validation import Row, divide, is_out_of_patience

LOW_MEMORY = (
    "memory: a step would not fit into what is available, so only spikes are kept for the backward "
    "pass, and the rest is computed again (setting memory)"
)
CHECKPOINT_SECONDS = 300.0  # within an epoch; there is one more at each epoch's end


class Interrupted(Exception):
    """Raised where training was stopped as asked, after its state was saved."""


def network_for(config: TrainConfig, dataset: Dataset, aligned: int = 0) -> Network:
    """Return the network that the settings describe; ValueError where the data doesn't fit it.

    `aligned` is the number of channels of a teacher's features, by default as many as its own.
    """
    check_fit(config, dataset)
    return config.build_network(dataset.train.images.shape[-1], dataset.num_classes, aligned)


def batches_of(config: TrainConfig, dataset: Dataset) -> int:
    """Count the iterations of an epoch."""
    return -(-len(divide(dataset.train.labels, config).training) // config.batch_size)


def initial_state(config: TrainConfig, net: Network) -> State:
    """Draw the parameters, and start the generator that orders the data.

    All draws come from the seed: one stream for the parameters, one for the data's order (and one
    for each batch's augmentation, `batch_seed`).
    """
    init_rng, data_rng = np.random.default_rng(config.seed).spawn(2)
    params = init_params(net, init_rng, config.dtype)
    buffers = init_buffers(net, config.dtype)
    return State(params, buffers, init_state(params, config.optimizer), data_rng)


def batch_seed(seed: int, i: int) -> np.random.SeedSequence:
    """Return the seed of the augmentation at iteration i, so that a batch can be made early."""
    return np.random.SeedSequence(seed, spawn_key=(2, i))


def never() -> bool:
    """Return False: training goes on."""
    return False


def keep_nothing() -> None:
    """Save no state: training is in memory alone."""


class Trainer:
    """Settings, data, network and state of a training.

    `tests` tells whether each epoch ends with the accuracy on the test split.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset, tests: bool = True) -> None:
        self.config, self.dataset, self.tests = config, dataset, tests
        self.teacher = load_teacher(config, dataset)
        self.net = network_for(config, dataset, features_of(self.teacher, config))
        self.ops = get_ops(config.ops)
        self.division = divide(dataset.train.labels, config)
        self.rows: list[Row] = []  # the figures of the epochs so far
        self.keeps_all = keeps_all(self.net, config, dataset.train.images.shape)
        self.batches = batches_of(config, dataset)
        self.state = self.first_state()
        self.compiled = False  # by the first step of this process

    def first_state(self) -> State:
        """Return the state that training starts from."""
        return initial_state(self.config, self.net)

    @property
    def total(self) -> int:
        """Return the number of iterations of the whole training."""
        return self.config.epochs * self.batches

    def is_over(self) -> bool:
        """Tell whether training has reached its end, or patience has."""
        ended = is_out_of_patience(self.rows, self.config.patience)
        return ended or self.state.iteration >= self.total

    @contextmanager
    def progress_bar(self, quiet: bool) -> Iterator[Any]:
        """Show how many images have been trained on, unless `quiet`."""
        epoch, position = divmod(self.state.iteration, self.batches)
        images = len(self.division.training)
        with progress_bar(
            total=self.config.epochs * images,
            initial=epoch * images + position * self.config.batch_size,
            unit="img",
            disable=quiet,
            smoothing=0.1,
        ) as bar:
            yield bar

    def train_epochs(
        self,
        loader: Loader,
        bar: Any,
        stop: Callable[[], bool] = never,
        save: Callable[[], None] = keep_nothing,
    ) -> Iterator[Row]:
        """Train from where the state stands to the end, and give each epoch's figures.

        The end comes early where patience is at an end (setting `patience`).

        `save` is called every few minutes within an epoch, and where `stop` says so, which raises
        Interrupted; what is given at an epoch's end, the caller saves.
        """
        if self.config.memory == "auto" and not self.keeps_all and not bar.disable:
            bar.write(LOW_MEMORY, file=sys.stderr)
        if self.ops.precompile is not None and not self.is_over():
            self.compile(bar, self.ops.precompile)
        while not self.is_over():
            with np.errstate(all="ignore"):  # require_finite looks itself
                row = self.train_epoch(loader, bar, stop, save)
            self.rows.append(row)
            yield row
            if stop() and not self.is_over():
                raise Interrupted

    def compile(self, bar: Any, precompile: Precompile) -> None:
        """Compile the kernels, where they are not in the cache, and show how far that is."""

        def watch(done: int, count: int, name: str) -> None:
            bar.set_description(f"preparing kernels, {done + 1} of {count}: {name}")

        precompile(self.config.dtype, self.config.optimizer.optimizer, watch)
        bar.set_description()
        bar.unpause()  # the time left is that of training

    def plan(self, epoch: int, first: int) -> Iterator[Batch]:
        """Give the batches of an epoch (from 0), from the one at position `first` on."""
        order, size = self.state.order, self.config.batch_size
        for position in range(first, self.batches):
            seed = batch_seed(self.config.seed, epoch * self.batches + position + 1)
            yield Batch(order[position * size : (position + 1) * size], seed)

    def train_epoch(
        self, loader: Loader, bar: Any, stop: Callable[[], bool], save: Callable[[], None]
    ) -> Row:
        """Train from where the state stands to the epoch's end, and return its figures."""
        state, size = self.state, self.config.batch_size
        epoch, position = divmod(state.iteration, self.batches)
        if position == 0:
            state.order = state.rng.permutation(self.division.training)
            state.sums = {}
        saved = start = time.monotonic()
        first = position
        batches = loader.batches("train", self.plan(epoch, position), self.config.dtype)
        for position, batch in enumerate(batches, first):
            answers = None
            if self.teacher is not None:
                indices = state.order[position * size : (position + 1) * size]
                answers = self.teacher.answers(batch[0], indices)
            given = batch, self.batches, answers
            if position == 0 and state.iteration == epoch * self.batches:
                state.surrogate_shape = search_shape(state, self.net, self.config, self.ops, *given)
            step = train_step(
                state, self.net, self.config, self.ops, batch, self.batches, self.keeps_all, answers
            )
            self.record(step, batch[1])
            side, lr, last = step.side, step.lr, position == self.batches - 1
            if last:
                norms = weight_gradient_norms(step.grads)
            if not self.compiled and position < self.batches - 1:
                first, start = position + 1, time.monotonic()  # the speed leaves compiling out
            self.compiled = True
            del step  # or its gradients would live through the next step
            bar.update(len(batch[1]))
            bar.set_postfix(self.progress(side, epoch), refresh=False)
            if not last and (stop() or time.monotonic() - saved > CHECKPOINT_SECONDS):
                save()
                saved = time.monotonic()
                if stop():
                    raise Interrupted
        trained = min(self.batches * size, len(state.order)) - first * size
        speed = {"images": trained, "seconds": time.monotonic() - start}  # of this process
        row = {"epoch": epoch + 1, "epochs": self.config.epochs, "lambda": side, "lr": lr}
        if state.surrogate_shape is not None:
            row["surrogate_shape"] = state.surrogate_shape
        return self.figures(loader, row | speed | {"gradient_norm": norms})

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
        sums = {name: sums.get(name, 0) + value for name, value in figures.items()}
        require_finite_figures(f"iteration {self.state.iteration}: sum over the epoch", sums)
        self.state.sums = sums

    def progress(self, side: float, epoch: int) -> dict[str, str]:
        """Return what the progress bar shows."""
        sums = self.state.sums
        return {
            "epoch": f"{epoch + 1}/{self.config.epochs}",
            "loss": f"{sums['loss'] / sums['images']:.3f}",
            "acc": f"{sums['correct'] / sums['images']:.3f}",
            "λ": f"{side:.3f}",
        }

    def figures(self, loader: Loader, row: Row) -> Row:
        """Complete an epoch's row by the means of its sums, and by the images not trained on."""
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
        plans = {"validation": ("train", self.division.validation)}
        if self.tests:
            plans["test"] = ("test", np.arange(len(self.dataset.test.labels)))
        for name, (split, images) in plans.items():
            if images.size:
                batches = loader.batches(split, in_order(images), self.config.dtype)
                found = evaluate(self.state, self.net, self.config, self.ops, batches)
                row |= {f"{name}_{figure}": value for figure, value in found.items()}
        require_finite_figures(f"epoch {row['epoch']}", row)
        return row
