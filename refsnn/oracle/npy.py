"""Arrays as .npy and .npz bytes, read without trust: numbers only, and no more than is there."""

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

NUMBERS = "biuf"  # bool, integers, floating point


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
    if dtype.kind not in NUMBERS:
        raise ValueError(f"got dtype {dtype}, want numbers")
    there, want = len(data) - stream.tell(), math.prod(shape) * dtype.itemsize
    if there != want or min(shape, default=0) < 0:
        raise ValueError(f"got {there} bytes of data, want {want} for shape {shape} of {dtype}")
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="))


def dump_all(arrays: Mapping[str, np.ndarray], note: str = "") -> bytes:
    """.npz, not compressed; `note` is its comment (some JSON)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), dump(array))
        archive.writestr(zipfile.ZipInfo("note"), note)
    return buffer.getvalue()


def parse_all(data: bytes) -> tuple[dict[str, np.ndarray], str]:
    """What `dump_all` was given, in its order; ValueError for anything else."""
    arrays, note = {}, ""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:  # nothing grows when it is read
                    raise ValueError(f"{entry.filename}: got a compressed entry, want a stored one")
                content = archive.read(entry)
                if entry.filename == "note":
                    note = content.decode()
                else:
                    arrays[entry.filename.removesuffix(".npy")] = parse(content)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"got {len(data)} bytes that are no whole .npz: {error}") from None
    return arrays, note
