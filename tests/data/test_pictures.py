"""Pictures in class folders: every kind is decoded and cropped, damaged ones are named."""

import math
import struct
import zlib

import numpy as np
import pytest
from pictures import BLUE, PHOTOS, RED, halves, noise, places, png
from PIL import Image

from refsnn.data.imagefolder import random_resized_crop, read, resize_center_crop, resized

pytestmark = pytest.mark.filterwarnings("error")


def palette(path, **more):
    image = halves(0, 1, "P")
    image.putpalette([*RED, *BLUE])
    image.save(path, **more)


def deep(path):
    """Colours in 16 bits, which Pillow does not write."""
    row = b"\0" + b"".join(
        struct.pack(">BBBBBB", c[0], 99, c[1], 99, c[2], 99) * 32 for c in (RED, BLUE)
    )
    path.write_bytes(png(64, 48, 16, 2, row * 48))


def deep_grey(path):
    row = np.repeat(np.array([0x12FE, 0xABCD], np.uint16), 32)
    Image.fromarray(np.tile(row, (48, 1))).save(path)


def grey(left, right):
    return (left,) * 3, (right,) * 3


MODES = {
    "rgb.png": (lambda path: halves(RED, BLUE).save(path), (RED, BLUE)),
    "rgb.jpg": (lambda path: halves(RED, BLUE).save(path, quality=95), (RED, BLUE)),
    "called_jpg_but.png": (
        lambda path: halves(RED, BLUE).save(path, "JPEG", quality=95),
        (RED, BLUE),
    ),
    "grey.jpg": (lambda path: halves(50, 180, "L").save(path), grey(50, 180)),
    "grey.png": (lambda path: halves(50, 180, "L").save(path), grey(50, 180)),
    "bits.png": (lambda path: halves(0, 1, "1").save(path), grey(0, 255)),
    "cmyk.jpg": (
        lambda path: halves((55, 215, 195, 0), (225, 165, 35, 0), "CMYK").save(path, quality=95),
        (RED, BLUE),
    ),
    "palette.png": (palette, (RED, BLUE)),
    "palette_with_alpha.png": (lambda path: palette(path, transparency=b"\0\x80"), (RED, BLUE)),
    "palette_with_one_clear.png": (lambda path: palette(path, transparency=1), (RED, BLUE)),
    "alpha.png": (lambda path: halves((*RED, 0), (*BLUE, 99), "RGBA").save(path), (RED, BLUE)),
    "clear_colour.png": (lambda path: halves(RED, BLUE).save(path, transparency=RED), (RED, BLUE)),
    "grey_alpha.png": (lambda path: halves((50, 0), (180, 99), "LA").save(path), grey(50, 180)),
    "deep_grey.png": (deep_grey, grey(0x12, 0xAB)),
    "deep.png": (deep, (RED, BLUE)),
}


@pytest.mark.parametrize("name", MODES)
def test_every_kind_of_file_becomes_rgb_bytes(tmp_path, name):
    write, (left, right) = MODES[name]
    write(tmp_path / name)
    out = read(tmp_path / name, 32)
    assert (out.shape, out.dtype, out.flags.writeable) == ((32, 32, 3), np.uint8, True)
    lossy = 4 if "jpg" in name else 0  # chroma bleeds
    assert abs(out[:, :12].astype(int) - left).max() <= lossy
    assert abs(out[:, 20:].astype(int) - right).max() <= lossy


def test_orientation_in_exif_data_is_ignored(tmp_path):
    image, exif = noise(80, 64), Image.Exif()
    exif[0x0112] = 6  # to be shown turned
    image.save(tmp_path / "plain.jpg")
    image.save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as turned:
        assert turned.getexif()[0x0112] == 6
    assert np.array_equal(read(tmp_path / "turned.jpg", 32), read(tmp_path / "plain.jpg", 32))


