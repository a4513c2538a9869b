"""Reader of pictures in class folders, like ImageNet: train/CLASS/*.jpg and val/CLASS/*.jpg."""

import errno
import math
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from refsnn.files.reading import naming_memory, open_regular
from refsnn.ops import Array, validate

SUFFIXES = (".jpg", ".jpeg", ".png")
FORMATS = ("JPEG", "PNG")  # judged by content: ImageNet has a PNG file named .JPEG
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class Files(NamedTuple):
    """Paths, sorted by class and then name, and labels (N,), int64."""

    paths: list[str]
    labels: Array


class ImageFolder(NamedTuple):
    """The sorted names of the classes, which labels are indices of, and the files."""

    classes: list[str]
    train: Files
    val: Files


def scan(root: Path) -> ImageFolder:
    """Find the files of every class, ignoring names that begin with a dot and other suffixes.

    ValueError names a folder that is missing or empty.
    """
    classes = {part: class_names(root / part) for part in ("train", "val")}
    for part, other in (("train", "val"), ("val", "train")):
        for name in classes[other]:
            if name not in classes[part]:
                raise ValueError(f"dataset: {root / part / name} is missing, {other} has it")
    names = classes["train"]
    return ImageFolder(names, *(files(root / part, names) for part in ("train", "val")))


def class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"dataset: {folder} is missing, want a folder with a folder per class")
    names = sorted(entry.name for entry in visible(folder) if entry.is_dir())
    if not names:
        raise ValueError(f"dataset: {folder} holds no folders, want one per class")
    return names


def files(folder: Path, classes: list[str]) -> Files:
    paths: list[str] = []
    counts = []
    for name in classes:
        found = sorted(
            entry.path
            for entry in visible(folder / name)
            if entry.name.lower().endswith(SUFFIXES) and not entry.is_dir()
        )
        if not found:
            raise ValueError(f"dataset: {folder / name} holds no file in {', '.join(SUFFIXES)}")
        paths += found
        counts.append(len(found))
    return Files(paths, np.repeat(np.arange(len(classes)), counts))


def visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


class FolderImages:
    """Pictures as a read-only array (N, size, size, 3), uint8, decoded when they are taken.

    With `crops`, `take` crops at random where it is given a generator. Otherwise it always takes
    the centre.
    """

    def __init__(self, paths: Sequence[str], size: int, crops: bool = True) -> None:
        validate.whole("size", size, 1)
        self.paths, self.size, self.crops = paths, size, crops
        self.shape: tuple[int, ...] = (len(paths), size, size, 3)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def take(self, which: Array, rng: np.random.Generator | None = None) -> Array:
        """Return the images at these indices, (n, size, size, 3), as `read` makes them.

        Each image has a seed of its own, drawn first. So its pixels depend neither on the draws for
        other images nor on the process that decodes it.
        """
        images = np.empty((len(which), *self.shape[1:]), self.dtype)
        seeds = [None] * len(which)
        if rng is not None and self.crops:
            seeds = rng.integers(2**63, size=len(which)).tolist()
        for image, index, seed in zip(images, which, seeds, strict=True):
            own = None if seed is None else np.random.default_rng(seed)
            image[...] = read(self.paths[index], self.size, own)
        return images

    def identity(self) -> Array:
        """Return folder, name and length of every file as bytes; ValueError for what is no file."""
        lines = (
            os.fsencode(os.sep.join(path.split(os.sep)[-2:])) + b" %d" % length(path)
            for path in self.paths
        )
        return np.frombuffer(b"\n".join(lines), np.uint8)


def length(path: str) -> int:
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode):
        raise ValueError(f"dataset: {path}: is no regular file")
    return state.st_size


def read(path: str | Path, size: int, rng: np.random.Generator | None = None) -> Array:
    """Read a JPEG or PNG file as (size, size, 3), uint8.

    With a generator, as for training, takes a random resized crop, mirrored with probability 1/2;
    without one, takes the centre. Ignores an orientation in EXIF data, as torchvision does. Raises
    ValueError where the file is missing, damaged, in another format, or larger than Pillow's limit.
    """
    validate.whole("size", size, 1)
    with opened(path) as image:
        if rng is None:
            return np.array(resize_center_crop(image, size))
        crop = random_resized_crop(image, size, rng)
        return np.array(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)


def check(path: str | Path, size: int = 224) -> None:
    """Check that `read` can read a file, decoding every pixel; raises what `read` raises."""
    with opened(path) as image:
        image.load()  # else it may be decoded at a smaller size
        resize_center_crop(image, size)


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """Open a picture; any error in this context becomes a ValueError that names the file."""
    try:
        with (
            naming_memory(path),
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            os.fdopen(open_regular(Path(path)), "rb") as file,
            Image.open(file, formats=FORMATS) as image,
        ):
            yield image
    except Exception as error:  # Pillow, its decoders and zlib each have their own
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise
        reason = str(error).removeprefix(f"{path}: ") or type(error).__name__
        raise ValueError(f"dataset: {path} can't be read: {reason}") from None


def random_resized_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Crop 8 to 100 % of the area, with sides of 3:4 to 4:3, and resize it to size x size, RGB.

    Draws as torchvision does. If ten draws do not fit into the image, takes its centre, as large as
    these ratios allow.
    """
    width, height = image.size
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            break
    else:
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        left, top = (width - w) // 2, (height - h) // 2
    return resized(image, (left, top, left + w, top + h), size)


def resize_center_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the short side to 8/7 of `size` (256 for 224); crop the centre, size x size, RGB."""
    width, height = image.size
    w, h = (size * 8 // 7 * side // min(width, height) for side in (width, height))
    left, top = round((w - size) / 2), round((h - size) / 2)
    x, y = width / w, height / h
    return resized(image, (left * x, top * y, (left + size) * x, (top + size) * y), size)


def resized(image: Image.Image, box: Box, size: int) -> Image.Image:
    """Crop a box and resize it to size x size, RGB, bilinearly; averages where it shrinks.

    A JPEG file with at least 4 times the wanted pixels in each direction is decoded at a half, a
    quarter or an eighth of its size, which changes a photograph's pixels by about 0.3 of 255.
    """
    left, top, right, bottom = box
    width, height = image.size
    shrink = min(right - left, bottom - top) / (2 * size)
    drafted = image.draft("RGB", (int(width / shrink), int(height / shrink)))
    scale = width / drafted[1][2] if drafted else 1
    box = left / scale, top / scale, right / scale, bottom / scale
    return to_rgb(image).resize((size, size), Image.Resampling.BILINEAR, box)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB; drops transparency, as torchvision does."""
    if image.mode.startswith("I"):  # 16-bit grey: keep the high byte, as Pillow does for colours
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P":  # else Pillow may warn about transparency
        image = image.convert("RGBA")
    return image.convert("RGB")
