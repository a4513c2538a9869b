"""Data sets, their statistics and their batches."""

import tracemalloc
from functools import partial

import numpy as np
import pytest

from refsnn.data import Dataset, Options, Split, load
from refsnn.data.augment import random_crop
from refsnn.data.dataset import CHANNEL_STATISTICS, PIECE, channel_statistics, pieces, standardize
from refsnn.training.run import fingerprint


def dataset(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "name": "made",
        "train": Split(rng.uniform(1, 9, (12, 4, 5, 2)), np.arange(12) % 3),
        "test": Split(rng.uniform(1, 9, (6, 4, 5, 2)), np.arange(6) % 3),
        "num_classes": 3,
        "mean": np.zeros(2),
        "std": np.ones(2),
    }
    return Dataset(**(fields | changes))


def test_digits_are_standardised_by_the_training_split():
    digits = load("digits")
    images, _ = digits.batch(digits.train, np.arange(1442), np.float64)
    assert abs(images.mean()) < 1e-12
    assert abs(images.var() - 1) < 1e-12


def test_statistics_are_by_channel_and_a_constant_channel_is_left_alone():
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 3), dtype=np.uint8)
    images[..., 1] = 7
    mean, std = channel_statistics(images)
    assert (mean[1], std[1]) == (7, 1)
    z = standardize(images, mean, std, np.float64)
    np.testing.assert_allclose(z.mean(axis=(0, 1, 2)), 0, atol=1e-13)
    np.testing.assert_allclose(z.var(axis=(0, 1, 2)), [1, 0, 1], atol=1e-13)


def test_channels_are_standardised_by_the_published_constants():
    assert CHANNEL_STATISTICS == {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_is_the_chosen_images_standardised_in_the_given_dtype(dtype):
    data = dataset(mean=np.array([2.0, 3.0]), std=np.array([4.0, 0.5]))
    images, labels = data.batch(data.train, np.array([7, 0, 7]), dtype)
    assert images.dtype == dtype
    wanted = (data.train.images[[7, 0, 7]] - [2, 3]) / [4, 0.5]
    np.testing.assert_allclose(images, wanted, atol=8 * np.finfo(dtype).eps)
    assert labels.tolist() == [1, 0, 1]


def test_a_batch_is_augmented_where_a_generator_is_given():
    data = dataset(
        mean=np.full(2, 3.0),
        std=np.full(2, 5.0),
        augment=(partial(random_crop, padding=1), lambda images, rng: 2 * images),
    )
    which = np.arange(12)
    images, _ = data.batch(data.train, which, np.float64, np.random.default_rng(4))
    cropped = random_crop(data.train.images, np.random.default_rng(4), 1)
    np.testing.assert_allclose(images, (2 * cropped - 3) / 5, rtol=1e-14)
    plain, _ = data.batch(data.train, which, np.float64)
    np.testing.assert_allclose(plain, (data.train.images - 3) / 5, rtol=1e-14)


def test_making_a_batch_does_not_touch_the_data():
    data = load("digits", Options(cutout=3))
    before = data.train.images.copy()
    data.batch(data.train, np.arange(100), np.float32, np.random.default_rng(0))
    assert np.array_equal(data.train.images, before)


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


GOOD = dataset()
IMAGES, LABELS = GOOD.train.images, GOOD.train.labels


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (IMAGES[..., 0], LABELS, ValueError, r"images: got shape \(12, 4, 5\), want \(N,"),
        (IMAGES[:0], LABELS[:0], ValueError, r"images: got shape \(0, 4, 5, 2\)"),
        (np.array(1.0), LABELS, ValueError, r"images: got shape \(\), want \(N,"),
        (IMAGES[:, :, :0], LABELS, ValueError, r"images: got shape \(12, 4, 0, 2\)"),
        (IMAGES.astype(complex), LABELS, TypeError, "images: got dtype complex128, want real"),
        (IMAGES.astype(str), LABELS, TypeError, "images: got dtype <U32, want real"),
        (changed(IMAGES, (5, 0, 0, 0), np.nan), LABELS, ValueError, "images: image 5 holds NaN"),
        (changed(IMAGES, (7, 3, 4, 1), -np.inf), LABELS, ValueError, "images: image 7 holds NaN"),
        (IMAGES, LABELS.astype(float), TypeError, "labels: got dtype float64, want integers"),
        (IMAGES, LABELS[:-1], ValueError, r"labels: got shape \(11,\), want \(12,\)"),
        (IMAGES, changed(LABELS, 3, 3), ValueError, "labels: got 3 at index 3, want 0 to 2"),
        (IMAGES, changed(LABELS, 2, -1), ValueError, "labels: got -1 at index 2, want 0 to 2"),
    ],
)
def test_a_split_that_is_wrong_is_named(part, images, labels, error, message):
    with pytest.raises(error, match=f"^({part} )?{message}"):
        dataset(**{part: Split(images, labels)})


