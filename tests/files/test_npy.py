"""Arrays as .npy bytes: what is written is read back, and anything else is refused."""

import io
import pickle

import numpy as np
import pytest

from refsnn.files import npy

ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.float32(0.1),
    np.zeros((0, 4)),
    np.array([1, -2]),
    np.array([True, False]),
    np.array("λ"),
    np.arange(6.0).reshape(2, 3).T,
    np.arange(3, dtype=">f8"),
]


class Loud:
    def __reduce__(self):
        return print, ("executed",)


def with_shape(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00\x76\x00" + header.encode() + bytes(48)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{np.shape(a)}-{np.asarray(a).dtype}")
def test_arrays_are_read_as_numpy_wrote_them(array):
    array = np.asarray(array)
    found = npy.parse(npy.dump(array))
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array, strict=array.dtype.isnative)


def test_numpy_reads_what_is_written_in_c_order_and_little_endian():
    data = npy.dump(np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)))
    assert b"'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)" in data
    np.testing.assert_array_equal(np.load(io.BytesIO(data)), np.arange(6.0).reshape(2, 3))


def test_a_header_written_by_hand_is_read():
    np.testing.assert_array_equal(npy.parse(with_shape("(2, 3)")), np.zeros((2, 3)))


def test_files_in_fortran_order_are_read():
    buffer = io.BytesIO()
    np.save(buffer, np.asfortranarray(ARRAYS[0]))
    np.testing.assert_array_equal(npy.parse(buffer.getvalue()), ARRAYS[0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got 0 bytes without a header"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "without a header"),
        (npy.dump(ARRAYS[0])[:-1], r"got 47 bytes of data, want 48 for shape \(2, 3\)"),
        (npy.dump(ARRAYS[0]) + b"0", "got 49 bytes of data, want 48"),
        (with_shape("(10**9, 10**9)"), "without a header"),
        (with_shape("(1000000000, 1000000000)"), "got 48 bytes of data, want 8000000000000000000"),
        (with_shape("(-2, -3)"), r"got 48 bytes of data, want 48 for shape \(-2, -3\)"),
        (with_shape("(" * 100), "without a header"),
        (npy.dump(np.array([b"a"])), r"got dtype \|S1, want numbers"),
        (npy.dump(np.array([""])).replace(b"<U1", b"<U0")[:-4], "got dtype <U0, want numbers"),
        (npy.dump(np.array([1j])), "got dtype complex128, want numbers"),
    ],
)
def test_anything_else_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        npy.parse(data)


def test_pickles_are_not_executed(capsys):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Loud()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="got dtype object, want numbers"):
        npy.parse(buffer.getvalue())
    with pytest.raises(ValueError, match="header"):
        npy.parse(pickle.dumps(Loud()))
    assert not capsys.readouterr().out
