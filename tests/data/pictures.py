"""Pictures for class folders."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SHARED = Path(os.environ.get("REFSNN_SHARED", Path(__file__).parents[3] / "shared" / "data"))
PHOTOS = sorted((SHARED / "photos").glob("*/*.[jJ]*"))
RED, BLUE = (200, 40, 60), (30, 90, 220)


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