def test_both_splits_have_images_of_one_shape():
    with pytest.raises(ValueError, match=r"test images: got \(5, 4, 2\), want \(4, 5, 2\) like"):
        dataset(test=Split(IMAGES.swapaxes(1, 2), LABELS))


@pytest.mark.parametrize(
    "shape", [(1442, 8, 8, 1), (7, 300, 300, 3), (2, 5, 400, 400, 2), (1, 900, 900, 1)]
)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_statistics_in_pieces_are_those_of_the_whole(shape, dtype, order):
    rng = np.random.default_rng(0)
    images = np.asarray(rng.integers(0, 256, shape).astype(dtype), order=order)
    assert sum(piece.size for _, piece in pieces(images)) == images.size
    mean, std = channel_statistics(images)
    channels = np.moveaxis(images, -1, 0).astype(np.float64, order="C").reshape(shape[-1], -1)
    bound = PIECE * np.finfo(np.float64).eps  # of as many additions, one after the other
    np.testing.assert_allclose(mean, channels.mean(axis=1), rtol=bound)
    np.testing.assert_allclose(std, channels.std(axis=1), rtol=bound)


def test_the_digits_statistics_are_numpys_to_the_bit():
    data = load("digits")
    pixels = data.train.images.astype(np.float64)
    assert (data.mean[0], data.std[0]) == (pixels.mean(), pixels.std())


@pytest.mark.parametrize("shape", [(70, 300, 300, 3), (6, 3, 600, 600, 1)])
def test_a_pixel_that_is_not_finite_is_found_in_any_piece(shape):
    images = np.zeros(shape, np.float32)
    for index in (0, shape[0] - 1):
        images[index, -1, -1] = np.inf
        with pytest.raises(ValueError, match=f"^images: image {index} holds NaN or infinity"):
            Split(images, np.zeros(shape[0], np.int64))
        images[index] = 0


FILES = {
    "uint8": ((16_000, 32, 32, 2), "uint8"),
    "large": ((4, 2_000, 2_000, 2), "uint8"),
    "rows": ((3, 4_000, 1_000, 1), "float32"),
    "grey": ((32_000, 32, 32), "uint8"),
    "big-endian": ((4_000, 32, 32, 2), ">f4"),
    "fortran": ((16_000, 32, 32, 2), "uint8"),
    "sequences": ((1_000, 4, 64, 64, 2), "uint8"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_loading_takes_the_memory_of_the_arrays_and_a_little(tmp_path, kind):
    shape, dtype = FILES[kind]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, shape, np.uint8).astype(dtype)
    if kind == "fortran":
        images = np.asfortranarray(images)
    labels = np.arange(len(images)) % 2
    path = tmp_path / "mine.npz"
    np.savez(
        path,
        train_images=images,
        test_images=images[: len(images) // 2],
        train_labels=labels,
        test_labels=labels[: len(images) // 2],
    )
    del images
    tracemalloc.start()
    try:
        data = load(str(path))
        fingerprint(data)
        batch, _ = data.batch(data.train, np.arange(2), "float32")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = data.train.images.nbytes + data.test.images.nbytes
    assert size > 30e6
    assert peak - 3 * batch.nbytes < 1.5 * size
