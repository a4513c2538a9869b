"""What training needs of a data set, and how a batch is made of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsnn.ops import Array, validate

#: (batch of images, generator) -> batch of images
Augmentation = Callable[[Array, np.random.Generator], Array]

#: D22: channel means and standard deviations of pixels in [0, 1]
CHANNEL_STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # D22
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),  # D22
}


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, C), real or integer, all finite, and labels (N,)."""

    images: Array
    labels: Array

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype.kind not in "fiub":
            raise TypeError(f"images: got dtype {images.dtype}, want real numbers")
        if images.ndim != 4 or images.size == 0:
            raise ValueError(
                f"images: got shape {images.shape}, want (N, H, W, C), or (N, H, W) in a file"
            )
        finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
        if not finite.all():
            raise ValueError(f"images: image {int(np.argmin(finite))} holds NaN or infinity")


@dataclass(frozen=True)
class Dataset:
    """A training and a test split; `mean` and `std` (C,) in the unit of the pixels."""

    name: str
    train: Split
    test: Split
    num_classes: int
    mean: Array
    std: Array
    augment: tuple[Augmentation, ...] = ()

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("test", self.test)):
            validate.labels(f"{part} labels", split.labels, len(split.images), self.num_classes)
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise ValueError(
                f"test images: got {self.test.images.shape[1:]}, "
                f"want {self.train.images.shape[1:]} like the training images"
            )

    def batch(
        self, split: Split, which: Array, dtype: Any, rng: np.random.Generator | None = None
    ) -> tuple[Array, Array]:
        """Standardised images (N, H, W, C) and labels; augmented where a generator is given."""
        images = split.images[which]
        if rng is not None:
            for augment in self.augment:
                images = augment(images, rng)
        return standardize(images, self.mean, self.std, dtype), split.labels[which]


def channel_statistics(images: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of every channel of the data (D22); 1 for a constant one."""
    pixels = images.reshape(-1, images.shape[-1]).astype(np.float64)
    std = pixels.std(axis=0)
    return pixels.mean(axis=0), np.where(std > 0, std, 1.0)


def standardize(images: Array, mean: Any, std: Any, dtype: Any) -> Array:
    """(images - mean) / std by channel, in `dtype`."""
    return (images.astype(dtype) - np.asarray(mean, dtype)) / np.asarray(std, dtype)
