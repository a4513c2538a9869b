"""Event recordings as frames (D23). Events are arrays t, x, y (pixels), polarity (0 or 1)."""

import numpy as np

from refsnn.ops import Array, validate


def events_to_frames(
    t: Array, x: Array, y: Array, polarity: Array, steps: int, sensor: int, slices: str = "count"
) -> Array:
    """Event counts (T, sensor, sensor, 2), one frame a slice (D23). All arrays hold integers.

    `slices` cuts the recording into T parts of equal event count or equal
    duration; a remainder of the count goes to the last slice.
    """
    validate.whole("steps", steps, 1)
    validate.one_of("slices", slices, ("count", "duration"))
    n = len(t)
    if n == 0:
        raise ValueError("t: got no events, want at least one")
    largest = np.iinfo(np.int64).max
    for name, values, limit in (
        ("t", t, largest), ("x", x, sensor), ("y", y, sensor), ("polarity", polarity, 2),
    ):  # fmt: skip
        if values.dtype.kind not in "iu":
            raise TypeError(f"{name}: got dtype {values.dtype}, want integers")
        if len(values) != n or np.min(values) < 0 or np.max(values) >= limit:
            raise ValueError(f"{name}: want {n} values from 0 to {limit - 1}")
    t, x, y, polarity = (values.astype(np.int64) for values in (t, x, y, polarity))
    if np.any(np.diff(t) < 0):
        raise ValueError("t: want times in order")
    if slices == "count":
        which = np.minimum(np.arange(n) // max(n // steps, 1), steps - 1)  # D23
    else:
        elapsed = t - t[0]
        which = np.minimum(elapsed * steps // max(elapsed[-1], 1), steps - 1)  # D23
    index = ((which * sensor + y) * sensor + x) * 2 + polarity
    counts = np.bincount(index, minlength=steps * sensor * sensor * 2)
    return counts.reshape(steps, sensor, sensor, 2)


def resize_nearest(frames: Array, size: int) -> Array:
    """(T, H, W, C) -> (T, size, size, C); pixel i shows the source's floor(i H / size)."""
    validate.whole("size", size, 1)
    rows = np.arange(size) * frames.shape[1] // size
    columns = np.arange(size) * frames.shape[2] // size
    return frames[:, rows[:, None], columns[None, :]]  # D23


def split_by_order(labels: Array, train: int) -> Array:
    """True for the first `train` recordings of each class, in file order (D23: 900 of 1,000)."""
    validate.whole("train", train, 0)
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[:train]] = True
    return mask
