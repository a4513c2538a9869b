"""Data sets of arrays: in memory, or in a `.npz` file."""

import sys
import warnings
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.data.dataset import Dataset, Split, channel_statistics
from refsnn.data.ranges import check_precision, check_same_range, extent_of
from refsnn.files.arrays import read_whole
from refsnn.ops import Array

#: what an `.npz` file must hold to be a data set
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
#: what it may hold instead where a trained network is tested on it
IMAGES = ("images", "labels")


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
        dataset, remarks = dataset_of(path.stem, arrays, dtype, any_range)
    except (ValueError, TypeError) as error:
        raise ValueError(f"dataset: {path}: {error}") from None
    if parent_process() is None:  # not in every worker
        for remark in remarks:
            print(f"warning: {path}: {remark}", file=sys.stderr)
    return dataset


def of_images(path: Path) -> Split | None:
    """Read the `images` and `labels` of a file; None if it holds the arrays of a data set instead.

    Their shapes are those of `from_npz`. ValueError names the file and the array.
    """
    try:
        arrays = read_whole(path, None, (*IMAGES, *ARRAYS))
    except FileNotFoundError:
        raise ValueError(f"data: {path} does not exist") from None
    except ValueError as error:
        raise ValueError(f"data: {error}") from None
    if set(ARRAYS) & arrays.keys():
        return None
    for name in IMAGES:
        if name not in arrays:
            want = f"{' and '.join(IMAGES)}, or {', '.join(ARRAYS)}"
            raise ValueError(f"data: {path}: {name} is missing, want {want}")
    try:
        check_channels_last("images", arrays["images"].shape)
        return make_split(arrays["images"], labels_of("labels", arrays["labels"]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"data: {path}: {error}") from None


#: how an error or remark names the arrays and options of a file, and those of `from_arrays`
WORDS = (
    ("train_images", "images"),
    ("train_labels", "labels"),
    ("train labels", "labels"),
    ("test_images", "validation images"),
    ("test_labels", "validation labels"),
    ("test labels", "validation labels"),
    ("--any-range", "any_range=True"),
    ("--dtype float64", "dtype='float64'"),
)


def in_words_of_arrays(text: str) -> str:
    """Return a message about a file's arrays as one about arguments."""
    for of_file, of_arguments in WORDS:
        text = text.replace(of_file, of_arguments)
    return text


def from_arrays(
    images: Any,
    labels: Any,
    validation: tuple[Any, Any] | None = None,
    dtype: str = "float32",
    any_range: bool = False,
) -> Dataset:
    """Make a data set of arrays; without a validation split the training split is in its place.

    Shapes are those of `from_npz`, with the same checks: TypeError or ValueError names the
    argument. Images that look channels-first are refused.
    """
    if validation is not None and (
        not isinstance(validation, tuple | list) or len(validation) != 2
    ):
        raise TypeError(
            f"validation: got {type(validation).__name__}, want a pair (images, labels)"
        )
    given = dict(zip(ARRAYS, (images, labels, *(validation or (images, labels))), strict=True))
    arrays = {name: np.asarray(value) for name, value in given.items()}
    try:
        check_channels_last("train_images", arrays["train_images"].shape)
        dataset, remarks = dataset_of("arrays", arrays, dtype, any_range)
    except (ValueError, TypeError) as error:
        raise type(error)(in_words_of_arrays(str(error))) from None
    for remark in remarks:
        warnings.warn(in_words_of_arrays(remark), stacklevel=3)
    return dataset


def dataset_of(
    name: str, arrays: dict[str, Array], dtype: str, any_range: bool
) -> tuple[Dataset, list[str]]:
    """Make a data set of the arrays of `ARRAYS`, and remarks on what may not be meant."""
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
    dataset = Dataset(name, train, test, num_classes, *statistics)
    extents = extent_of(train.images), extent_of(test.images)
    doubt = "" if any_range else check_same_range(train.images, test.images, extents)
    check_precision(dataset, extents, dtype)
    remarks = [doubt, remark_on_shape(arrays["train_images"].shape)]
    return dataset, [remark for remark in remarks if remark]


def split_of(part: str, arrays: dict[str, Array]) -> Split:
    labels = labels_of(f"{part}_labels", arrays[f"{part}_labels"])
    try:
        return make_split(arrays[f"{part}_images"], labels)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{part}_{error}") from None


def make_split(images: Array, labels: Array) -> Split:
    """Return a split of images, which have one channel where they are (N, H, W)."""
    return Split(images[..., None] if images.ndim == 3 else images, labels)


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


def looks_channels_first(shape: tuple[int, ...]) -> bool:
    """Tell whether images (…, H, W, C) are so low that these are likely (…, C, H, W)."""
    height, width, channels = (*shape[1:], 1) if len(shape) == 3 else shape[-3:]
    return height <= 4 < min(width, channels)


def check_channels_last(name: str, shape: tuple[int, ...]) -> None:
    """Check that images don't look channels-first; ValueError says how to turn them."""
    if len(shape) in (4, 5) and looks_channels_first(shape):
        axes = (*range(len(shape) - 3), len(shape) - 2, len(shape) - 1, len(shape) - 3)
        raise ValueError(
            f"{name}: got shape {shape}, which looks channels-first; want channels last: "
            f"{name}.transpose{axes}"
        )


def remark_on_shape(shape: tuple[int, ...]) -> str:
    """Say how images are understood where their shape suggests something else, else nothing.

    That is: channels that come first, volumes, frames without a channel, signals of a few
    channels. It is no error: images may be small and have many channels.
    """
    height, width, channels = (*shape[1:], 1) if len(shape) == 3 else shape[-3:]
    short, long = sorted((height, width))
    volumes = channels > 4 and (channels <= 4 * short or channels == width)
    signals = len(shape) == 3 and short <= 4 < long
    if not (looks_channels_first(shape) or volumes or signals):
        return ""
    return (
        f"train_images {shape} are taken as {height}x{width} pixels of "
        f"{channels} channel{'s' * (channels != 1)}; channels must come last"
    )


def summary(values: Array) -> str:
    shown = [str(value) for value in values[:12]]
    return ", ".join(shown + ["..."] * (len(values) > 12))