def whole(image, size):
    """torchvision's Resize and CenterCrop."""
    (width, height), short = image.size, size * 8 // 7
    w = short if width <= height else int(short * width / height)
    h = short if height <= width else int(short * height / width)
    image = image.resize((w, h), Image.Resampling.BILINEAR)
    left, top = round((w - size) / 2), round((h - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("size", [224, 32, 7])
@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (304, 304), (264, 1000), (41, 50)])
def test_without_a_generator_it_is_the_centre_of_a_resized_image(shape, size):
    image = noise(*(8 * -(-side // 8) for side in shape)).crop((0, 0, *shape))
    out = np.asarray(resize_center_crop(image, size)).astype(int)
    assert abs(out - whole(image, size)).max() <= 1  # rounding


def box(width, height, rng):
    """torchvision's RandomResizedCrop, with this package's order of draws."""
    for _ in range(10):
        area = rng.uniform(0.08, 1.0) * width * height
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            left = rng.integers(0, width - w + 1)
            top = rng.integers(0, height - h + 1)
            return left, top, left + w, top + h
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


@pytest.mark.parametrize(
    "shape", [(200, 160), (160, 240), (160, 160), (64, 240), (48, 800), (2000, 64)]
)
def test_with_a_generator_it_is_a_resized_crop(shape):
    image, areas = noise(*shape), []
    for seed in range(60):
        crop = image.crop(box(*shape, np.random.default_rng(seed)))
        areas.append(crop.width * crop.height / math.prod(shape))
        wanted = np.asarray(crop.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
        out = np.asarray(random_resized_crop(image, 32, np.random.default_rng(seed)))
        # the outermost pixels see what is beside the crop
        assert abs(out - wanted)[1:-1, 1:-1].max() <= 1
    assert min(shape) < 100 or (min(areas) < 0.2 and max(areas) > 0.7)


def test_half_of_the_crops_are_mirrored(tmp_path):
    places(240, 200).save(tmp_path / "places.png")
    mirrored = 0
    for seed in range(300):
        with Image.open(tmp_path / "places.png") as image:
            crop = np.asarray(random_resized_crop(image, 16, np.random.default_rng(seed)))
        out = read(tmp_path / "places.png", 16, np.random.default_rng(seed))
        flip = out[8, 0, 0] > out[8, -1, 0]
        assert np.array_equal(out, crop[:, ::-1] if flip else crop)
        mirrored += flip
    assert abs(mirrored - 150) < 44  # five standard deviations


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("part", "scale"),
    [
        ((0, 0, 1021, 763), 8),
        ((520, 262, 1021, 763), 4),
        ((0, 0, 127, 300), 1),
        ((9, 9, 137, 137), 2),
    ],
)
def test_a_large_jpeg_is_decoded_smaller_and_shows_the_same_place(tmp_path, mode, part, scale):
    image = places(256, 192).resize((1021, 763), Image.Resampling.BICUBIC).convert(mode)
    image.save(tmp_path / "large.jpg", quality=95)
    with Image.open(tmp_path / "large.jpg") as image:
        fast = np.asarray(resized(image, part, 32)).astype(int)
        assert image.size == (-(-1021 // scale), -(-763 // scale))
    with Image.open(tmp_path / "large.jpg") as image:
        image.load()  # it is too late to decode it smaller
        exact = np.asarray(resized(image, part, 32)).astype(int)
        assert image.size == (1021, 763)
    assert abs(fast - exact).mean() < 0.5


def damage(path, kind):
    noise(80, 64).save(path)
    content = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "gif":
        noise(80, 64).save(path, "GIF")
    elif kind == "header":
        path.write_bytes(content[:30])
    elif kind == "cut":
        path.write_bytes(content[: len(content) * 2 // 3])
    else:
        assert kind == "scribble"
        path.write_bytes(content[:200] + b"?" * 100 + content[300:])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            ("a.jpg", kind)
            for kind in ("missing", "folder", "empty", "text", "gif", "header", "cut")
        ),
        *(("a.png", kind) for kind in ("gif", "header", "cut", "scribble")),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, kind):
    path = tmp_path / name
    damage(path, kind)
    for rng in (None, np.random.default_rng(0)):
        with pytest.raises(ValueError, match=rf"^dataset: {path} can't be read: .+$") as error:
            read(path, 32, rng)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_file_is_refused_at_any_length(tmp_path, name):
    path = tmp_path / name
    noise(80, 64).save(path)
    content = path.read_bytes()
    for length in range(0, len(content) - 24, 61):  # PNG's last 24 bytes hold no pixels
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"^dataset: {path} can't be read: "):
            read(path, 32)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_random_bytes_give_an_image_or_are_refused(tmp_path, name):
    path, rng = tmp_path / name, np.random.default_rng(0)
    noise(80, 64).save(path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(200):
        changed = content.copy()
        where = rng.integers(len(content), size=rng.integers(1, 20))
        changed[where] = rng.integers(0, 256, len(where))
        path.write_bytes(changed.tobytes())
        message = ""
        try:
            assert read(path, 32).shape == (32, 32, 3)
        except ValueError as error:
            message = str(error)
            refused += 1
        assert not message or message.startswith(f"dataset: {path} can't be read: ")
    assert refused > 0


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_decompression_bombs_are_refused(tmp_path, side):
    """Pillow only warns of the smaller one."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, 1, 0, bytes(side * (1 + side // 8))))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=rf"^dataset: {path} can't be read: .*exceeds limit"):
        read(path, 32)


def test_a_text_that_expands_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    text = b"comment\0\0" + zlib.compress(bytes(10**7))
    path.write_bytes(png(8, 8, 8, 0, bytes(72), (b"zTXt", text)))
    with pytest.raises(ValueError, match=rf"^dataset: {path} can't be read: .*too large"):
        read(path, 32)


@pytest.mark.skipif(not PHOTOS, reason="no photographs")
def test_photographs_decoded_smaller_look_the_same():
    errors = []
    for path in PHOTOS:
        with Image.open(path) as image:
            image.load()
            exact = np.asarray(resize_center_crop(image, 48)).astype(int)
        errors.append(abs(read(path, 48) - exact))
    assert np.mean(errors) < 0.5
    assert 0 < np.max(errors) <= 15
