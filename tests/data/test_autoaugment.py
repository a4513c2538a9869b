"""AutoAugment: each operation against its definition, and how often each is applied."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from refsnn.data import autoaugment
from refsnn.data.autoaugment import POLICY, SIGNED, UNSIGNED, auto_augment, operate

HEIGHT, WIDTH = 20, 32
#: the published policy for CIFAR-10 column by column, two operations a sub-policy: names,
#: probabilities in tenths, levels
NAMES = """invert contrast rotate translate_x sharpness sharpness shear_y translate_y autocontrast
equalize shear_y posterize color brightness sharpness brightness equalize equalize contrast
sharpness color translate_x equalize autocontrast translate_y sharpness brightness color solarize
invert equalize autocontrast equalize equalize color equalize autocontrast solarize brightness
color solarize autocontrast translate_y translate_y autocontrast solarize equalize invert
translate_y autocontrast"""
TENTHS = "12 73 89 57 59 23 46 37 65 66 75 34 42 92 50 26 26 96 82 17 49 97 98 81 79"
LEVELS = "76 29 13 89 82 77 37 99 51 75 78 78 36 68 23 00 84 96 48 30 53 99 23 83 91"
ENDS = [(9, 1), (9, -1), (0, 1), (0, -1)]


@pytest.fixture(scope="module")
def pixels():
    """Not square, and without the darkest and brightest values."""
    return np.random.default_rng(0).integers(20, 230, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def result(pixels, name, level, sign=1):
    return np.asarray(operate(Image.fromarray(pixels), name, level, sign))


def nearest(pixels, x, y):
    """The pixels that hold the points x, y (H, W); grey outside."""
    columns, rows = np.floor(x).astype(int), np.floor(y).astype(int)
    inside = (columns >= 0) & (columns < WIDTH) & (rows >= 0) & (rows < HEIGHT)
    found = pixels[np.clip(rows, 0, HEIGHT - 1), np.clip(columns, 0, WIDTH - 1)]
    return np.where(inside[..., None], found, 128)


def centres():
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return x, y


def blend(plain, pixels, factor):
    """`factor` times the way from the plain image to this one, or beyond it."""
    mixed = np.float32(plain) + np.float32(factor) * (np.float32(pixels) - np.float32(plain))
    return np.clip(mixed, 0, 255).astype(np.uint8)


def luminance(pixels):
    """ITU-R 601, in 16-bit fixed point."""
    weights = np.array([19595, 38470, 7471])
    return (pixels.astype(int) @ weights + 2**15) >> 16


def smooth(pixels):
    """Means over 3x3 pixels with the middle counted 5 times; the border as it is."""
    out = pixels.copy()
    for row in range(1, HEIGHT - 1):
        for column in range(1, WIDTH - 1):
            total = pixels[row - 1 : row + 2, column - 1 : column + 2].sum(axis=(0, 1), dtype=int)
            out[row, column] = np.floor((total + 4 * pixels[row, column].astype(int)) / 13 + 0.5)
    return out


@pytest.mark.parametrize(("level", "sign"), ENDS)
def test_rotate_turns_by_30_degrees_about_the_centre(pixels, level, sign):
    x, y = centres()
    angle = np.radians(30 * sign * level / 9)  # anticlockwise where it is positive
    right, down = x - WIDTH / 2, y - HEIGHT / 2
    wanted = nearest(
        pixels,
        right * np.cos(angle) - down * np.sin(angle) + WIDTH / 2,
        right * np.sin(angle) + down * np.cos(angle) + HEIGHT / 2,
    )
    assert np.array_equal(result(pixels, "rotate", level, sign), wanted)


@pytest.mark.parametrize(("level", "sign"), ENDS)
def test_shear_moves_columns_by_0_3_of_their_distance(pixels, level, sign):
    x, y = centres()
    wanted = nearest(pixels, x, y + 0.3 * sign * level / 9 * x)
    assert np.array_equal(result(pixels, "shear_y", level, sign), wanted)


@pytest.mark.parametrize(("level", "sign"), [*ENDS, (3, 1), (8, -1)])
def test_translate_moves_by_150_331_of_the_size(pixels, level, sign):
    x, y = centres()
    part = 150 / 331 * sign * level / 9
    for name, wanted in (
        ("translate_x", nearest(pixels, x + part * WIDTH, y)),
        ("translate_y", nearest(pixels, x, y + part * HEIGHT)),
    ):
        assert np.array_equal(result(pixels, name, level, sign), wanted)


@pytest.mark.parametrize(("level", "sign"), ENDS)
def test_enhancements_blend_with_a_plain_image_by_0_1_to_1_9(pixels, level, sign):
    factor = 1 + 0.9 * sign * level / 9
    grey = luminance(pixels)
    for name, plain in (
        ("brightness", np.zeros_like(pixels)),
        ("contrast", np.full_like(pixels, int(grey.mean() + 0.5))),
        ("color", np.repeat(grey[..., None], 3, axis=2)),
        ("sharpness", smooth(pixels)),
    ):
        assert np.array_equal(result(pixels, name, level, sign), blend(plain, pixels, factor)), name


@pytest.mark.parametrize(("level", "bits"), [(0, 8), (2, 7), (4, 6), (7, 5), (9, 4)])
def test_posterize_keeps_the_highest_bits(pixels, level, bits):
    wanted = pixels >> (8 - bits) << (8 - bits)
    assert np.array_equal(result(pixels, "posterize", level), wanted)


@pytest.mark.parametrize(("level", "threshold"), [(0, 256), (2, 199), (5, 114), (9, 0)])
def test_solarize_inverts_from_a_threshold_on(pixels, level, threshold):
    wanted = np.where(pixels < threshold, pixels, 255 - pixels)
    assert np.array_equal(result(pixels, "solarize", level), wanted)


def test_invert_is_255_minus_the_pixel(pixels):
    assert np.array_equal(result(pixels, "invert", 3), 255 - pixels)


def test_autocontrast_stretches_each_channel_over_the_whole_range(pixels):
    pixels = np.minimum(pixels, [100, 150, 255]).astype(np.uint8)
    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    wanted = (pixels - low.astype(float)) * 255 / (high - low.astype(float))
    out = result(pixels, "autocontrast", 5)
    assert abs(out - wanted).max() <= 1
    assert out.min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert out.max(axis=(0, 1)).tolist() == [255, 255, 255]


def test_equalize_makes_ranks_of_the_pixels(pixels):
    pixels = pixels // np.array([3, 2, 1], np.uint8)
    out = result(pixels, "equalize", 5)
    for channel in range(3):
        before, after = pixels[..., channel], out[..., channel]
        counts = np.bincount(before.ravel(), minlength=256)
        step = (counts.sum() - counts[before.max()]) // 255
        below = np.cumsum(counts) - counts
        wanted = np.minimum((below + step // 2) // step, 255)
        assert np.array_equal(after, wanted[before])


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_an_image_of_one_colour_does_not_change(name):
    pixels = np.full((HEIGHT, WIDTH, 3), 77, np.uint8)
    assert np.array_equal(result(pixels, name, 5), pixels)


def test_the_policy_is_the_published_one():
    triples = [triple for pair in POLICY for triple in pair]
    assert [name for name, _, _ in triples] == NAMES.split()
    assert [p for _, p, _ in triples] == [int(d) / 10 for d in TENTHS.replace(" ", "")]
    assert [level for _, _, level in triples] == [int(d) for d in LEVELS.replace(" ", "")]


def test_all_sub_policies_have_known_operations_levels_and_probabilities():
    assert len(POLICY) == 25
    triples = [triple for pair in POLICY for triple in pair]
    assert len(triples) == 50
    assert {name for name, _, _ in triples} == set(SIGNED) | set(UNSIGNED)
    assert {level for _, _, level in triples} == set(range(10))
    assert {p for _, p, _ in triples} == {k / 10 for k in range(10)}


def test_operations_are_as_frequent_as_the_policy_says(monkeypatch):
    n, applied = 20000, Counter()

    def count(image, *operation):
        applied[operation] += 1
        return image

    monkeypatch.setattr(autoaugment, "operate", count)
    auto_augment(np.zeros((n, 1, 1, 3), np.uint8), np.random.default_rng(0))
    expected = Counter()
    for pair in POLICY:
        for name, p, level in pair:
            for sign in (-1, 1):
                expected[name, level, sign] += n * p / len(POLICY) / 2
    assert applied.keys() == {operation for operation, mean in expected.items() if mean}
    for operation, mean in expected.items():
        assert abs(applied[operation] - mean) <= 5 * np.sqrt(mean), operation
    assert abs(applied.total() - expected.total()) <= 5 * np.sqrt(expected.total())


def test_the_signs_of_both_operations_of_a_sub_policy_are_independent(monkeypatch):
    n, applied = 4000, []
    pair = (("rotate", 1.0, 2), ("translate_x", 1.0, 9))
    monkeypatch.setattr(autoaugment, "POLICY", (pair,))
    monkeypatch.setattr(autoaugment, "PROBABILITIES", np.ones((1, 2)))

    def note(image, name, level, sign):
        applied.append(sign)
        return image

    monkeypatch.setattr(autoaugment, "operate", note)
    auto_augment(np.zeros((n, 1, 1, 3), np.uint8), np.random.default_rng(0))
    ways = Counter(zip(applied[::2], applied[1::2], strict=True))
    assert set(ways) == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    assert all(abs(count - n / 4) < 5 * np.sqrt(n / 4) for count in ways.values())


def test_a_sub_policy_is_two_operations_in_order(pixels, monkeypatch):
    pair = (("invert", 1.0, 0), ("solarize", 1.0, 5))
    monkeypatch.setattr(autoaugment, "POLICY", (pair,))
    monkeypatch.setattr(autoaugment, "PROBABILITIES", np.ones((1, 2)))
    inverted = 255 - pixels
    wanted = np.where(inverted < 114, inverted, 255 - inverted)
    out = auto_augment(np.stack([pixels, pixels]), np.random.default_rng(0))
    assert np.array_equal(out, np.stack([wanted, wanted]))


def test_the_result_depends_only_on_the_generator_and_the_input_is_unchanged(pixels):
    images = np.stack([pixels] * 50)
    images.flags.writeable = False
    first, again, other = (auto_augment(images, np.random.default_rng(s)) for s in (1, 1, 2))
    assert (first.dtype, first.shape) == (images.dtype, images.shape)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_image_does_not_depend_on_the_others(pixels):
    images = np.stack([pixels] * 50)
    whole = auto_augment(images, np.random.default_rng(3))
    images[::2] = 0
    half = auto_augment(images, np.random.default_rng(3))
    assert np.array_equal(half[1::2], whole[1::2])
    assert not np.array_equal(half[::2], whole[::2])


@pytest.mark.parametrize("dtype", ["float32", "int64", "int8", "uint16", "bool"])
def test_other_pixels_than_bytes_are_refused(dtype):
    with pytest.raises(TypeError, match=f"^images: got {dtype}, want uint8"):
        auto_augment(np.zeros((2, 4, 4, 3), dtype), np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(2, 4, 4, 1), (4, 4, 3), (2, 3, 4, 4), (2, 1, 4, 4, 3)])
def test_other_images_than_rgb_are_refused(shape):
    with pytest.raises(ValueError, match=r"^images: got shape \(.*\), want \(N, H, W, 3\)"):
        auto_augment(np.zeros(shape, np.uint8), np.random.default_rng(0))


def test_an_empty_batch_stays_empty():
    assert auto_augment(np.zeros((0, 4, 4, 3), np.uint8), np.random.default_rng(0)).size == 0
