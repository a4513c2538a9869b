"""A learning-rate range test (Smith 2017): the loss of a training whose learning rate rises."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from refsnn.data import Dataset, Loader
from refsnn.training.algorithm import train_step
from refsnn.training.config import TrainConfig
from refsnn.training.monitor import Diverged
from refsnn.training.trainer import Trainer

SMOOTH = 0.9  # weight of the losses before in the smoothed one
WORSE = 4.0  # times the lowest smoothed loss, at which the test ends
CONSTANT = 10**9  # batches per epoch: so many that neither schedule moves


class Tried(NamedTuple):
    """One iteration of the test."""

    lr: float
    loss: float
    smoothed: float


class Found(NamedTuple):
    """The result of the test."""

    tried: list[Tried]
    steepest: float | None  # the learning rate where the smoothed loss falls fastest
    lowest: float | None  # the learning rate where the smoothed loss is lowest
    ended: str  # why it ended


def rates(low: float, high: float, count: int) -> list[float]:
    """Return `count` learning rates from `low` to `high`, each the same factor above the last."""
    return [float(lr) for lr in np.geomspace(low, high, count)]


def smoothed(losses: list[float]) -> float:
    """Return the exponential mean of the losses, corrected for its start (as Adam's moments)."""
    mean = 0.0
    for loss in losses:
        mean = SMOOTH * mean + (1 - SMOOTH) * loss
    return mean / (1 - SMOOTH ** len(losses))


def batches(trainer: Trainer, loader: Loader) -> Iterator[tuple[Any, Any]]:
    """Yield batches of the training images, epoch after epoch."""
    epoch = 0
    while True:
        trainer.state.order = trainer.state.rng.permutation(trainer.division.training)
        yield from loader.batches("train", trainer.plan(epoch, 0), trainer.config.dtype)
        epoch += 1


def find_lr(
    config: TrainConfig, dataset: Dataset, low: float, high: float, count: int, bar: Any = None
) -> Found:
    """Train a new network for up to `count` iterations, with learning rates from `low` to `high`.

    The side branches keep the weight that they begin with. The test ends early where the smoothed
    loss is WORSE times its lowest, or where the training diverges.
    """
    trainer, tried, ended = Trainer(config, dataset, tests=False), list[Tried](), "all were tried"
    losses: list[float] = []
    if bar is not None and trainer.ops.precompile is not None:
        trainer.compile(bar, trainer.ops.precompile)
    with Loader(dataset, lambda: dataset, 0) as loader, np.errstate(all="ignore"):
        for lr, batch in zip(rates(low, high, count), batches(trainer, loader), strict=False):
            try:
                step = train_step(
                    trainer.state,
                    trainer.net,
                    config.changed(lr=lr),
                    trainer.ops,
                    batch,
                    CONSTANT,
                    trainer.keeps_all,
                )
            except Diverged:
                ended = f"training diverged at {lr:.3g}"
                break
            losses.append(step.loss)
            tried.append(Tried(lr, step.loss, smoothed(losses)))
            if bar is not None:
                bar.update()
            if tried[-1].smoothed > WORSE * min(t.smoothed for t in tried) > 0:
                ended = f"the loss rose to {WORSE:g} times its lowest at {lr:.3g}"
                break
    return Found(tried, *best(tried), ended)


def best(tried: list[Tried]) -> tuple[float | None, float | None]:
    """Return where the smoothed loss falls fastest against log(lr), and where it is lowest."""
    if len(tried) < 3:
        return None, None
    loss = np.array([t.smoothed for t in tried])
    slope = np.gradient(loss, [math.log(t.lr) for t in tried])
    lowest = int(loss.argmin())
    falling = slope[: lowest + 1]
    steepest = tried[int(falling.argmin())].lr if falling.min() < 0 else None
    return steepest, tried[lowest].lr
