"""Data sets by name, or from a file of arrays."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from refsnn.data.arrays import read_npz
from refsnn.data.augment import cutout
from refsnn.data.dataset import Dataset, Split, channel_statistics
from refsnn.data.digits import load_digits
from refsnn.ops import Array

__all__ = ["DATASETS", "Dataset", "Split", "load"]

DATASETS = {"digits": load_digits}
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load(name: str, cutout_size: int = 0) -> Dataset:
    """A data set of `DATASETS`, or the `.npz` file at the path `name`; with Cutout (D24)."""
    dataset = read(name)
    if cutout_size == 0:
        return dataset
    height, width = dataset.train.images.shape[1:3]
    if cutout_size > max(height, width):
        raise ValueError(
            f"cutout: got {cutout_size}, want at most {max(height, width)} for images of "
            f"{height}x{width} pixels"
        )
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
        arrays = read_npz(path)
    except FileNotFoundError:
        raise ValueError(f"dataset: {path} does not exist") from None
    except ValueError as error:
        raise ValueError(f"dataset: {path} can't be read: {error}") from None
    for name in ARRAYS:
        if name not in arrays:
            raise ValueError(f"dataset: {path}: {name} is missing, want {', '.join(ARRAYS)}")
    train, test = (split_of(path, part, arrays) for part in ("train", "test"))
    present = np.unique(train.labels)
    num_classes = len(present)
    if present.tolist() != list(range(num_classes)) or num_classes < 2:
        raise ValueError(
            f"dataset: {path}: train_labels: got the classes {summary(present)}, "
            "want every one of 0 to K-1, K > 1"
        )
    return Dataset(path.stem, train, test, num_classes, *channel_statistics(train.images))


def split_of(path: Path, part: str, arrays: dict[str, Array]) -> Split:
    images = arrays[f"{part}_images"]
    if images.ndim == 3:
        images = images[..., None]
    try:
        return Split(images, arrays[f"{part}_labels"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"dataset: {path}: {part}_{error}") from None


def summary(values: Array) -> str:
    shown = [str(value) for value in values[:12]]
    return ", ".join(shown + ["..."] * (len(values) > 12))
