"""Files of arrays: intact arrays are read, damaged ones are reported and take no memory."""

import io
import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from refsnn.files import arrays
from refsnn.files.arrays import read_arrays, read_whole, write_arrays

ARRAYS = {
    "out.z": np.arange(6.0).reshape(2, 3),
    "in.labels": np.array([1, -2]),
    "out.loss": np.array(0.1),
    "in.x": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "empty": np.zeros((0, 4)),
    "refsnn.note": np.array("λ"),
    "x/../y": np.array(True),
}


class Loud:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("suffix", arrays.SUFFIXES)
def test_arrays_are_read_as_they_were_written(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"a{suffix}"
    write_arrays(path, ARRAYS)
    found = read_arrays(path)
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    bytes_before = path.read_bytes()
    write_arrays(path, ARRAYS)
    assert path.read_bytes() == bytes_before


@pytest.mark.parametrize("suffix", arrays.SUFFIXES)
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"a{suffix}"
    write_arrays(path, ARRAYS)
    whole = path.read_bytes()
    for end in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=rf"a\{suffix}: is no \{suffix} file, or a damaged"):
            read_arrays(path)


def test_compressed_files_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", y=ARRAYS["out.z"])
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz")["y"], ARRAYS["out.z"])


def test_an_array_that_is_not_of_numbers_has_an_error_in_its_place(tmp_path, capsys):
    given = {"loud": np.array([Loud()], object), "text": np.array([b"a"]), "y": np.ones(2)}
    np.savez(tmp_path / "a.npz", allow_pickle=True, c=np.array([1j]), **given)
    found = read_arrays(tmp_path / "a.npz")
    errors = {name: str(value) for name, value in found.items() if isinstance(value, ValueError)}
    assert errors == {
        "loud": "got dtype object, want numbers",
        "text": "got dtype |S1, want numbers",
        "c": "got dtype complex128, want numbers",
    }
    np.testing.assert_array_equal(found["y"], [1, 1])
    assert not capsys.readouterr().out


