"""The UCI handwritten digits that come with the package; source and licence: digits.md."""

import hashlib
import io
from functools import partial
from importlib import resources

import numpy as np

from refsnn.data.augment import random_crop
from refsnn.data.dataset import Dataset, Split, channel_statistics
from refsnn.ops import Array

SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"  # of digits.npz
HELD_OUT = 5  # every fifth image of a class is for testing


def load_digits() -> Dataset:
    """Load 1,442 training and 355 test images (N, 8, 8, 1) of ten classes.

    The augmentation shifts an image by up to one pixel.
    """
    packed = resources.files("refsnn.data").joinpath("digits.npz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise ValueError("digits.npz: the checksum is wrong; install refsnn again")
    with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    held_out = stratified_mask(labels)
    train, test = images[~held_out, ..., None], images[held_out, ..., None]
    return Dataset(
        "digits",
        Split(train, labels[~held_out]),
        Split(test, labels[held_out]),
        10,
        *channel_statistics(train),
        augment=(partial(random_crop, padding=1),),
    )


def stratified_mask(labels: Array) -> Array:
    """Return a mask (N,) that is True for every HELD_OUT-th image of each class (R2)."""
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[HELD_OUT - 1 :: HELD_OUT]] = True  # R2
    return mask
