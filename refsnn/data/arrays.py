"""Files of arrays: `.npz`, and the data sets that they may hold."""

import sys
from multiprocessing import parent_process
from pathlib import Path

import numpy as np

from refsnn.data.dataset import Dataset, Split, channel_statistics
from refsnn.files.arrays import read_whole
from refsnn.ops import Array

#: what an `.npz` file must hold to be a data set
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def from_npz(path: Path) -> Dataset:
    """A file with the arrays of `ARRAYS`: images (N, H, W) or (N, H, W, C), or sequences of frames
    (N, T, H, W, C); labels 0 … K-1."""
    try:
        arrays = read_whole(path, None, ARRAYS)
    except FileNotFoundError:
        raise ValueError(f"dataset: {path} does not exist") from None
    except ValueError as error:
        raise ValueError(f"dataset: {error}") from None
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
    assert isinstance(train.images, np.ndarray)
    statistics = channel_statistics(train.images)
    try:
        dataset = Dataset(path.stem, train, test, num_classes, *statistics)
    except (ValueError, TypeError) as error:
        raise ValueError(f"dataset: {path}: {error}") from None
    warn_of_channels_first(path, train.images.shape)
    return dataset


def split_of(path: Path, part: str, arrays: dict[str, Array]) -> Split:
    images = arrays[f"{part}_images"]
    if images.ndim == 3:
        images = images[..., None]
    try:
        return Split(images, arrays[f"{part}_labels"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"dataset: {path}: {part}_{error}") from None


def warn_of_channels_first(path: Path, shape: tuple[int, ...]) -> None:
    """A line where the last axes look like (C, H, W). It is no error: images may be small and have
    many channels."""
    height, width, channels = shape[-3:]
    if height <= 4 < min(width, channels) and parent_process() is None:  # not in every worker
        print(
            f"warning: {path}: train_images {shape} are taken as {height}x{width} pixels of "
            f"{channels} channels; channels must come last",
            file=sys.stderr,
        )


def summary(values: Array) -> str:
    shown = [str(value) for value in values[:12]]
    return ", ".join(shown + ["..."] * (len(values) > 12))
