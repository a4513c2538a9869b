"""Data sets as training uses them: splits, batches and the statistics of channels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from refsnn.ops import Array, validate

#: (batch of images, generator) -> batch of images
Augmentation = Callable[[Array, np.random.Generator], Array]

#: D22: channel means and standard deviations of pixels in [0, 1]
CHANNEL_STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # D22
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),  # D22
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # the customary ones
}
#: number of pixel values that are processed at a time
PIECE = 1 << 18


class Images(Protocol):
    """Images that are made when they are requested, such as files that must be decoded."""

    shape: tuple[int, ...]  # (N, H, W, C)
    dtype: np.dtype[Any]

    def take(self, which: Array, rng: np.random.Generator | None) -> Array:
        """Return the images at these indices; with a generator, randomly cropped for training."""

    def identity(self) -> Array:
        """Return an array that is different for different images."""


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, C), or sequences of frames (N, T, H, W, C), and labels (N,).

    Pixels are real numbers or integers, and finite.
    """

    images: Array | Images
    labels: Array

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype.kind not in "fiub":
            raise TypeError(f"images: got dtype {images.dtype}, want real numbers")
        if 0 in images.shape:
            raise ValueError(f"images: got shape {images.shape}, want at least one image and pixel")
        if len(images.shape) not in (4, 5):
            raise ValueError(
                f"images: got shape {images.shape}, want (N, H, W, C), or (N, H, W) in a file"
            )
        if isinstance(images, np.ndarray) and images.dtype.kind == "f":
            for index, piece in pieces(images):
                finite = np.isfinite(piece).reshape(len(piece), -1).all(axis=1)
                if not finite.all():
                    index += int(np.argmin(finite))
                    raise ValueError(f"images: image {index} holds NaN or infinity")

    def take(self, which: Array, rng: np.random.Generator | None = None) -> Array:
        """Return images (n, H, W, C) or sequences (n, T, H, W, C) in memory."""
        if isinstance(self.images, np.ndarray):
            return np.asarray(self.images[which])
        return self.images.take(which, rng)

    def identity(self) -> dict[str, Array]:
        """Return arrays that are different for splits of different data."""
        images = self.images
        return {
            "images": images if isinstance(images, np.ndarray) else images.identity(),
            "labels": self.labels,
        }


@dataclass(frozen=True)
class Dataset:
    """A training and a test split; `mean` and `std` (C,) are in the unit of the pixels.

    `costly` says that making a batch is worth a process of its own; `skipped` counts the files that
    were left out because they can't be read.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    mean: Array
    std: Array
    augment: tuple[Augmentation, ...] = ()
    costly: bool = False
    skipped: int = 0

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("test", self.test)):
            validate.labels(f"{part} labels", split.labels, split.images.shape[0], self.num_classes)
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise ValueError(
                f"test images: got {self.test.images.shape[1:]}, "
                f"want {self.train.images.shape[1:]} like the training images"
            )

    def raw_batch(
        self, split: Split, which: Array, rng: np.random.Generator | None = None
    ) -> Array:
        """Return images in the unit of the pixels, augmented where a generator is given."""
        images = split.take(which, rng)
        if rng is not None:
            for augment in self.augment:
                images = augment(images, rng)
        return images

    def batch(
        self, split: Split, which: Array, dtype: Any, rng: np.random.Generator | None = None
    ) -> tuple[Array, Array]:
        """Return standardised images, augmented where a generator is given, and labels."""
        images = self.raw_batch(split, which, rng)
        return standardize(images, self.mean, self.std, dtype), split.labels[which]


def pieces(images: Array) -> Iterator[tuple[int, Array]]:
    """Yield images (N, …) in views (n, …) of about PIECE values, each after its first index.

    An image with more values comes in several views (1, …) of its rows or frames. So computing on
    the views takes little memory.
    """
    size, row = images[0].size, images[0, 0].size
    together = max(PIECE // size, 1)
    for first in range(0, len(images), together):
        if size <= PIECE:
            yield first, images[first : first + together]
            continue
        for start in range(0, images.shape[1], max(PIECE // row, 1)):
            yield first, images[first : first + 1, start : start + max(PIECE // row, 1)]


def channel_range(images: Array) -> tuple[Array, Array]:
    """Return the lowest and the highest value (C,) of each channel, in the images' dtype."""
    low = high = images[(0,) * (images.ndim - 1)]
    for _, piece in pieces(images):
        pixels = piece.reshape(-1, images.shape[-1])
        low, high = np.minimum(low, pixels.min(axis=0)), np.maximum(high, pixels.max(axis=0))
    return low, high


def channel_statistics(images: Array) -> tuple[Array, Array]:
    """Compute mean and standard deviation (C,) of each channel of the images (D22).

    A constant channel has its value as mean and the standard deviation 1. Computed, the standard
    deviation would be only rounding error, and the mean's error as large.
    """
    count = images.size // images.shape[-1]
    total = squares = np.zeros(images.shape[-1])
    low, high = channel_range(images)
    for _, piece in pieces(images):
        pixels = piece.reshape(-1, images.shape[-1])
        with np.errstate(over="ignore"):  # infinite beyond float64's range
            total = total + pixels.astype(np.float64).sum(axis=0)
    mean = np.where(low == high, low, total / count)
    for _, piece in pieces(images):
        deviations = piece.reshape(-1, images.shape[-1]).astype(np.float64) - mean
        with np.errstate(over="ignore"):
            squares = squares + (deviations**2).sum(axis=0)
    return mean, np.where(low == high, 1.0, np.sqrt(squares / count))


def standardize(images: Array, mean: Any, std: Any, dtype: Any) -> Array:
    """Compute (images - mean) / std per channel, in `dtype`."""
    return (images.astype(dtype) - np.asarray(mean, dtype)) / np.asarray(std, dtype)
