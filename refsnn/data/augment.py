"""Augmentations: pure functions of a batch of images (N, H, W, C) and a random generator."""

import numpy as np

from refsnn.ops import Array, validate


def random_crop(images: Array, rng: np.random.Generator, padding: int) -> Array:
    """Shift each image by up to `padding` pixels in each direction, filling in zeros."""
    validate.whole("padding", padding, 0)
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = rng.integers(0, 2 * padding + 1, (2, n))
    return np.stack(
        [p[r : r + height, c : c + width] for p, r, c in zip(padded, rows, columns, strict=True)]
    )


def random_flip(images: Array, rng: np.random.Generator) -> Array:
    """Mirror each image, or sequence (N, T, H, W, C), left to right with probability 1/2."""
    flip = rng.random(len(images)) < 0.5
    out = images.copy()
    out[flip] = images[flip][..., ::-1, :]
    return out


def cutout(images: Array, rng: np.random.Generator, size: int) -> Array:
    """Set a square with sides of `size` pixels to 0 in each image, centred anywhere (D24)."""
    validate.whole("size", size, 1)
    n, height, width, _ = images.shape
    top = rng.integers(0, height, (n, 1)) - size // 2
    left = rng.integers(0, width, (n, 1)) - size // 2
    in_rows = (np.arange(height) >= top) & (np.arange(height) < top + size)
    in_columns = (np.arange(width) >= left) & (np.arange(width) < left + size)
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    return np.where(hole[..., None], 0, images).astype(images.dtype)  # D24
