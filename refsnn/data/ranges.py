"""Checks that two splits are in one unit, and that a precision can hold their images."""

from typing import NamedTuple

import numpy as np

from refsnn.data.dataset import Dataset, channel_range, pieces, standardize
from refsnn.ops import Array

FACTOR = 8  # between the sizes of two splits' images that are taken for two units
FEW = 5  # images that say nothing about a split
MOST_LOSS = 0.01  # largest rounding error of a pixel near the mean, in standard deviations


class Extent(NamedTuple):
    """The lowest and highest value (C,) of each channel, float64, and the root mean square (N,) of
    each image."""

    low: Array
    high: Array
    size: Array


def extent_of(images: Array) -> Extent:
    squares = np.zeros(len(images))
    for first, piece in pieces(images):
        rows = piece.reshape(len(piece), -1).astype(np.float64)
        squares[first : first + len(piece)] += np.einsum("ij,ij->i", rows, rows)
    size = np.sqrt(squares / images[0].size)
    low, high = (values.astype(np.float64) for values in channel_range(images))
    return Extent(low, high, size)


def check_same_range(train: Array, test: Array, extents: tuple[Extent, Extent]) -> str:
    """Refuse splits in two units, such as 0 to 1 and 0 to 255, whose training would look right.

    Two splits count as being in two units if one holds real numbers and the other integers, or if
    nine in ten images of one are at least FACTOR times as large, by their root mean square, as nine
    in ten of the other. Images that are black do not count. A hot pixel moves one image, and images
    of all sizes overlap. With fewer than FEW images in a split it is only a doubt, which is
    returned as a text (else an empty one): so few differ by chance. ValueError.
    """
    kinds = [images.dtype.kind == "f" for images in (train, test)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"train_images are {train.dtype}, test_images {test.dtype}: want both of one kind and "
            "in one unit; --any-range takes them as they are"
        )
    sizes = [e.size[np.isfinite(e.size) & (e.size > 0)] for e in extents]
    if not all(map(len, sizes)):
        return ""
    (low_train, high_train), (low_test, high_test) = (
        np.quantile(size, (0.1, 0.9), method="inverted_cdf") for size in sizes
    )
    if low_test >= FACTOR * high_train or low_train >= FACTOR * high_test:
        got = [f"{np.median(size):.3g}" for size in sizes]
        found = f"train_images are around {got[0]}, test_images around {got[1]} (root mean square)"
        if min(map(len, sizes)) < FEW:
            return f"{found}: are both in one unit?"
        raise ValueError(f"{found}: want both in one unit; --any-range takes them as they are")
    return ""


def check_precision(dataset: Dataset, extents: tuple[Extent, Extent], dtype: str) -> None:
    """Refuse images that are not finite once they are standardised in `dtype`, or that lose what
    they differ in: integers beyond its digits, a large offset. ValueError names image or channel.
    """
    eps = float(np.finfo(dtype).eps)
    other = ", or --dtype float64" if dtype == "float32" else ""
    with np.errstate(all="ignore"):
        usable = np.isfinite(dataset.mean.astype(dtype)) & np.isfinite(dataset.std.astype(dtype))
        for part, extent in zip(("train", "test"), extents, strict=True):
            ends = np.stack([extent.low, extent.high])
            finite = np.isfinite(standardize(ends, dataset.mean, dataset.std, dtype)) & usable
            if not finite.all():
                channel = int(np.argmin(finite.all(axis=0)))
                value = max(ends[~finite[:, channel], channel], key=abs)
                images = getattr(dataset, part).images
                raise ValueError(
                    f"{part}_images: image {holder(images, channel, value)} holds {value:g}, which "
                    f"{dtype} can't standardise (mean {dataset.mean[channel]:g}, standard "
                    f"deviation {dataset.std[channel]:g}); want smaller numbers{other}"
                )
        constant = extents[0].low == extents[0].high
        loss = np.where(constant, 0, np.abs(dataset.mean) * eps / 2 / dataset.std)
    if loss.max() > MOST_LOSS:
        channel = int(loss.argmax())
        raise ValueError(
            f"train_images: channel {channel} has the mean {dataset.mean[channel]:g} and the "
            f"standard deviation {dataset.std[channel]:g}, too small a part of it for {dtype}; "
            f"want an offset subtracted{other}"
        )


def holder(images: Array, channel: int, value: float) -> int:
    """Find the first image whose channel has the value."""
    found = (
        first + int(np.argwhere(piece[..., channel].astype(np.float64) == value)[0, 0])
        for first, piece in pieces(images)
        if (piece[..., channel].astype(np.float64) == value).any()
    )
    return next(found)
