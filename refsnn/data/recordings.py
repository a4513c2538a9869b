"""Readers of event cameras' recordings, and of data sets with recordings in class folders."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from refsnn.data.aedat import in_order, read_aedat
from refsnn.data.events import Events, events_to_frames, resize_nearest, split_by_order
from refsnn.data.matlab import read_variables
from refsnn.data.parallel import each
from refsnn.files.arrays import read_whole
from refsnn.files.reading import naming_memory, read_bytes
from refsnn.ops import Array, validate

EVENT_BYTES = 5
#: an event in this row of N-MNIST's files only says that all later times are this much later
OVERFLOW_ROW, OVERFLOW = 240, 1 << 13  # microseconds
DVS128 = 128
MOST = np.iinfo(np.int16).max
FIELDS = ("t", "x", "y", "p")  # of a recording in an .npz file
CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


class Recordings(NamedTuple):
    """Files of a data set, class by class, each class in file order; labels (N,) int64."""

    paths: list[Path]
    labels: Array
    class_names: list[str]


class EventSet(NamedTuple):
    """The splits of a data set, the side of its square sensor, and the function to read a file."""

    train: Recordings
    test: Recordings
    sensor: int
    read: Callable[[Path], Events]


def read_bin(path: Path) -> Events:
    """Read N-MNIST's file: x, y, then polarity (1 bit) and microseconds (23 bits), big-endian."""
    data = np.frombuffer(read_bytes(path), np.uint8)
    n, rest = divmod(len(data), EVENT_BYTES)
    if rest:
        raise ValueError(
            f"{path}: byte {EVENT_BYTES * n}: the last event has {rest} bytes, want {EVENT_BYTES}"
        )
    x, y, high, middle, low = data.reshape(n, EVENT_BYTES).T.astype(np.int64)
    overflow = y == OVERFLOW_ROW
    t = ((high & 127) << 16 | middle << 8 | low) + OVERFLOW * np.cumsum(overflow)
    return checked(path, *(v[~overflow] for v in (t, x, y, high >> 7)))


def read_mat(path: Path) -> Events:
    """Read a DVS128 recording as `dat2mat.m` writes it: a matrix with one row per event.

    The columns are t, x, y, polarity, or t, two unused ones, x, y, polarity; y counts from below,
    and polarity is 1 for ON, -1 or 0 for OFF. The matrix is named out1 or is the only variable.
    """
    rows = read_matrix(path)
    t, x, y, polarity = rows[:, [0, -3, -2, -1]].T
    if len(y) and not 0 <= y.min() <= y.max() < DVS128:
        raise ValueError(f"{path}: y: want values from 0 to {DVS128 - 1}")
    return checked(path, t, x, DVS128 - 1 - y, np.where(polarity == -1, 0, polarity))


def read_matrix(path: Path) -> Array:
    """Read out1 or the only variable of a MATLAB file: whole numbers (n, 4) or (n, 6), as int64."""
    content = read_bytes(path)
    try:
        variables = read_variables(content)
        name = "out1" if "out1" in variables or len(variables) != 1 else next(iter(variables))
        if name not in variables:
            some = [validate.named(other) for other in variables][:8] + ["..."] * (
                len(variables) > 8
            )
            raise ValueError(f"got the variables {', '.join(some) or 'none'}, want out1")
        matrix, name = variables[name], validate.named(name)
        if isinstance(matrix, str) or matrix.ndim != 2 or matrix.shape[1] not in (4, 6):
            got = matrix if isinstance(matrix, str) else matrix.shape
            raise ValueError(f"{name}: got {got}, want numbers (n, 4) or (n, 6)")
        with np.errstate(invalid="ignore"):  # the next comparison finds NaN
            whole = matrix.astype(np.int64)
        if not np.array_equal(whole, matrix):
            raise ValueError(f"{name}: want whole numbers")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return whole


def read_npz_events(path: Path) -> Events:
    """Read arrays t, x, y, p (n,) of integers; x counts to the right, y down, p is 1 for ON."""
    arrays = read_whole(path, None, FIELDS)
    for name in FIELDS:
        if name not in arrays:
            raise ValueError(f"{path}: {name} is missing, want t, x, y, p")
        values = arrays[name]
        if values.dtype.kind not in "iu" or values.ndim != 1 or len(values) != len(arrays["t"]):
            got = f"{values.dtype} {values.shape}"
            raise ValueError(f"{path}: {name}: got {got}, want integers (n,) like t")
    return checked(path, *(arrays[name] for name in FIELDS))


def checked(path: Path, t: Array, x: Array, y: Array, polarity: Array) -> Events:
    """Return events in order of time, in the types of `Events`; ValueError for large values."""
    if len(t) == 0:
        raise ValueError(f"{path}: got no events")
    limits = (np.iinfo(np.int64).max, MOST, MOST, 1)
    for name, v, most in zip(Events._fields, (t, x, y, polarity), limits, strict=True):
        if v.min() < 0 or v.max() > most:
            raise ValueError(f"{path}: {name}: got {v.min()} to {v.max()}, want 0 to {most}")
    x, y, polarity = (values.astype(np.int16) for values in (x, y, polarity))
    return in_order(Events(t.astype(np.int64), x, y, polarity))


READERS = {".aedat": read_aedat, ".bin": read_bin, ".mat": read_mat, ".npz": read_npz_events}


