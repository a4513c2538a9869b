"""Files of arrays from outside, `.npz` and `.safetensors`, read without trust.

Nothing in them is executed, and no more memory is taken than a limit, whatever they declare. An
array that can't be read has its error in its place, so that the others are not lost.
"""

import io
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.ops import Array, validate
from refsnn.oracle import npy

SUFFIXES = (".npz", ".safetensors")
OWN = "refsnn."  # of metadata that are ours; others write theirs
LIMIT = 2**28  # bytes of arrays in a file; all test vectors together have less than a tenth


def extra(module: str, name: str) -> Any:
    """An optional module, of the extra `name`; ValueError says how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed; pip install 'refsnn[{name}]'") from None


def dump_arrays(suffix: str, arrays: Mapping[str, Array]) -> bytes:
    """A file's content; equal arrays give equal bytes. A text is an array of it without axes, which
    .safetensors, where only numbers are arrays, has among its metadata."""
    validate.one_of("file", suffix, SUFFIXES)
    if suffix == ".safetensors":
        texts = {name: str(a) for name, a in arrays.items() if a.dtype.kind == npy.TEXT}
        numbers = {
            name: np.ascontiguousarray(a).reshape(a.shape)
            for name, a in arrays.items()
            if name not in texts
        }
        content: bytes = extra("safetensors.numpy", "safetensors").save(numbers, texts or None)
        return content
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy.dump(array))
    return buffer.getvalue()


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    path.write_bytes(dump_arrays(path.suffix, arrays))


def read_arrays(path: Path, limit: int = LIMIT) -> dict[str, Array | ValueError]:
    """By the suffix. ValueError where the file as a whole can't be read, OSError where it is not
    there."""
    size = path.stat().st_size  # its error says that it is not there
    if not path.is_file():
        raise ValueError(f"{path}: is no regular file")
    if size > 2 * limit:
        raise ValueError(f"{path}: got {size} bytes, want at most {2 * limit}")
    return read_safetensors(path) if path.suffix == ".safetensors" else read_npz(path, limit)


def read_whole(path: Path, limit: int = LIMIT) -> dict[str, Array]:
    """As `read_arrays`, but one that can't be read is an error of the file."""
    arrays = {}
    for name, value in read_arrays(path, limit).items():
        if isinstance(value, ValueError):
            raise ValueError(f"{path}: {name}: {value}")
        arrays[name] = value
    return arrays


def read_npz(path: Path, limit: int) -> dict[str, Array | ValueError]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            if size > limit:
                raise ValueError(f"{path}: declares {size} bytes of arrays, want at most {limit}")
            return {e.filename.removesuffix(".npy"): member(archive, e) for e in entries}
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path}: is no .npz file, or a damaged one ({line(error)})") from None


def member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array | ValueError:
    try:
        return npy.parse(archive.read(entry))
    except ValueError as error:
        return error
    except Exception as error:  # zipfile and its decompressors each have their own
        return ValueError(f"can't be read ({line(error)})")


def read_safetensors(path: Path) -> dict[str, Array | ValueError]:
    safetensors = extra("safetensors", "safetensors")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            texts = {k: np.array(v) for k, v in (file.metadata() or {}).items() if OWN in k}
            return texts | {name: tensor(file, name) for name in list(file.keys())}
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path}: is no .safetensors file, or a damaged one ({line(error)})"
        ) from None


def tensor(file: Any, name: str) -> Array | ValueError:
    try:
        return np.asarray(file.get_tensor(name))
    except Exception as error:  # of a type that NumPy does not have
        return ValueError(f"can't be read ({line(error)})")


def line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
