"""Data sets by name, or from a file of arrays."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from refsnn.data.augment import cutout
from refsnn.data.dataset import Dataset, Split, channel_statistics
from refsnn.data.digits import digits
from refsnn.ops import Array

__all__ = ["DATASETS", "Dataset", "Split", "load"]

DATASETS = {"digits": digits}
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load(name: str, cutout_size: int = 0) -> Dataset:
    """A data set of `DATASETS`, or the `.npz` file at the path `name`; with Cutout (D24)."""
    dataset = read(name)
    if cutout_size == 0:
        return dataset
    return replace(dataset, augment=(*dataset.augment, partial(cutout, size=cutout_size)))


def read(name: str) -> Dataset:
    if name in DATASETS:
        return DATASETS[name]()
    if not name.endswith(".npz"):
        known = ", ".join(DATASETS)
        raise ValueError(f"dataset: got {name!r}, want one of {known}, or a file ending in .npz")
    return from_npz(Path(name))


def from_npz(path: Path) -> Dataset:
    """A file with the arrays of `ARRAYS`: images (N, H, W) or (N, H, W, C), labels 0 … K-1."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ARRAYS}
    except FileNotFoundError:
        raise ValueError(f"dataset: {path} does not exist") from None
    except KeyError as error:
        raise ValueError(f"dataset: {path}: {error.args[0]}") from None
    except Exception as error:  # a damaged archive raises many kinds
        raise ValueError(f"dataset: {path} can't be read: {error}") from None
    for name in ("train_images", "test_images"):
        if arrays[name].ndim == 3:
            arrays[name] = arrays[name][..., None]
    train = Split(arrays["train_images"], arrays["train_labels"])
    test = Split(arrays["test_images"], arrays["test_labels"])
    present = np.unique(train.labels)
    num_classes = len(present)
    if present.tolist() != list(range(num_classes)) or num_classes < 2:
        raise ValueError(
            f"dataset: {path}: train_labels: got the classes {summary(present)}, "
            "want every one of 0 to K-1, K > 1"
        )
    return Dataset(path.stem, train, test, num_classes, *channel_statistics(train.images))


def summary(values: Array) -> str:
    shown = [str(value) for value in values[:12]]
    return ", ".join(shown + ["..."] * (len(values) > 12))
