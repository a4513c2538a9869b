"""MATLAB files, made byte by byte and by SciPy, intact and damaged."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from refsnn.data import matlab
from refsnn.data.matlab import read_variables

NUMBERS = np.array([[1.0, -2.5], [3.0, 6e9], [5.0, 0.0]])


def header(order="<", version=0x0100):
    mark = b"IM" if order == "<" else b"MI"
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", version) + mark


def element(kind, content, order="<"):
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def compressed(content):
    """A compressed element (15), the only kind that is not filled up to 8 bytes."""
    content = zlib.compress(content)
    return struct.pack("<II", 15, len(content)) + content


def small(kind, content, order="<"):
    return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")


def matrix(numbers, stored=9, kind=6, flags=0, shape=None, name=b"longname", order="<"):
    """A matrix (14) of flags (6), dimensions (5), name (1) and numbers, column by column."""
    dtype = order + {9: "f8", 2: "u1", 3: "i2"}.get(stored, "f8")
    content = np.asarray(numbers).astype(dtype).tobytes(order="F")
    shape = np.shape(numbers) if shape is None else shape
    return element(
        14,
        element(6, struct.pack(f"{order}II", flags | kind, 0), order)
        + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
        + (element if len(name) > 4 else small)(1, name, order)
        + element(stored, content, order),
        order,
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", [b"longname", b"out1", b"x"])
def test_a_matrix_of_doubles(name, order):
    found = read_variables(header(order) + matrix(NUMBERS, name=name, order=order))
    assert list(found) == [name.decode()]
    assert np.array_equal(found[name.decode()], NUMBERS)


@pytest.mark.parametrize(("stored", "dtype"), [(2, "uint8"), (3, "int16")])
def test_doubles_that_are_stored_as_small_integers(stored, dtype):
    numbers = np.arange(6).reshape(2, 3)
    (found,) = read_variables(header() + matrix(numbers, stored)).values()
    assert found.dtype == dtype
    assert np.array_equal(found, numbers)


def test_several_variables_some_compressed_some_empty():
    second = compressed(matrix(NUMBERS.T, name=b"b"))
    assert len(second) % 8
    found = read_variables(
        header() + matrix(NUMBERS, name=b"a") + second + matrix(np.ones((0, 3)), name=b"c")
    )
    assert list(found) == ["a", "b", "c"]
    assert np.array_equal(found["a"], NUMBERS)
    assert np.array_equal(found["b"], NUMBERS.T)
    assert found["c"].shape == (0, 3)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_files_that_scipy_wrote_are_read_as_scipy_does(dtype, compressed):
    out = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 100, (3, 5, 2)).astype(dtype)
    savemat(out, {"first": values, "n": values[0, 0]}, do_compression=compressed)
    found = read_variables(out.getvalue())
    for name, wanted in loadmat(out, variable_names=["first", "n"]).items():
        if name in found:
            assert found[name].dtype == wanted.dtype
            assert np.array_equal(found[name], wanted)
    assert list(found) == ["first", "n"]


@pytest.mark.parametrize("compressed", [False, True])
def test_variables_that_are_not_matrices_of_numbers_are_named_and_not_read(compressed):
    out = io.BytesIO()
    cells = np.array([[1, "a"]], object)
    others = {"c": cells, "s": {"x": 1, "y": cells}, "t": "text", "z": NUMBERS + 1j}
    savemat(out, {**others, "n": NUMBERS}, do_compression=compressed)
    found = read_variables(out.getvalue())
    assert np.array_equal(found.pop("n"), NUMBERS)
    assert found == {"c": "cell", "s": "struct", "t": "char", "z": "complex"}
    assert read_variables(header() + matrix(NUMBERS, kind=17)) == {"": "object"}


PARTS = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", 1, 1)) + small(1, b"x")
BAD = {
    "nothing": (b"", "got no MATLAB header"),
    "rubbish": (bytes(range(256)), "got no MATLAB header"),
    "version 4": (struct.pack("<iiiii", 0, 1, 1, 0, 2) + b"x\0" + bytes(8), "got no MATLAB header"),
    "version 7.3": (header(version=0x0200) + b"\x89HDF", r"got MATLAB 7\.3 \(HDF5\), want version"),
    "version 9": (header(version=0x0900), "byte 124: got the version 0x900, want 0x100"),
    "cut in a head": (header() + matrix(NUMBERS)[:5], "ends within the head of an element, 5 byt"),
    "cut in a matrix": (header() + matrix(NUMBERS)[:-1], "got 103 bytes of an element, want 104"),
    "text": (header() + element(16, b"abcd1234"), r"got an element of type 16, want a matrix"),
    "long small one": (header() + struct.pack("<II", 5 << 16 | 1, 0), "got 4 bytes of an elem.* 5"),
    "no flags": (header() + element(14, b""), "got a matrix without flags"),
    "short flags": (header() + element(14, small(6, b"") * 3), "got a matrix without flags"),
    "more numbers": (header() + matrix(NUMBERS, shape=(2, 2)), r"longname: got 48 bytes .* \(2, 2"),
    "huge": (header() + matrix(NUMBERS, shape=(2**31 - 1,) * 4), "longname: got 48 bytes of float"),
    "negative": (header() + matrix(NUMBERS, shape=(-2, -3)), r"longname: got 48 bytes .* \(-2, -3"),
    "no shape": (header() + matrix([[1.0]], shape=()), r"longname: got 8 bytes of float64 for \("),
    "no numbers": (header() + element(14, PARTS), "x: got 3 elements, want flags, shape, nam"),
    "unknown numbers": (header() + matrix(NUMBERS, 233), "longname: got numbers of type 233, want"),
    "many sides": (header() + matrix(NUMBERS, shape=(1,) * 999), r"for \(1, 1.{72}\.\.\.$"),
    "a name of two lines": (
        header() + matrix(NUMBERS, 233, name=b"longer\nname"),
        r"^'longer\\nname': got numbers",
    ),
    "bad zlib": (header() + element(15, b"12345678"), "a compressed element is damaged"),
    "cut zlib": (header() + compressed(bytes(99))[:-5], "got 7 bytes of an element, want 12"),
    "half a zlib": (header() + element(15, zlib.compress(bytes(99))[:7]), "element is cut, or has"),
    "empty zlib": (header() + compressed(b""), "got 0 elements in a compressed one, want 1"),
    "zlib in zlib": (header() + compressed(compressed(b"")), "got an element of type 15, want a m"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_file_that_is_not_a_matlab_file_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read_variables(content)


def test_a_bomb_is_not_unpacked(monkeypatch):
    content = header() + compressed(matrix(np.zeros((1000, 1000))))
    assert len(content) < 10_000
    assert read_variables(content)["longname"].shape == (1000, 1000)
    monkeypatch.setattr(matlab, "MOST_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="a compressed element is cut, or has more than 1000000"):
        read_variables(content)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_file_gives_numbers_or_a_clear_error(data):
    """SciPy's reader does not survive this."""
    content = bytearray(header() + matrix(NUMBERS) + matrix(NUMBERS[:, :1], 3, name=b"ab"))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(124, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_variables(bytes(content[: data.draw(st.integers(120, len(content)))]))
    except ValueError:
        return
    assert all(isinstance(value, str | np.ndarray) for value in found.values())