def read_recording(path: Path) -> Events:
    """Read one file in the format that its suffix says; ValueError names the file."""
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path}: got {path.suffix or 'no suffix'}, want {', '.join(READERS)}")
    with naming_memory(path):
        return READERS[path.suffix.lower()](path)


def recordings_of(folder: Path) -> Recordings:
    """List the recordings in a folder's class folders, in natural order: _2 before _10."""
    if not folder.is_dir():
        raise ValueError(f"dataset: {folder} is missing, want a folder of class folders")
    classes = in_natural_order(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    if not classes:
        raise ValueError(f"dataset: {folder}: got no class folders")
    paths: list[Path] = []
    labels: list[int] = []
    for label, inner in enumerate(classes):
        files = in_natural_order(p for p in inner.iterdir() if p.name[0] != "." and not p.is_dir())
        suffixes = {p.suffix.lower() for p in files}
        if len(suffixes) != 1 or not suffixes <= set(READERS):
            got = ", ".join(sorted(suffixes)) or "no files"
            raise ValueError(f"dataset: {inner}: got {got}, want one of {', '.join(READERS)}")
        paths += files
        labels += [label] * len(files)
    return Recordings(paths, np.array(labels, np.int64), [p.name for p in classes])


def in_natural_order(paths: Iterator[Path]) -> list[Path]:
    """Sort paths by name, with numbers in it by value, as data sets number their recordings."""

    def key(path: Path) -> tuple[list[str | int], str]:
        parts = re.split("([0-9]+)", path.name)  # every second one is a number
        return [int(part) if k % 2 else part for k, part in enumerate(parts)], path.name

    return sorted(paths, key=key)


def cifar10dvs(folder: Path, train: int = 900) -> EventSet:
    """Find CIFAR10-DVS in ten class folders; the first `train` of each are for training (D23)."""
    every = recordings_of(folder)
    if tuple(every.class_names) != CIFAR10:
        got = ", ".join(every.class_names)
        raise ValueError(f"dataset: {folder}: got the classes {got}, want {', '.join(CIFAR10)}")
    counts = np.bincount(every.labels)
    if counts.min() <= train:
        name = CIFAR10[counts.argmin()]
        raise ValueError(
            f"dataset: {folder / name}: got {counts.min()} recordings, want more than the {train} "
            "for training"
        )
    first = split_by_order(every.labels, train)  # D23
    return EventSet(chosen(every, first), chosen(every, ~first), DVS128, read_cifar10dvs)


def chosen(recordings: Recordings, mask: Array) -> Recordings:
    paths = [path for path, take in zip(recordings.paths, mask, strict=True) if take]
    return recordings._replace(paths=paths, labels=recordings.labels[mask])


def read_cifar10dvs(path: Path) -> Events:
    """Read a recording with its picture upright, exchanging x and y as the camera wrote them.

    Public code does this when it reads AEDAT files, so the `.npz` files that it writes are upright.
    """
    events = read_recording(path)
    if path.suffix.lower() in (".aedat", ".mat"):
        return events._replace(x=events.y, y=events.x)
    return events


def nmnist(folder: Path) -> EventSet:
    """Find N-MNIST in the folders Train and Test, each with a folder for every digit."""
    train, test = recordings_of(folder / "Train"), recordings_of(folder / "Test")
    if train.class_names != test.class_names:
        got = ", ".join(sorted(set(train.class_names) ^ set(test.class_names)))
        raise ValueError(f"dataset: {folder}: got {got} in one of Train and Test, want it in both")
    return EventSet(train, test, 34, read_recording)


def make_frames(
    data: EventSet,
    new: Callable[[str, tuple[int, ...], Any], Array],
    steps: int,
    size: int,
    slices: str = "count",
    jobs: int = 1,
) -> None:
    """Make the frames and labels of both splits in arrays from new(name, shape, dtype).

    The arrays are train_frames, train_labels, test_frames and test_labels. Frames are
    (N, T, size, size, 2) uint16, labels (N,) int64.
    """
    for part in ("train", "test"):
        paths, labels, _ = getattr(data, part)
        frames = new(f"{part}_frames", (len(paths), steps, size, size, 2), np.uint16)
        made = frames_of(paths, steps, data.sensor, size, slices, jobs, data.read)
        for k, one in enumerate(tqdm(made, f"{part} recordings", len(paths), disable=None)):
            frames[k] = one
        new(f"{part}_labels", labels.shape, labels.dtype)[:] = labels


def frames_of(
    paths: Sequence[Path],
    steps: int,
    sensor: int | tuple[int, int],
    size: int,
    slices: str = "count",
    jobs: int = 1,
    read: Callable[[Path], Events] = read_recording,
) -> Iterator[Array]:
    """Yield the frames (T, size, size, 2), uint16, of each file in order (D23).

    Runs in `jobs` processes (see `each`).
    """
    make = partial(frames_in, steps=steps, sensor=sensor, size=size, slices=slices, read=read)
    yield from each(make, paths, jobs)


def frames_in(
    path: Path,
    steps: int,
    sensor: int | tuple[int, int],
    size: int,
    slices: str,
    read: Callable[[Path], Events],
) -> Array:
    events = read(path)
    try:
        with naming_memory(path):
            counts = resize_nearest(events_to_frames(*events, steps, sensor, slices), size)  # D23
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    most = np.iinfo(np.uint16).max
    if counts.max() > most:
        raise ValueError(f"{path}: got {counts.max()} events at a pixel, want at most {most}")
    return counts.astype(np.uint16)
