"""Data sets in `.npz` files."""

import sys
from multiprocessing import parent_process
from pathlib import Path

import numpy as np

from refsnn.data.dataset import Dataset, Split, channel_statistics
from refsnn.data.ranges import check_precision, check_same_range, extent_of
from refsnn.files.arrays import read_whole
from refsnn.ops import Array

#: what an `.npz` file must hold to be a data set
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def from_npz(path: Path, dtype: str = "float32", any_range: bool = False) -> Dataset:
    """Read a file with the arrays of `ARRAYS` as a data set.

    Images are (N, H, W) or (N, H, W, C), or sequences of frames (N, T, H, W, C). Labels 0 … K-1 are
    (N,) or (N, 1), integers or bool. ValueError names the file and the array. It is also raised
    where the two splits seem to be in different units, unless `any_range` is set, and where
    `dtype`, the precision of the training, can't hold the standardised images.
    """
    try:
        arrays = read_whole(path, None, ARRAYS)
    except FileNotFoundError:
        raise ValueError(f"dataset: {path} does not exist") from None
    except ValueError as error:
        raise ValueError(f"dataset: {error}") from None
    for name in ARRAYS:
        if name not in arrays:
            raise ValueError(f"dataset: {path}: {name} is missing, want {', '.join(ARRAYS)}")
    try:
        return dataset_of(path, arrays, dtype, any_range)
    except (ValueError, TypeError) as error:
        raise ValueError(f"dataset: {path}: {error}") from None


def dataset_of(path: Path, arrays: dict[str, Array], dtype: str, any_range: bool) -> Dataset:
    train, test = (split_of(part, arrays) for part in ("train", "test"))
    present = np.unique(train.labels)
    num_classes = len(present)
    if present.tolist() != list(range(num_classes)) or num_classes < 2:
        from_one = present.tolist() == list(range(1, num_classes + 1))
        raise ValueError(
            f"train_labels: got the classes {summary(present)}, want every one of 0 to K-1, K > 1"
            + ("; subtract 1 from all labels" if from_one else "")
        )
    assert isinstance(train.images, np.ndarray) and isinstance(test.images, np.ndarray)  # noqa: PT018
    statistics = channel_statistics(train.images)
    dataset = Dataset(path.stem, train, test, num_classes, *statistics)
    extents = extent_of(train.images), extent_of(test.images)
    doubt = "" if any_range else check_same_range(train.images, test.images, extents)
    if doubt and parent_process() is None:  # once, and not in every worker process
        print(f"warning: {path}: {doubt}", file=sys.stderr)
    check_precision(dataset, extents, dtype)
    remark_on_shape(path, arrays["train_images"].shape)
    return dataset


def split_of(part: str, arrays: dict[str, Array]) -> Split:
    images = arrays[f"{part}_images"]
    labels = labels_of(f"{part}_labels", arrays[f"{part}_labels"])
    if images.ndim == 3:
        images = images[..., None]
    try:
        return Split(images, labels)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{part}_{error}") from None


def labels_of(name: str, labels: Array) -> Array:
    """Return integer or bool labels (N,) or (N, 1) as (N,).

    Raises ValueError for text and one-hot labels, TypeError for other types.
    """
    if labels.dtype.kind == "U":
        text = str(labels.flat[0])[:20] if labels.size else ""
        raise ValueError(f"{name}: got text such as {text!r}, want a number, 0 to K-1, for each")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all():
        raise ValueError(
            f"{name}: got one-hot labels {labels.shape}, want class numbers, {name}.argmax(axis=1)"
        )
    if labels.dtype.kind not in "biu":
        raise TypeError(f"{name}: got dtype {labels.dtype}, want integers")
    return labels.astype(np.int64) if labels.dtype.kind == "b" else labels


def remark_on_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Warn how the images' shape is read, where another meaning seems likely.

    Such shapes look like channels that come first, volumes, or signals of a few channels. It is
    only a warning, since images may be small and have many channels.
    """
    height, width, channels = (*shape[1:], 1) if len(shape) == 3 else shape[-3:]
    short, long = sorted((height, width))
    channels_first = height <= 4 < min(width, channels)
    volumes = channels > 4 and (channels <= 4 * short or channels == width)
    signals = len(shape) == 3 and short <= 4 < long
    # once, and not in every worker process
    if (channels_first or volumes or signals) and parent_process() is None:
        print(
            f"warning: {path}: train_images {shape} are taken as {height}x{width} pixels of "
            f"{channels} channel{'s' * (channels != 1)}; channels must come last",
            file=sys.stderr,
        )


def summary(values: Array) -> str:
    shown = [str(value) for value in values[:12]]
    return ", ".join(shown + ["..."] * (len(values) > 12))
