"""Checks that two splits are in one unit, and that a precision can hold their images."""

from typing import NamedTuple

import numpy as np

from refsnn.data.dataset import Dataset, channel_range, pieces, standardize
from refsnn.ops import Array

FACTOR = 8  # ratio of the sizes of two splits' images from which they are taken for two units
FEW = 5  # fewer images than this say nothing about a split
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
    """Check that two splits are in one unit; return a doubt as text, or "" if there is none.

    Training on splits in two units, such as 0 to 1 and 0 to 255, would look right. Raises
    ValueError if one split holds real numbers and the other integers, or if nine in ten images of
    one are at least FACTOR times as large, by their root mean square, as nine in ten of the other.
    This ignores black images; a hot pixel changes only one image. With fewer than FEW images in a
    split, which may differ by chance, it only returns a doubt.
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
    """Check that `dtype` can hold the standardised images; ValueError names the image or channel.

    They must be finite. Rounding must not hide the differences between pixels, as it does where a
    large offset or large integers exceed the digits of `dtype`.
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
    """Return the index of the first image that has the value in the channel."""
    found = (
        first + int(np.argwhere(piece[..., channel].astype(np.float64) == value)[0, 0])
        for first, piece in pieces(images)
        if (piece[..., channel].astype(np.float64) == value).any()
    )
    return next(found)
