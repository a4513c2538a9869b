"""Event frames and splits (D23) and the moments of the initial parameters (D18)."""

import math

import numpy as np


def frames(t, x, y, polarity, steps, sensor, slices):
    """Count events by [slice, y, x, polarity] into frames (T, sensor, sensor, 2) (D23).

    The events are in order of time. With slices "count", each slice has n // T events (at least 1)
    and the last one the rest; with "duration", all slices take equal times.
    """
    if slices not in ("count", "duration"):
        raise ValueError(f"unknown slices {slices!r}")
    counts = np.zeros((steps, sensor, sensor, 2))
    n = len(t)
    for event in range(n):
        if slices == "count":
            part = event // max(n // steps, 1)
        else:
            first, last = int(t[0]), int(t[n - 1])
            part = (int(t[event]) - first) * steps // max(last - first, 1)
        part = min(part, steps - 1)
        counts[part, int(y[event]), int(x[event]), int(polarity[event])] += 1.0
    return counts


def resize_nearest(frames, size):
    """Resize (T, H, W, P) to (T, size, size, P); pixel i shows source pixel floor(i H / size)."""
    frames = np.asarray(frames, dtype=float)
    steps, height, width, planes = frames.shape
    resized = np.zeros((steps, size, size, planes))
    for t in range(steps):
        for i in range(size):
            for j in range(size):
                for p in range(planes):
                    resized[t, i, j, p] = frames[t, i * height // size, j * width // size, p]
    return resized


def first_of_each_class(labels, count):
    """Return True for the first `count` examples of every class, in the given order (D23)."""
    seen = {}
    chosen = []
    for label in labels:
        before = seen.get(int(label), 0)
        chosen.append(before < count)
        seen[int(label)] = before + 1
    return chosen


def initial_std(name, shape):
    """Return the standard deviation of a parameter's initial values, 0 for constants (D18)."""
    if not name.endswith(".weight") or len(shape) == 1:
        return 0.0
    if len(shape) == 2:
        return 1.0 / shape[0]
    kernel_rows, kernel_columns, _c_in, c_out = shape
    return math.sqrt(2.0 / (kernel_rows * kernel_columns * c_out))


def initial_mean(name, shape):
    """Return the mean of a parameter's initial values: 1 for batch norm's gamma, else 0 (D18)."""
    return 1.0 if name.endswith(".weight") and len(shape) == 1 else 0.0
