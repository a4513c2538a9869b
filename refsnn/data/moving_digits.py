"""Simulated event recordings of the digits, moved in three saccades as for N-MNIST."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from refsnn.data.digits import load_digits
from refsnn.data.events import Events, events_to_frames, resize_nearest
from refsnn.ops import Array, validate

FIELD, SCALE = 34, 3  # side of the sensor; pixels of the sensor per pixel of a digit
SACCADE, VIEWS = 100_000, 50  # microseconds per saccade; views of the digit per saccade
CORNERS = np.array([[-3.0, -2.0], [0.0, 4.0], [3.0, -2.0]])  # x, y of the path, in pixels
JITTER = 1.0  # most pixels by which each corner is moved at random, in each direction
DARK = 0.1  # background light; the brightest pixel of a digit adds 1
THRESHOLD = 0.3  # change in the logarithm of light that causes an event
CHUNK = 64  # images at a time: their pixels fit into a core's cache
SEED = 0  # of the data set


def moving_digits(
    images: Array, rng: np.random.Generator, threshold: float = THRESHOLD
) -> Iterator[Events]:
    """Yield the events that a sensor of FIELD x FIELD pixels records of each image (N, H, W).

    Images are light from 0 to 1. Each moves along a triangle, whose corners are drawn for each
    image, and ends where it began, so every pixel fires ON as often as OFF.
    """
    validate.positive("threshold", threshold)
    if images.ndim != 3 or images.size == 0 or images.min() < 0 or images.max() > 1:
        raise ValueError(f"images: got shape {images.shape}, want (N, H, W) of light 0 to 1")
    corners = CORNERS + rng.uniform(-JITTER, JITTER, (len(images), 3, 2))
    times = np.linspace(0, 3 * SACCADE, 3 * VIEWS + 1)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        light = (view(images[part], shift) for shift in saccades(corners[part]))
        image, events = brightness_events((np.log(DARK + v) for v in light), times, threshold)
        ends = np.cumsum(np.bincount(image, minlength=len(images[part])))
        for first, last in pairwise([0, *ends.tolist()]):
            yield Events(*(values[first:last] for values in events))


def saccades(corners: Array) -> Iterator[Array]:
    """Yield the images' positions (N, 2) in each view, along the corners (N, 3, 2) and back."""
    yield corners[:, 0]
    for leg in range(3):
        start, end = corners[:, leg], corners[:, (leg + 1) % 3]
        for k in range(1, VIEWS):
            yield start + (end - start) * (1 - np.cos(np.pi * k / VIEWS)) / 2  # rests at corners
        yield end


def view(images: Array, shift: Array) -> Array:
    """Return the light (N, FIELD, FIELD) of images (N, H, W), shifted by (N, 2) pixels (x, y).

    Images are enlarged SCALE times with linear interpolation.
    """
    height, width = images.shape[1:]
    rows = weights(shift[:, 1], height)
    columns = weights(shift[:, 0], width)
    return rows @ images @ columns.swapaxes(1, 2)


def weights(shift: Array, size: int) -> Array:
    """Return the weights (N, FIELD, size) of an image line's pixels in each pixel of the sensor."""
    from_centre = np.arange(FIELD) - (FIELD - 1) / 2 - shift[:, None]
    source = from_centre / SCALE + (size - 1) / 2
    return np.maximum(0, 1 - np.abs(source[..., None] - np.arange(size)))


def brightness_events(
    video: Iterable[Array], times: Array, threshold: float
) -> tuple[Array, Events]:
    """Return the events of ideal pixels, sorted by image and then time, after their images (n,).

    `video` yields the brightness (N, H, W) at each of `times` (microseconds), linear in between. A
    pixel fires whenever its brightness has changed by `threshold` since its last event.
    """
    found = []
    views = iter(video)
    before = next(views)
    level = before.copy()  # brightness at a pixel's last event
    for now, (start, end) in zip(views, pairwise(times), strict=True):
        count = np.trunc((now - level) / threshold * (1 + 1e-9))  # so that rounding loses no event
        fires = np.flatnonzero(count)
        change = count.flat[fires]
        repeats = np.abs(change).astype(np.intp)
        pixel, sign = np.repeat(fires, repeats), np.repeat(np.sign(change), repeats)
        nth = np.arange(1, len(pixel) + 1) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        crossed = level.flat[pixel] + sign * nth * threshold
        fraction = (crossed - before.flat[pixel]) / (now.flat[pixel] - before.flat[pixel])
        found.append((start + np.clip(fraction, 0, 1) * (end - start), pixel, sign))
        level += count * threshold
        before = now
    t, pixel, sign = (np.concatenate(values) for values in zip(*found, strict=True))
    order = np.lexsort((t, pixel // before[0].size))
    image, row, column = np.unravel_index(pixel[order], before.shape)
    x, y, polarity = (v.astype(np.int16) for v in (column, row, sign[order] > 0))
    return image, Events(np.rint(t[order]).astype(np.int64), x, y, polarity)


#: all that the data set depends on besides T, size and slices
MADE_BY = {
    "field": FIELD,
    "scale": SCALE,
    "saccade": SACCADE,
    "views": VIEWS,
    "corners": CORNERS.tolist(),
    "jitter": JITTER,
    "dark": DARK,
    "threshold": THRESHOLD,
    "seed": SEED,
}


def make_moving_digits(
    new: Callable[[str, tuple[int, ...], Any], Array], steps: int, size: int, slices: str = "count"
) -> None:
    """Make the frames and labels of both splits in arrays from new(name, shape, dtype).

    The arrays are train_frames, train_labels, test_frames and test_labels. Frames are
    (N, T, size, size, 2) uint16 (D23), labels (N,) int64. The splits are those of R2.
    """
    digits, rng = load_digits(), np.random.default_rng(SEED)
    for part, split in (("train", digits.train), ("test", digits.test)):
        images = split.take(np.arange(len(split.labels)))[..., 0] / 16
        frames = new(f"{part}_frames", (len(images), steps, size, size, 2), np.uint16)
        for k, events in enumerate(moving_digits(images, rng)):
            frames[k] = resize_nearest(events_to_frames(*events, steps, FIELD, slices), size)
        new(f"{part}_labels", split.labels.shape, np.int64)[:] = split.labels
