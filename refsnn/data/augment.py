"""Augmentation: pure functions of a batch of images (N, H, W, C) and a generator."""

import numpy as np

from refsnn.ops import Array, validate


def random_crop(images: Array, rng: np.random.Generator, padding: int) -> Array:
    """Each image shifted by up to `padding` pixels each way; zeros come in from outside."""
    validate.at_least("padding", padding, 0)
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = rng.integers(0, 2 * padding + 1, (2, n))
    return np.stack(
        [p[r : r + height, c : c + width] for p, r, c in zip(padded, rows, columns, strict=True)]
    )


def random_flip(images: Array, rng: np.random.Generator) -> Array:
    """Each image mirrored left to right with probability 1/2."""
    flip = rng.random(len(images)) < 0.5
    return np.where(flip[:, None, None, None], images[:, :, ::-1], images)


def cutout(images: Array, rng: np.random.Generator, size: int) -> Array:
    """A square of `size` pixels set to 0 in each image (D24), centred anywhere, cut at the border."""
    validate.at_least("size", size, 1)
    n, height, width, _ = images.shape
    top = rng.integers(0, height, n)[:, None] - size // 2
    left = rng.integers(0, width, n)[:, None] - size // 2
    rows, columns = np.arange(height)[None], np.arange(width)[None]
    inside_rows = (rows >= top) & (rows < top + size)
    inside_columns = (columns >= left) & (columns < left + size)
    hole = inside_rows[:, :, None] & inside_columns[:, None, :]
    return np.where(hole[..., None], 0, images).astype(images.dtype)  # D24
