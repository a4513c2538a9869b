"""Writers of CIFAR's files in both published formats, for any images."""

import os
import struct
from pathlib import Path

import numpy as np

from refsnn.data.cifar import load_cifar10, load_cifar100

SHARED = Path(os.environ.get("REFSNN_SHARED", Path(__file__).parents[2].parent / "shared" / "data"))
CASES = SHARED.parent / "cases" / "files"
TRAIN10 = [f"data_batch_{k}" for k in range(1, 6)]
RNG = np.random.default_rng(0)


def made(n, classes):
    """Random images (N, 32, 32, 3) and labels; the last class is among them."""
    labels = RNG.integers(0, classes, n)
    labels[0] = classes - 1
    return RNG.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), labels


def record(image, *labels):
    """The binary version's: labels, then the red, green and blue plane row by row."""
    planes = [image[row, column, c] for c in range(3) for row in range(32) for column in range(32)]
    return bytes([*labels, *planes])


def python2_pickle(pixels, labels, title="training batch 1 of 5", names=()):
    """Pickle {batch_label, **labels, data, filenames} as Python 2 and NumPy of 2009 did."""
    out, stored = [], 0

    def put(content):
        nonlocal stored
        stored += 1
        number = b"q%c" % stored if stored < 256 else b"r" + struct.pack("<I", stored)
        out.append(content + number)

    def text(value):
        put(b"U%c" % len(value) + value.encode("ascii"))

    def integer(value):
        out.append(b"K%c" % value if value < 256 else b"M" + struct.pack("<H", value))

    def listed(items, write):
        put(b"]")
        for k, item in enumerate(items):
            out.append(b"(" if k % 1000 == 0 else b"")
            write(item)
            out.append(b"e" if k % 1000 == 999 or k == len(items) - 1 else b"")

    put(b"\x80\x02}")
    out.append(b"(")
    text("batch_label")
    text(title)
    for key, values in labels.items():
        text(key)
        listed(values, integer)
    text("data")
    put(b"cnumpy.core.multiarray\n_reconstruct\n")
    put(b"cnumpy\nndarray\n")
    put(b"K\0\x85U\x01b\x87R")
    out.append(b"(K\x01")
    for length in pixels.shape:
        integer(length)
    out.append(b"\x86")
    put(b"cnumpy\ndtype\n")
    put(b"U\x02u1K\0K\x01\x87R")
    out.append(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89")
    out.append(b"T" + struct.pack("<I", pixels.nbytes) + pixels.tobytes() + b"tb")
    text("filenames")
    listed(names or [f"image_s_{k:06}.png" for k in range(len(pixels))], text)
    out.append(b"u.")
    return b"".join(out)


def pixels_of(images):
    return images.transpose(0, 3, 1, 2).reshape(-1, 3072)


def write10(folder, batches, suffix):
    """The training batches, the last of `batches` for the test; (images, labels) each."""
    folder.mkdir(parents=True)
    for name, (images, labels) in zip([*TRAIN10, "test_batch"], batches, strict=True):
        if suffix == ".bin":
            content = b"".join(map(record, images, labels))
        else:
            content = python2_pickle(pixels_of(images), {"labels": labels.tolist()})
        (folder / f"{name}{suffix}").write_bytes(content)


def write100(folder, batches, suffix):
    """Training and test batch, (images, fine labels); the coarse ones are fine // 5."""
    folder.mkdir(parents=True)
    for name, (images, fine) in zip(["train", "test"], batches, strict=True):
        if suffix == ".bin":
            content = b"".join(map(record, images, fine // 5, fine))
        else:
            labels = {"fine_labels": fine.tolist(), "coarse_labels": (fine // 5).tolist()}
            content = python2_pickle(pixels_of(images), labels)
        (folder / f"{name}{suffix}").write_bytes(content)


VERSIONS = {
    "cifar-10-batches-bin": (load_cifar10, write10, 6, 10, ".bin"),
    "cifar-10-batches-py": (load_cifar10, write10, 6, 10, ""),
    "cifar-100-binary": (load_cifar100, write100, 2, 100, ".bin"),
    "cifar-100-python": (load_cifar100, write100, 2, 100, ""),
}
PIXELS = RNG.integers(0, 256, (3, 3072), dtype=np.uint8)
GOOD = {"labels": [9, 0, 4], "data": PIXELS}


def pixels_images(pixels):
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
