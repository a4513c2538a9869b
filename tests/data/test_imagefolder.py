"""Class folders of photographs: what is found, what a file becomes, what is refused."""

import math
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refsnn.data import imagefolder
from refsnn.data.imagefolder import (
    FolderImages,
    random_resized_crop,
    read,
    resize_center_crop,
    resized,
    scan,
)

SHARED = Path(os.environ.get("REFSNN_SHARED", Path(__file__).parents[3] / "shared" / "data"))
PHOTOS = sorted((SHARED / "photos").glob("*/*.[jJ]*"))
RED, BLUE = (200, 40, 60), (30, 90, 220)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def halves(left, right, mode="RGB", size=(64, 48)):
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def noise(width, height, seed=0):
    """Coarse noise made larger: as smooth as a photograph."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def places(width, height):
    """Red tells the column of a pixel and green its row."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))


def png(width, height, depth, colour, data, *chunks):
    def chunk(kind, body):
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.fixture
def root(tmp_path):
    """Three photographs of dogs and two of cats to train, one of each to validate."""
    for seed, name in enumerate(
        [
            "train/dog/c.jpg",
            "train/dog/a.JPEG",
            "train/dog/b.Png",
            "train/cat/1.jpg",
            "train/cat/0.jpeg",
            "val/cat/0.jpg",
            "val/dog/0.png",
        ]
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(80, 64, seed).save(path)
    return tmp_path


def names(files):
    return [Path(path).name for path in files.paths]


def test_classes_and_files_are_sorted_and_labelled(root):
    folder = scan(root)
    assert folder.classes == ["cat", "dog"]
    assert names(folder.train) == ["0.jpeg", "1.jpg", "a.JPEG", "b.Png", "c.jpg"]
    assert folder.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert names(folder.val) == ["0.jpg", "0.png"]
    assert folder.val.labels.tolist() == [0, 1]
    assert folder.train.labels.dtype == np.int64
    assert [Path(path).parent for path in folder.val.paths] == [root / "val/cat", root / "val/dog"]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_of_the_file_system_does_not_matter(root, monkeypatch, reverse):
    before, visible = scan(root), imagefolder.visible
    monkeypatch.setattr(
        imagefolder, "visible", lambda f: sorted(visible(f), key=lambda e: e.name, reverse=reverse)
    )
    after = scan(root)
    assert (after.classes, after.train.paths) == (before.classes, before.train.paths)


def test_what_is_no_photograph_of_a_class_is_passed_over(root):
    before = scan(root)
    for name in (
        "train/.hidden/a.jpg",
        "train/cat/.a.jpg",
        "train/cat/a.txt",
        "train/cat/jpg",
        "train/stray.jpg",
        "val/.DS_Store",
        "train/cat/folder.jpg/a.jpg",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(before.train.paths[0], root / name)
    assert scan(root)[0] == before[0]
    assert names(scan(root).train) == names(before.train)


def test_what_is_no_file_is_not_passed_over(root):
    os.mkfifo(root / "train/cat/pipe.jpg")
    (root / "train/cat/zero.png").symlink_to("/dev/zero")
    (root / "train/cat/nothing.jpg").symlink_to("/nothing")
    images = FolderImages(scan(root).train.paths, 8)
    with pytest.raises(FileNotFoundError, match=r"cat/nothing\.jpg"):
        images.identity()  # when a training begins
    (root / "train/cat/nothing.jpg").unlink()
    with pytest.raises(ValueError, match=r"^dataset: \S*/cat/pipe\.jpg: is no regular file$"):
        FolderImages(scan(root).train.paths, 8).identity()
    for name, text in (
        ("pipe.jpg", "is no regular file"),
        ("zero.png", "is no regular file"),
        ("nothing.jpg", "No such file"),
    ):
        index = names(images).index(name)
        with pytest.raises(ValueError, match=rf"^dataset: \S*/cat/{name} can't be read: .*{text}"):
            images.take(np.array([index]))


def test_a_picture_that_wants_more_memory_than_there_is_is_named(root, monkeypatch):
    def too_large(*arguments):
        raise MemoryError

    monkeypatch.setattr(imagefolder, "resize_center_crop", too_large)
    with pytest.raises(OSError, match=r"Cannot allocate memory: '\S*cat/0\.jpeg'$"):
        read(root / "train/cat/0.jpeg", 8)


def test_links_are_followed(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(root / "train/cat", elsewhere)
    (root / "train/cat").symlink_to(elsewhere / "cat")
    assert names(scan(root).train)[:2] == ["0.jpeg", "1.jpg"]


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("train", "train is missing, want a folder with one for each class"),
        ("val", "val is missing, want a folder with one for each class"),
        ("train/cat", "train/cat is missing, val has it"),
        ("val/dog", "val/dog is missing, train has it"),
        ("train/dog/*", "train/dog holds no file in .jpg, .jpeg, .png"),
        ("val/cat/*", "val/cat holds no file in .jpg, .jpeg, .png"),
        ("val/*", "val holds no folders, want one for each class"),
    ],
)
def test_a_folder_that_is_missing_or_empty_is_named(root, remove, message):
    for path in list(root.glob(remove)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError) as error:  # noqa: PT011
        scan(root)
    assert str(error.value) == f"dataset: {root}/{message}"


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
def test_bytes_at_random_make_an_image_or_are_refused(tmp_path, name):
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


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_a_size_that_is_none_is_refused(root, size):
    paths = scan(root).train.paths
    with pytest.raises(ValueError, match=f"^size: got {size}"):
        FolderImages(paths, size)
    with pytest.raises(ValueError, match=f"^size: got {size}"):
        read(paths[0], size)


def test_files_are_an_array_whose_images_are_read_when_taken(root):
    paths = scan(root).train.paths
    images = FolderImages(paths, 24)
    assert (images.shape, images.dtype) == ((5, 24, 24, 3), np.uint8)
    out = images.take(np.array([3, 0, 3]))
    assert out.dtype == np.uint8
    assert np.array_equal(out, [read(paths[k], 24) for k in (3, 0, 3)])
    assert images.take(np.array([], int)).shape == (0, 24, 24, 3)


def test_crops_depend_on_the_generator_and_the_place_in_the_batch_alone(root):
    paths = scan(root).train.paths
    which = np.array([3, 0, 3, 1])
    first = FolderImages(paths, 24).take(which, np.random.default_rng(1))
    again = FolderImages(paths, 24).take(which, np.random.default_rng(1))
    other = FolderImages(paths, 24).take(which, np.random.default_rng(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[2])
    noise(8, 800).save(paths[0])  # takes ten draws of a crop
    changed = FolderImages(paths, 24).take(which, np.random.default_rng(1))
    assert np.array_equal(changed[[0, 2, 3]], first[[0, 2, 3]])
    assert not np.array_equal(changed[1], first[1])


def test_identity_tells_names_classes_and_lengths_but_not_the_place(root, tmp_path_factory):
    def identity(root):
        return FolderImages(scan(root).train.paths, 24).identity().tobytes()

    copy = tmp_path_factory.mktemp("copy") / "root"
    shutil.copytree(root, copy)
    assert identity(copy) == identity(root)
    seen = {identity(root)}
    (copy / "train/cat/1.jpg").rename(copy / "train/cat/2.jpg")
    seen.add(identity(copy))
    (copy / "train/cat/2.jpg").rename(copy / "train/dog/2.jpg")
    seen.add(identity(copy))
    with open(copy / "train/dog/2.jpg", "ab") as file:
        file.write(b"more")
    seen.add(identity(copy))
    assert len(seen) == 4


@pytest.mark.skipif(not PHOTOS, reason="no photographs")
def test_real_photographs(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for folder in {path.parent for path in PHOTOS}:
            (tmp_path / part / folder.name).symlink_to(folder.resolve())
    folder = scan(tmp_path)
    assert names(folder.train) == [path.name for path in PHOTOS]
    assert [folder.classes[label] for label in folder.val.labels] == [p.parent.name for p in PHOTOS]
    images = FolderImages(folder.train.paths, 224)
    everything = np.arange(len(PHOTOS))
    for out in (images.take(everything), images.take(everything, np.random.default_rng(0))):
        assert (out.std(axis=(1, 2, 3)) > 10).all()


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
