"""The digits that come with the package: counts, checksum, split."""

import importlib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refsnn.data import load

module = importlib.import_module("refsnn.data.digits")
FILE = Path(module.__file__).with_name("digits.npz")


@pytest.fixture(scope="module")
def packed():
    with np.load(FILE) as archive:
        return dict(archive)


def test_counts_shapes_and_classes():
    digits = load("digits")
    assert digits.train.images.shape == (1442, 8, 8, 1)
    assert digits.test.images.shape == (355, 8, 8, 1)
    assert digits.num_classes == 10
    assert digits.name == "digits"
    for split in (digits.train, digits.test):
        assert split.images.dtype == np.uint8
        assert (split.images.min(), split.images.max()) == (0, 16)
        assert np.unique(split.labels).tolist() == list(range(10))


def test_every_fifth_of_each_class_is_held_out_and_nothing_is_in_both(packed):
    digits, seen = load("digits"), Counter()
    train, test = [], []
    for index, label in enumerate(packed["labels"].tolist()):
        seen[label] += 1
        (test if seen[label] % 5 == 0 else train).append(index)
    for split, indices in ((digits.train, train), (digits.test, test)):
        assert np.array_equal(split.images[..., 0], packed["images"][indices])
        assert np.array_equal(split.labels, packed["labels"][indices])


@pytest.mark.parametrize("name", ["images", "labels"])
def test_one_altered_number_is_noticed(packed, tmp_path, monkeypatch, name):
    altered = packed[name].copy()
    altered.flat[-1] ^= 1
    np.savez(tmp_path / "digits.npz", **(packed | {name: altered}))
    monkeypatch.setattr(module, "resources", SimpleNamespace(files=lambda package: tmp_path))
    with pytest.raises(ValueError, match=r"digits\.npz: the checksum is wrong"):
        load("digits")


def test_training_images_are_shifted_by_up_to_one_pixel():
    (augment,) = load("digits").augment
    images = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1).repeat(200, axis=0)
    pixels = augment(images, np.random.default_rng(0))[:, 4, 4, 0]
    assert set(pixels.tolist()) == {28, 29, 30, 36, 37, 38, 44, 45, 46}
