"""Readers of CIFAR-10 and CIFAR-100 as published: the binary and the Python version."""

from collections.abc import Sequence
from functools import partial as bind
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsnn.data.cache import New, mapped
from refsnn.data.pickles import array_of, integers_of, play
from refsnn.files.reading import naming_memory, read_bytes
from refsnn.ops import Array, validate

PIXELS = 3 * 32 * 32  # a plane each of red, green and blue, row by row


class Kind(NamedTuple):
    """One of the two data sets.

    File names are those of the Python version; in the binary version they end in .bin.
    """

    name: str
    folders: dict[str, str]  # suffix of the files -> folder
    train: tuple[str, ...]
    test: str
    train_images: int  # per file
    test_images: int
    labels: dict[str, int]  # key in the Python version -> number of classes; the last is used


CIFAR10 = Kind(
    "cifar10",
    {".bin": "cifar-10-batches-bin", "": "cifar-10-batches-py"},
    tuple(f"data_batch_{k}" for k in range(1, 6)),
    "test_batch",
    10_000,
    10_000,
    {"labels": 10},
)
CIFAR100 = Kind(
    "cifar100",
    {".bin": "cifar-100-binary", "": "cifar-100-python"},
    ("train",),
    "test",
    50_000,
    10_000,
    {"coarse_labels": 20, "fine_labels": 100},
)


class Arrays(NamedTuple):
    """Images (N, 32, 32, 3) of uint8 and labels (N,) of int64; read-only memory maps."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def load_cifar10(data_dir: Path, partial: bool = False) -> Arrays:
    """Load 50,000 training and 10,000 test images of 10 classes.

    The files are in `data_dir`, or in it in the folder that the archive contains. `partial` allows
    missing training files, and files with any number of images. ValueError names a file that is
    missing or holds something else.
    """
    return load(CIFAR10, data_dir, partial)


def load_cifar100(data_dir: Path, partial: bool = False) -> Arrays:
    """Load CIFAR-100 with its 100 fine labels, as `load_cifar10` does."""
    return load(CIFAR100, data_dir, partial)


def load(kind: Kind, data_dir: Path, partial: bool) -> Arrays:
    train, test = find(kind, data_dir, partial)
    arrays = mapped(
        kind.name, [*train, test], {"partial": partial}, bind(fill, kind, train, test, partial)
    )
    return Arrays(**arrays)


def find(kind: Kind, data_dir: Path, partial: bool) -> tuple[list[Path], Path]:
    """Find the training files and the test file, in the version with the most files there."""
    versions = [
        [folder / f"{name}{suffix}" for name in (*kind.train, kind.test)]
        for suffix, published in kind.folders.items()
        for folder in (data_dir / published, data_dir)
    ]
    files = max(versions, key=lambda files: sum(path.is_file() for path in files))
    missing = [str(path) for path in files if not path.is_file()]
    if len(missing) == len(files):
        published = " or ".join(kind.folders.values())
        raise ValueError(f"dataset: {data_dir} holds no {kind.name}, want {published} in it")
    train, test = [path for path in files[:-1] if path.is_file()], files[-1]
    if missing and not (partial and train and test.is_file()):
        raise ValueError(
            f"dataset: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, "
            f"want all files of {kind.name}"
        )
    return train, test


def fill(kind: Kind, train: Sequence[Path], test: Path, partial: bool, new: New) -> None:
    for part, paths in (("train", train), ("test", [test])):
        pieces = [read_one(kind, partial, path) for path in paths]
        images, labels = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
        new(f"{part}_images", images.shape, images.dtype)[:] = images
        new(f"{part}_labels", labels.shape, labels.dtype)[:] = labels


def read(kind: Kind, path: Path, count: int | None) -> tuple[Array, Array]:
    """Read the images and labels of one file with `count` of them; None allows any, but not 0."""
    reader = read_binary if path.suffix == ".bin" else read_python
    with naming_memory(path):
        pixels, labels = reader(path, list(kind.labels))
    if len(pixels) != count and (count or len(pixels) == 0):
        raise ValueError(f"dataset: {path}: got {len(pixels)} images, want {count or 'some'}")
    for (key, classes), values in zip(kind.labels.items(), labels, strict=True):
        validate.labels(f"dataset: {path}: {key}", values, len(pixels), classes)
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels[-1].astype(np.int64)


def read_one(kind: Kind, partial: bool, path: Path) -> tuple[Array, Array]:
    """Read one of the files that `find` returns."""
    test = path.stem == kind.test
    count = kind.test_images if test else kind.train_images
    return read(kind, path, None if partial else count)


def read_binary(path: Path, keys: list[str]) -> tuple[Array, list[Array]]:
    """Read records of one byte per label, then the pixels."""
    record = len(keys) + PIXELS
    content = np.frombuffer(read_bytes(path), np.uint8)
    if len(content) % record:
        raise ValueError(f"dataset: {path}: got {len(content)} bytes, want records of {record}")
    rows = content.reshape(-1, record)
    return rows[:, len(keys) :], [rows[:, k] for k in range(len(keys))]


def read_python(path: Path, keys: list[str]) -> tuple[Array, list[Array]]:
    """Read a pickled dictionary without calling anything that the pickle names."""
    content = read_bytes(path)
    try:
        fields = play(content)
        if not isinstance(fields, dict):
            raise ValueError(f"got {type(fields).__name__}, want a dictionary")
        for key in ("data", *keys):
            if key not in fields:
                raise ValueError(f"{key} is missing")
        return pixels_of(fields["data"]), [integers_of(key, fields[key]) for key in keys]
    except MemoryError:
        raise
    except Exception as error:  # a wrong opcode can do anything to the stack
        raise ValueError(
            f"dataset: {path}: not of CIFAR's Python version: {error!s:.200}"
        ) from None


def pixels_of(value: Any) -> Array:
    pixels = array_of("data", value, ("u1",))
    if pixels.shape[1:] != (PIXELS,):
        raise ValueError(f"data: got shape {pixels.shape}, want (N, {PIXELS})")
    return pixels
