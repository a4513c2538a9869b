"""Readers and writers of `.npz` and `.safetensors` files.

Reading executes nothing in a file and takes no more memory than a limit, whatever the file
declares. Where an array can't be read, `read_arrays` returns the error in its place, so that the
other arrays are not lost.
"""

import io
import json
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from refsnn.files import npy
from refsnn.files.extras import import_extra
from refsnn.files.reading import one_line, open_regular
from refsnn.files.writing import naming_path
from refsnn.ops import Array, validate

SUFFIXES = (".npz", ".safetensors")
FLOATS = ("F64", "F32", "F16", "BF16")  # the floating-point types of .safetensors that are read
OWN = "refsnn."  # in the keys of metadata that refsnn wrote; other programs write their own
LIMIT = 2**28  # bytes of arrays in a file; all test vectors together have less than a tenth of it
EXPANSION = 256  # a file's arrays may take this many times the file's size, if that exceeds LIMIT


def dump_arrays(suffix: str, arrays: Mapping[str, Array]) -> bytes:
    """Return the content of a file with these arrays; equal arrays give equal bytes.

    A text is an array of dtype str without axes. A .safetensors file, whose arrays are numbers
    only, keeps it in the metadata.
    """
    validate.one_of("file", suffix, SUFFIXES)
    if suffix == ".safetensors":
        texts = {name: str(a) for name, a in arrays.items() if a.dtype.kind == npy.TEXT}
        numbers = {
            name: np.ascontiguousarray(a).reshape(a.shape)
            for name, a in arrays.items()
            if name not in texts
        }
        safetensors = import_extra("safetensors.numpy", "safetensors")
        content: bytes = safetensors.save(numbers, texts or None)
        return content
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy.dump(array))
    return buffer.getvalue()


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a file of arrays in the format that its suffix says; OSError names the path."""
    with naming_path(path):
        path.write_bytes(dump_arrays(path.suffix, arrays))


def read_arrays(
    path: Path, limit: int | None = LIMIT, names: Collection[str] | None = None
) -> dict[str, Array | ValueError]:
    """Read a file of arrays in the format that its suffix says; return arrays and errors by name.

    `limit` is how many bytes of arrays the file may hold; None means LIMIT or EXPANSION times the
    file's size, whichever is more. `names` says which arrays to read (default: all). Raises
    ValueError where the file as a whole can't be read, OSError where it does not exist.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        limit = max(LIMIT, EXPANSION * size) if limit is None else limit
        if size > 2 * limit:
            raise ValueError(f"{path}: got {size} bytes, want at most {2 * limit}")
        if path.suffix == ".safetensors":
            return read_safetensors(path, names)
        return read_npz(path, file, limit, names)


def read_whole(
    path: Path, limit: int | None = LIMIT, names: Collection[str] | None = None
) -> dict[str, Array]:
    """Read a file of arrays; ValueError names the first array that can't be read."""
    arrays = {}
    for name, value in read_arrays(path, limit, names).items():
        if isinstance(value, ValueError):
            raise ValueError(f"{path}: {validate.named(name)}: {value}")
        arrays[name] = value
    return arrays


def read_npz(
    path: Path, file: IO[bytes], limit: int, names: Collection[str] | None
) -> dict[str, Array | ValueError]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {}
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name in entries:
                    raise ValueError(f"{path}: holds {validate.named(name)} twice")
                if names is None or name in names:
                    entries[name] = entry
            size = sum(entry.file_size for entry in entries.values())
            if size > limit:
                raise ValueError(
                    f"{path}: declares {size} bytes of arrays, want at most {limit} from a file "
                    "that compresses them; numpy.savez does not"
                )
            return {name: member(archive, entry) for name, entry in entries.items()}
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path}: is no .npz file, or a damaged one ({one_line(error)})") from None


def member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array | ValueError:
    try:
        with archive.open(entry) as stream:
            return npy.read(stream, entry.file_size)
    except ValueError as error:
        return error
    except MemoryError:
        return ValueError(f"wants {entry.file_size} bytes of memory, which are not there")
    except Exception as error:  # zipfile and its decompressors each have their own
        return ValueError(f"can't be read ({one_line(error)})")


def read_safetensors(path: Path, names: Collection[str] | None) -> dict[str, Array | ValueError]:
    safetensors = import_extra("safetensors", "safetensors")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            texts = {k: np.array(v) for k, v in (file.metadata() or {}).items() if OWN in k}
            found = texts | {name: tensor(file, name, path) for name in list(file.keys())}
            return {n: found[n] for n in found if names is None or n in names}
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path}: is no .safetensors file, or a damaged one ({one_line(error)})"
        ) from None


def tensor(file: Any, name: str, path: Path) -> Array | ValueError:
    try:
        dtype = str(file.get_slice(name).get_dtype())
        if dtype == "BF16":
            return bfloat16(path, name)
        if dtype.startswith("F") and dtype not in FLOATS:
            want = f"one of {', '.join(FLOATS)}, or whole numbers"
            return ValueError(f"got type {dtype}, want {want}")
        array = np.asarray(file.get_tensor(name))
        if array.dtype.kind not in npy.NUMERIC:
            return ValueError(f"got dtype {array.dtype}, want numbers")
        return array
    except Exception as error:  # NumPy may lack the type
        return ValueError(f"can't be read ({one_line(error)})")


def bfloat16(path: Path, name: str) -> Array:
    """Read a bfloat16 tensor as float32, which holds its values exactly.

    The file's header has been checked before.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        first, end = entry["data_offsets"]
        file.seek(8 + length + first)
        halves = np.frombuffer(file.read(end - first), "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
