"""Splits in different units, and pixels that a precision can't hold."""

import numpy as np
import pytest

from refsnn.data import Options, load
from refsnn.data.arrays import from_npz
from refsnn.data.ranges import FEW

RNG = np.random.default_rng(0)


def unit(n, size=8):
    """Make images like photographs, of all brightnesses from 0 to 1."""
    return RNG.uniform(0.1, 1, (n, 1, 1, 1)) * RNG.uniform(0, 1, (n, size, size, 3))


def strokes(n):
    """Make images like digits, mostly black."""
    return (RNG.random((n, 8, 8, 1)) < 0.15) * RNG.uniform(0.5, 1, (n, 8, 8, 1))


@pytest.fixture
def read(tmp_path):
    def of(train, test, **options):
        path = tmp_path / "mine.npz"
        labels = {
            "train_labels": np.arange(len(train)) % 2,
            "test_labels": np.arange(len(test)) % 2,
        }
        np.savez(path, train_images=train, test_images=test, **labels)
        return load(str(path), Options(**options))

    return of


def in_bytes(images):
    return (images * 255).astype(np.uint8)


KIND, UNIT = "want both of one kind and in one unit", r"\(root mean square\): want both in one unit"


@pytest.mark.parametrize(
    ("train", "test", "text"),
    [
        (unit(30), in_bytes(unit(9)), "float64, test_images uint8: " + KIND),
        (in_bytes(unit(9)), unit(9).astype(np.float16), "uint8, test_images float16: " + KIND),
        (unit(9), unit(9) > 0.5, KIND),
        (unit(200), 255 * unit(50), UNIT),
        (255 * unit(200), unit(50), UNIT),
        (strokes(100), 16 * strokes(100), UNIT),
        (16 * strokes(100), strokes(100), UNIT),
        (in_bytes(strokes(50)), (strokes(50) > 0).astype(np.uint8), UNIT),
        (in_bytes(unit(50)), 257 * in_bytes(unit(FEW)).astype(np.uint16), UNIT),
        (RNG.normal(size=(50, 8, 8, 1)), 255 * strokes(50), UNIT),
    ],
)
def test_two_units_are_refused_by_default(read, train, test, text):
    with pytest.raises(ValueError, match=rf"^dataset: \S*mine\.npz: train_images are .*{text}"):
        read(train, test)
    assert len(read(train, test, any_range=True).test.labels) == len(test)


def with_hot_pixels(images, value, count):
    images = images.copy()
    images.reshape(len(images), -1)[:count, 0] = value
    return images


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (unit(100), np.zeros((50, 8, 8, 3))),
        (np.zeros((50, 8, 8, 3)), unit(100)),
        (unit(100), 1e-3 * unit(FEW - 1)),  # a few night photographs
        (unit(100), with_hot_pixels(unit(100), 1e6, 80)),
        (with_hot_pixels(unit(100), 1e6, 80), unit(100)),
        (RNG.lognormal(0, 3, (80, 4, 4, 1)), RNG.lognormal(0, 3, (20, 4, 4, 1))),
        (RNG.standard_cauchy((80, 4, 4, 1)), RNG.standard_cauchy((20, 4, 4, 1))),
        (unit(100), 2 * unit(100) - 1),
        (RNG.poisson(0.02, (80, 2, 8, 8, 2)), RNG.poisson(0.05, (80, 2, 8, 8, 2))),
        (in_bytes(unit(50)), in_bytes(unit(50)).astype(np.int64)),
        (unit(50), unit(50).astype(np.float16)),
    ],
)
def test_differences_that_may_occur_by_chance_are_accepted(read, train, test):
    assert len(read(train, test).test.labels) == len(test)


BITS = np.arange(9 * 48).reshape(9, 4, 4, 3) % 2


def changed(images, index, value):
    images = images.copy()
    images[index] = value
    return images


@pytest.mark.parametrize(
    ("train", "test", "dtype", "text"),
    [
        (
            changed(unit(9), (3, 1, 2, 1), 1e39),
            unit(9),
            "float32",
            "train_images: image 3 holds 1e",
        ),
        (
            unit(9),
            changed(unit(9), (7, 7, 7, 2), -1e39),
            "float32",
            "test_images: image 7 holds -1",
        ),
        (unit(9), changed(unit(9), (2, 0, 0, 0), 3.4e38), "float32", "test_images: image 2 holds"),
        (changed(unit(9), (8, 0, 0, 0), 1e308), unit(9), "float64", "train_images: image 8 holds"),
        (changed(unit(9), (8, 0, 0, 0), 1e200), unit(9), "float64", "train_images: image 8 holds"),
        (1e-46 * unit(9), 1e-46 * unit(9), "float32", "train_images: image"),
        (2**60 + BITS, 2**60 + 0 * BITS, "float64", "train_images: image 0 holds"),
        (1e9 + unit(9), 1e9 + unit(9), "float32", "train_images: channel 0 has the mean 1e+09"),
    ],
)
def test_images_that_a_precision_can_not_hold_are_named(read, train, test, dtype, text):
    with pytest.raises(ValueError, match=r"^dataset: ") as caught:
        read(train, test, dtype=dtype, any_range=True)
    assert f"mine.npz: {text}" in str(caught.value)
    assert ("--dtype float64" in str(caught.value)) == (dtype == "float32")


@pytest.mark.parametrize(
    ("images", "dtype"),
    [
        (changed(unit(9), (3, 1, 2, 1), 1e39), "float64"),
        (changed(unit(9), (3, 1, 2, 1), 1e36), "float32"),
        (1e9 + unit(9), "float64"),
        (unit(9).astype(np.float16), "float32"),
        (2**60 + 2**50 * np.arange(9 * 48).reshape(9, 4, 4, 3), "float64"),
        (300 + unit(9), "float32"),
        (np.full((9, 4, 4, 3), 1e9), "float32"),
        (np.full((9, 4, 4, 3), 0.1), "float64"),
    ],
)
def test_images_that_a_precision_can_hold_are_accepted_and_stay_finite(read, images, dtype):
    data = read(images, images, dtype=dtype)
    batch, _ = data.batch(data.train, np.arange(9), dtype)
    assert np.isfinite(batch).all()
    assert np.abs(batch).max() < 50


def test_a_constant_channel_is_0_whatever_rounding_its_mean_has(read):
    images = np.full((3, 7, 7, 1), 0.1)
    assert images.mean() != 0.1
    data = read(images, images, dtype="float64")
    assert (data.mean[0], data.std[0]) == (0.1, 1)


def test_units_that_few_images_make_doubtful_cause_a_warning(tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = rng.random((8, 4, 4))
    path = tmp_path / "few.npz"
    np.savez(
        path,
        train_images=images,
        train_labels=np.arange(8) % 2,
        test_images=255 * images[:4],
        test_labels=np.arange(4) % 2,
    )
    from_npz(path)
    assert "are both in one unit?" in capsys.readouterr().err
    from_npz(path, any_range=True)
    assert "unit" not in capsys.readouterr().err
