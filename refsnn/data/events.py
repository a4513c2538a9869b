"""Conversion of event recordings to frames (D23), and augmentation of frames."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from refsnn.ops import Array, validate


class Events(NamedTuple):
    """A recording in order of time, as arrays (n,) of integers.

    As in an image, x counts to the right and y down. Polarity 1 is ON (brighter), 0 is OFF.
    """

    t: Array  # microseconds, int64
    x: Array
    y: Array
    polarity: Array


def events_to_frames(
    t: Array,
    x: Array,
    y: Array,
    polarity: Array,
    steps: int,
    sensor: int | tuple[int, int],
    slices: str = "count",
) -> Array:
    """Count events per slice, pixel and polarity: (T, height, width, 2), int64 (D23).

    The first four arguments are the fields of `Events`. `sensor` is the side of a square sensor, or
    (height, width). `slices` cuts the recording into T parts of equal event count or of equal
    duration; the remainder of the count goes to the last slice.
    """
    validate.whole("steps", steps, 1)
    validate.one_of("slices", slices, ("count", "duration"))
    height, width = sensor if isinstance(sensor, tuple) else (sensor, sensor)
    check_events(Events(t, x, y, polarity), height, width)
    frames = np.empty((steps, height * width * 2), np.int64)
    bounds = slice_bounds(t, steps, slices)  # D23
    for frame, (start, end) in zip(frames, pairwise(bounds), strict=True):
        row, column, channel = (v[start:end].astype(np.intp) for v in (y, x, polarity))
        frame[:] = np.bincount((row * width + column) * 2 + channel, minlength=frame.size)
    return frames.reshape(steps, height, width, 2)


def check_events(events: Events, height: int, width: int) -> None:
    """Check that events are in order and in bounds; ValueError or TypeError names the field."""
    n = len(events.t)
    if n == 0:
        raise ValueError("t: got no events, want at least one")
    limits = (np.iinfo(np.int64).max, width, height, 2)
    for name, values, limit in zip(Events._fields, events, limits, strict=True):
        if values.dtype.kind not in "iu":
            raise TypeError(f"{name}: got dtype {values.dtype}, want integers")
        if len(values) != n or values.min() < 0 or values.max() >= limit:
            raise ValueError(f"{name}: want {n} values from 0 to {limit - 1}")
    if np.any(events.t[1:] < events.t[:-1]):
        raise ValueError("t: want times in order")


def slice_bounds(t: Array, steps: int, slices: str) -> list[int]:
    """Return the index at which each of the T slices begins, and the last one's end (D23)."""
    n = len(t)
    if slices == "count":
        starts = [min(k * max(n // steps, 1), n) for k in range(steps)]  # D23
    else:
        first, duration = int(t[0]), max(int(t[-1]) - int(t[0]), 1)  # Python's integers: exact
        times = [first - (-k * duration // steps) for k in range(steps)]  # D23, rounded up
        starts = np.searchsorted(t.astype(np.int64, copy=False), times).tolist()
    return [*starts, n]


def resize_nearest(frames: Array, size: int) -> Array:
    """Resize frames (T, H, W, C) to (T, size, size, C): pixel i shows row floor(i H / size)."""
    validate.whole("size", size, 1)
    rows = np.arange(size) * frames.shape[1] // size
    columns = np.arange(size) * frames.shape[2] // size
    return frames[:, rows[:, None], columns[None, :]]  # D23


def split_by_order(labels: Array, train: int) -> Array:
    """Return a mask (N,) that is True for the first `train` recordings of each class.

    D23: 900 of 1,000, in file order.
    """
    validate.whole("train", train, 0)
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[:train]] = True
    return mask


def random_roll(frames: Array, rng: np.random.Generator, most: int = 5) -> Array:
    """Roll each sample of (N, T, H, W, C) by up to `most` pixels in each direction.

    All frames of a sample are rolled by the same pixels.
    """
    validate.whole("most", most, 0)
    shifts = rng.integers(-most, most + 1, (len(frames), 2))
    return np.stack([np.roll(f, s, axis=(1, 2)) for f, s in zip(frames, shifts, strict=True)])
