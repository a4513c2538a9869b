"""Reader and writer of .npy bytes that takes only numbers and text, and no more than is there."""

import io
import math
import warnings
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

NUMERIC = "biuf"  # kinds of dtypes: bool, integers, floating point
TEXT = "U"
CHUNK = 1 << 20  # bytes read at a time
MOST_HEAD = 1 << 14  # bytes of the header, before the array's own bytes
READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def dump(array: Any) -> bytes:
    """Return an array as bytes in .npy 1.0, little-endian, in C order."""
    array = np.asarray(array)
    buffer = io.BytesIO()
    ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    npy_format.write_array(buffer, ordered, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def parse(data: bytes) -> np.ndarray:
    """Read an array from the bytes of a .npy file; ValueError says what is wrong with them."""
    return read(io.BytesIO(data), len(data))


def read(stream: IO[bytes], size: int) -> np.ndarray:
    """Read an array from a stream of `size` bytes in .npy format.

    Returns it in native byte order; memory for one chunk is taken besides. ValueError says what is
    wrong with the bytes.
    """
    head = read_head(stream)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header that Python 2 wrote is fine
            buffer = io.BytesIO(head)
            version = npy_format.read_magic(buffer)
            shape, fortran, dtype = READERS[version](buffer)
    except Exception:  # bytes of any kind make NumPy's parsers raise errors of any kind
        raise ValueError(f"got {size} bytes without a header of .npy 1.0 or 2.0") from None
    if dtype.kind not in NUMERIC + TEXT or not dtype.itemsize:
        raise ValueError(f"got dtype {dtype}, want numbers")
    there, want = size - len(head), math.prod(shape) * dtype.itemsize
    if there != want or min(shape, default=0) < 0:
        raise ValueError(f"got {there} bytes of data, want {want} for shape {shape} of {dtype}")
    flat = np.empty(math.prod(shape), dtype)
    content = flat.view(np.uint8)
    for first in range(0, want, CHUNK):
        part = content[first : first + CHUNK]
        chunk = stream.read(len(part))
        if len(chunk) != len(part):
            raise ValueError(f"got {first + len(chunk)} bytes of data, want {want}")
        part[:] = np.frombuffer(chunk, np.uint8)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))


def read_head(stream: IO[bytes]) -> bytes:
    """Read the header, whose length is in its first bytes, up to MOST_HEAD bytes."""
    start = stream.read(12)  # magic, version and length, which has two or four bytes
    length = int.from_bytes(start[8:10] if start[6:7] == b"\1" else start[8:12], "little")
    whole = length + (10 if start[6:7] == b"\1" else 12)
    return start + stream.read(max(0, min(whole, MOST_HEAD) - len(start)))
