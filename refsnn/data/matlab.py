"""Reader of matrices of numbers in MATLAB files of versions 5 to 7.

This reader checks everything before it uses it. SciPy's trusts the types and sizes in a file, so
that one damaged byte may crash the process.
"""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from refsnn.ops import Array, validate

HEADER_BYTES, VERSION, VERSION_HDF5 = 128, 0x0100, 0x0200
COMPRESSED, MATRIX = 15, 14
MOST_BYTES = 1 << 30  # of one unpacked matrix: 20 million events in six columns
NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
#: the classes of a variable that are not numbers; the numeric ones, double to uint64, follow
CLASSES = ("unknown", "cell", "struct", "object", "char", "sparse")
DOUBLE, UINT64, COMPLEX = 6, 15, 0x0800


def read_variables(content: bytes) -> dict[str, Array | str]:
    """Return every variable of a file: a read-only matrix of numbers, or the name of its class."""
    mark = content[HEADER_BYTES - 2 : HEADER_BYTES]
    if mark not in (b"IM", b"MI"):
        raise ValueError("got no MATLAB header, want a file of version 5 to 7")
    order = "<" if mark == b"IM" else ">"
    (version,) = struct.unpack_from(f"{order}H", content, HEADER_BYTES - 4)
    if version == VERSION_HDF5:
        raise ValueError("got MATLAB 7.3 (HDF5), want version 7 or older")
    if version != VERSION:
        raise ValueError(f"byte 124: got the version {version:#x}, want {VERSION:#x}")
    variables = {}
    for code, body in elements(memoryview(content)[HEADER_BYTES:], order):
        if code == COMPRESSED:
            inside = list(elements(memoryview(unpacked(body)), order))
            if len(inside) != 1:
                raise ValueError(f"got {len(inside)} elements in a compressed one, want 1")
            ((code, body),) = inside
        if code != MATRIX:
            raise ValueError(f"got an element of type {code}, want a matrix ({MATRIX})")
        name, value = variable(body, order)
        variables[name] = value
    return variables


def elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of each element."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError(f"the file ends within the head of an element, {len(data) - at} bytes")
        code, size = struct.unpack_from(f"{order}II", data, at)
        start, most = at + 8, len(data) - at - 8
        if code >> 16:  # a small element: size and type share a word, the content is in the next
            code, size, start, most = code & 0xFFFF, code >> 16, at + 4, 4
        if size > most:
            raise ValueError(f"got {most} bytes of an element, want {size}")
        yield code, data[start : start + size]
        at = start + size + (0 if code == COMPRESSED else -(start + size - at) % 8)


def unpacked(body: memoryview) -> bytes:
    unpack = zlib.decompressobj()
    try:
        data = unpack.decompress(body, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"a compressed element is damaged: {error}") from None
    if not unpack.eof:
        raise ValueError(f"a compressed element is cut, or has more than {MOST_BYTES} bytes")
    return data


def variable(body: memoryview, order: str) -> tuple[str, Array | str]:
    """Parse a matrix (flags, dimensions, name, numbers by columns) into its name and content."""
    parts = list(elements(body, order))
    if len(parts) < 3 or len(parts[0][1]) != 8:
        raise ValueError("got a matrix without flags, dimensions and name")
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    number = flags & 0xFF  # of the variable's class
    if number > UINT64:
        return "", "object"  # the newer classes have no dimensions
    name = bytes(parts[2][1]).decode("latin-1")
    if number < DOUBLE or flags & COMPLEX:
        return name, CLASSES[number] if number < DOUBLE else "complex"
    shown = validate.named(name)
    if len(parts) != 4 or len(parts[1][1]) % 4:
        raise ValueError(f"{shown}: got {len(parts)} elements, want flags, shape, name, numbers")
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    stored, numbers = parts[3]
    if stored not in NUMBERS:
        raise ValueError(f"{shown}: got numbers of type {stored}, want {sorted(NUMBERS)}")
    dtype = np.dtype(order + NUMBERS[stored])
    if min(shape, default=-1) < 0 or math.prod(shape) * dtype.itemsize != len(numbers):
        want = validate.shown(tuple(shape))
        raise ValueError(f"{shown}: got {len(numbers)} bytes of {dtype.name} for {want}")
    return name, np.frombuffer(numbers, dtype).reshape(shape, order="F")
