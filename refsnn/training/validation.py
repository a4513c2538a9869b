"""The images of the training split that are left out, and the best epoch by them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from refsnn.ops import Array
from refsnn.training.config import TrainConfig

Row = dict[str, Any]


class Division(NamedTuple):
    """The indices of a training split's images, divided into two parts."""

    training: Array
    validation: Array  # in order; empty if no image is left out


def divide(labels: Array, config: TrainConfig) -> Division:
    """Divide the training split by the setting `validation`.

    Of each class that share is left out, rounded, but never all of it. Which images these are
    follows from the seed. ValueError where the share leaves out no image at all.
    """
    images = np.arange(len(labels))
    if not config.validation:
        return Division(images, images[:0])
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(3,)))
    left_out = []
    for label in np.unique(labels):
        of_class = images[labels == label]
        number = min(round(config.validation * len(of_class)), len(of_class) - 1)
        left_out.append(rng.permutation(of_class)[:number])
    validation = np.sort(np.concatenate(left_out))
    if not validation.size:
        raise ValueError(
            f"validation: got {config.validation}, which leaves out none of the {len(labels)} "
            "training images"
        )
    return Division(np.setdiff1d(images, validation), validation)


def best_row(rows: Sequence[Row]) -> Row | None:
    """Return the row of the epoch with the highest validation accuracy, the first of equal ones.

    None where no images were left out, or no epoch has ended.
    """
    known = [row for row in rows if "validation_accuracy" in row]
    return max(known, key=lambda row: row["validation_accuracy"], default=None)


def is_out_of_patience(rows: Sequence[Row], patience: int) -> bool:
    """Tell whether the best of the epochs so far is at least `patience` epochs ago (0: never)."""
    best = best_row(rows)
    return best is not None and 0 < patience <= rows[-1]["epoch"] - best["epoch"]