def test_one_damaged_array_leaves_the_others(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": np.array([5.0]), "b": np.array([7.0])})
    data = bytearray(path.read_bytes())
    data[data.index(np.float64(5).tobytes())] ^= 1
    path.write_bytes(data)
    found = read_arrays(path)
    assert "Bad CRC-32" in str(found["a"])
    assert found["b"] == 7


def with_shape(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00\x76\x00" + header.encode() + bytes(48)


def test_a_shape_larger_than_its_bytes_takes_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", with_shape("(1000000000, 1000)"))
    found = read_arrays(tmp_path / "a.npz")
    assert "got 48 bytes of data, want 8000000000000" in str(found["x"])


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w") as member,
    ):
        for _ in range(2**9):
            member.write(bytes(2**20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"declares {2**29} bytes of arrays, want at most"):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_a_compressed_file_may_hold_a_multiple_of_its_size(tmp_path):
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, x=np.zeros(arrays.LIMIT + 1, np.uint8))
    size = path.stat().st_size
    assert size * arrays.EXPANSION < arrays.LIMIT
    with pytest.raises(ValueError, match=rf"want at most {arrays.LIMIT} from a file that compress"):
        read_whole(path, None)
    noise = np.random.default_rng(0).integers(0, 256, arrays.LIMIT // 64, np.uint8)
    np.savez(path, x=noise)
    assert read_whole(path, None)["x"].nbytes == noise.nbytes


def test_an_entry_that_hides_its_size_is_not_unpacked_beyond_it(tmp_path):
    """The directory says 176 bytes, but the stream continues."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", with_shape("(2, 3)") + bytes(2**20))
    data = buffer.getvalue()
    true, lie = (n.to_bytes(4, "little") for n in (128 + 48 + 2**20, 128 + 48))
    assert data.count(true) == 2
    (tmp_path / "a.npz").write_bytes(data.replace(true, lie))
    assert "CRC" in str(read_arrays(tmp_path / "a.npz")["x"])


def test_a_file_above_twice_the_limit_is_refused(tmp_path):
    write_arrays(tmp_path / "a.npz", ARRAYS)
    with pytest.raises(ValueError, match=r"a\.npz: got \d+ bytes, want at most 20"):
        read_arrays(tmp_path / "a.npz", limit=10)


def test_only_known_suffixes_are_written(tmp_path):
    with pytest.raises(ValueError, match=r"file: got '\.txt', want one of \.npz, \.safetensors"):
        write_arrays(tmp_path / "a.txt", ARRAYS)


def save_raw(path, **tensors):
    """Write .safetensors from (type, shape, bytes) of each tensor."""
    entries, content = {}, b""
    for name, (kind, shape, data) in tensors.items():
        offsets = [len(content), len(content) + len(data)]
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        content += data
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)


def test_bfloat16_is_read_as_float32_to_the_bit(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    every = np.arange(2**16, dtype="<u2")
    save_raw(
        path,
        b=("F64", [1], np.float64(3).tobytes()),
        a=("BF16", [256, 256], every.tobytes()),
        none=("BF16", [0, 3], b""),
        one=("BF16", [], b"\x40\xbf"),
    )
    found = read_arrays(path)
    assert found["a"].dtype == np.float32
    assert found["a"].shape == (256, 256)
    assert np.array_equal(found["a"].view(np.uint32).ravel(), every.astype(np.uint32) << 16)
    assert found["b"] == 3
    assert found["none"].shape == (0, 3)
    assert found["one"] == -0.75


def test_bfloat16_of_pytorch_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    x = torch.randn(3, 5).bfloat16()
    safetensors.save_file({"x": x, "y": torch.ones(7)}, tmp_path / "a.safetensors")
    found = read_whole(tmp_path / "a.safetensors")
    assert np.array_equal(found["x"], x.float().numpy())
    assert np.array_equal(found["y"], np.ones(7))


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("F8_E4M3", 1, "got type F8_E4M3, want one of F64, F32, F16, BF16, or whole numbers"),
        ("F8_E5M2", 1, "got type F8_E5M2, want one of F64, F32, F16, BF16, or whole numbers"),
        ("C64", 8, "got dtype complex64, want numbers"),
    ],
)
def test_safetensors_of_other_types_have_their_error_in_their_place(kind, size, message, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    save_raw(path, a=(kind, [1], bytes(size)), b=("F64", [1], np.float64(3).tobytes()))
    found = read_arrays(path)
    assert str(found["a"]) == message
    assert found["b"] == 3
    with pytest.raises(ValueError, match=rf"a\.safetensors: a: {message}"):
        read_whole(path)


def test_only_metadata_of_refsnn_are_read(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    safetensors.save_file({"y": np.ones(2)}, path, {"format": "pt", "refsnn.note": "ours"})
    assert read_arrays(path).keys() == {"y", "refsnn.note"}


def test_an_array_that_can_not_be_read_is_an_error_of_the_whole_file(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, y=np.ones(2), z=np.array([1j]))
    with pytest.raises(ValueError, match=r"a\.npz: z: got dtype complex128, want numbers"):
        read_whole(path)
    np.savez(path, y=np.ones(2))
    np.testing.assert_array_equal(read_whole(path)["y"], [1, 1])


def test_a_file_that_is_not_regular_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    (tmp_path / "b.npz").symlink_to("/dev/zero")
    for name in ("a.npz", "b.npz"):
        with pytest.raises(ValueError, match=rf"{name}: is no regular file"):
            read_arrays(tmp_path / name)


def test_a_name_that_would_break_the_line_is_quoted(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a\nb.npy", b"none")
    with pytest.raises(ValueError, match=r"a\.npz: 'a\\nb': got 4 bytes without a header"):
        read_whole(path)
