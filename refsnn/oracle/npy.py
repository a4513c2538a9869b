"""Arrays as .npy bytes, read without trust: numbers and text, and no more than is there."""

import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

NUMERIC = "biuf"  # dtypes' kinds: bool, integers, floating point
TEXT = "U"


def dump(array: Any) -> bytes:
    """.npy 1.0, little-endian, C order."""
    array = np.asarray(array)
    buffer = io.BytesIO()
    ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    npy_format.write_array(buffer, ordered, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def parse(data: bytes) -> np.ndarray:
    """The array in the bytes of a .npy file; ValueError says what is wrong with them."""
    stream = io.BytesIO(data)
    try:
        version = npy_format.read_magic(stream)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(stream)
    except Exception:  # bytes of any kind make NumPy's parsers raise errors of any kind
        raise ValueError(f"got {len(data)} bytes without a header of .npy 1.0 or 2.0") from None
    if dtype.kind not in NUMERIC + TEXT or not dtype.itemsize:
        raise ValueError(f"got dtype {dtype}, want numbers")
    there, want = len(data) - stream.tell(), math.prod(shape) * dtype.itemsize
    if there != want or min(shape, default=0) < 0:
        raise ValueError(f"got {there} bytes of data, want {want} for shape {shape} of {dtype}")
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="))
