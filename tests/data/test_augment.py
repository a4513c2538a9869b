"""Augmentations: what each function changes in an image, and what it does not change."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.data.augment import cutout, random_crop, random_flip

FUNCTIONS = [partial(random_crop, padding=2), random_flip, partial(cutout, size=3)]


def numbered(n, height, width, channels=1):
    """Images whose pixels all differ and none is 0."""
    pixels = np.arange(1, height * width * channels + 1).reshape(height, width, channels)
    return np.broadcast_to(pixels, (n, height, width, channels)).copy()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("augment", FUNCTIONS)
def test_shape_and_dtype_are_kept_and_the_input_is_not_written(augment, dtype):
    images = numbered(20, 5, 7, 3).astype(dtype)
    images.flags.writeable = False
    out = augment(images, np.random.default_rng(0))
    assert (out.shape, out.dtype) == (images.shape, images.dtype)
    assert not np.array_equal(out, images)


@pytest.mark.parametrize("augment", FUNCTIONS)
def test_the_result_depends_only_on_the_generator(augment):
    images = numbered(20, 5, 7)
    first, again, other = (augment(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2), st.integers(0, 3), st.integers(0))
def test_a_crop_is_a_shift_with_zeros_from_outside(height, width, channels, padding, seed):
    images = numbered(5, height, width, channels)
    shifts = {}
    for dy in range(-padding, padding + 1):
        for dx in range(-padding, padding + 1):
            wanted = np.zeros_like(images[0])
            for r in range(height):
                for c in range(width):
                    if 0 <= r + dy < height and 0 <= c + dx < width:
                        wanted[r, c] = images[0, r + dy, c + dx]
            shifts[wanted.tobytes()] = dy, dx
    for image in random_crop(images, np.random.default_rng(seed), padding):
        assert image.tobytes() in shifts


def test_every_shift_comes_equally_often_and_rows_do_not_follow_columns():
    images = numbered(5000, 9, 9)
    centres = random_crop(images, np.random.default_rng(0), 2)[:, 4, 4, 0]
    counts = np.unique_counts(centres).counts
    assert len(counts) == 25
    assert abs(counts - 200).max() < 70  # five standard deviations


def test_padding_of_0_does_not_crop_and_negative_padding_is_refused():
    images = numbered(3, 4, 4)
    assert np.array_equal(random_crop(images, np.random.default_rng(0), 0), images)
    with pytest.raises(ValueError, match="padding: got -1"):
        random_crop(images, np.random.default_rng(0), -1)


def test_half_of_the_images_are_mirrored_left_to_right():
    images = numbered(2000, 3, 4, 2)
    out = random_flip(images, np.random.default_rng(0))
    kept = (out == images).all(axis=(1, 2, 3))
    assert np.array_equal(out[~kept], images[~kept, :, ::-1])
    assert abs(kept.sum() - 1000) < 110  # five standard deviations


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_all_frames_of_a_sequence_are_mirrored_or_none(dtype):
    rng = np.random.default_rng(0)
    sequences = rng.integers(0, 100, (200, 3, 4, 5, 2)).astype(dtype)
    sequences.flags.writeable = False
    out = random_flip(sequences, np.random.default_rng(1))
    assert out.dtype == sequences.dtype
    flip = np.random.default_rng(1).random(200) < 0.5
    assert 0 < flip.sum() < 200
    for after, before, mirrored in zip(out, sequences, flip, strict=True):
        assert np.array_equal(after, np.flip(before, axis=2) if mirrored else before)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 9), st.integers(0))
def test_cutout_clears_one_square_around_a_pixel_of_the_image(height, width, size, seed):
    images = numbered(20, height, width, 2)
    for image, before in zip(
        cutout(images, np.random.default_rng(seed), size), images, strict=True
    ):
        hole = (image == 0).all(axis=2)
        assert np.array_equal(image[~hole], before[~hole])
        for line, length in ((hole.any(axis=1), height), (hole.any(axis=0), width)):
            whole = {
                tuple(k in range(c - size // 2, c - size // 2 + size) for k in range(length))
                for c in range(length)
            }
            assert tuple(line.tolist()) in whole
        assert hole.sum() == hole.any(axis=1).sum() * hole.any(axis=0).sum()


@pytest.mark.parametrize("size", [3, 4])
def test_the_hole_is_a_square_of_the_given_size_where_it_fits(size):
    out = cutout(numbered(500, 12, 12), np.random.default_rng(0), size)
    assert (out == 0).sum(axis=(1, 2, 3)).max() == size**2


def test_the_hole_is_centred_anywhere():
    out = cutout(numbered(2000, 4, 5), np.random.default_rng(0), 1)
    assert ((out == 0).sum(axis=(1, 2, 3)) == 1).all()
    assert (out == 0).any(axis=0).all()


@pytest.mark.parametrize("size", [0, -2])
def test_a_hole_of_size_0_is_refused(size):
    with pytest.raises(ValueError, match=f"size: got {size}"):
        cutout(numbered(3, 4, 4), np.random.default_rng(0), size)
