"""Files of arrays from outside, `.npz` and `.safetensors`, read without trust.

Nothing in them is executed, and no more memory is taken than LIMIT, whatever they declare. An
array that can't be read has its error in its place, so that the others are not lost.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.ops import Array, validate
from refsnn.oracle import npy
from refsnn.oracle.parameters import extra

SUFFIXES = (".npz", ".safetensors")
LIMIT = 2**28  # bytes of arrays in a file; all test vectors together have less than a tenth


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """By the suffix; equal arrays give equal bytes."""
    validate.one_of("suffix", path.suffix, SUFFIXES)
    if path.suffix == ".npz":
        buffer = io.BytesIO()
        given: dict[str, Any] = dict(arrays)
        np.savez(buffer, allow_pickle=False, **given)
        path.write_bytes(buffer.getvalue())
    else:
        ordered = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
        path.write_bytes(extra("safetensors.numpy", "safetensors").save(ordered))


def read_arrays(path: Path) -> dict[str, Array | ValueError]:
    """By the suffix. ValueError where the file as a whole can't be read, OSError where it is not
    there."""
    if path.stat().st_size > 2 * LIMIT:
        raise ValueError(f"{path}: got {path.stat().st_size} bytes, want at most {2 * LIMIT}")
    return read_safetensors(path) if path.suffix == ".safetensors" else read_npz(path)


def read_npz(path: Path) -> dict[str, Array | ValueError]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            if size > LIMIT:
                raise ValueError(f"{path}: declares {size} bytes of arrays, want at most {LIMIT}")
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
            return {name: tensor(file, name) for name in list(file.keys())}
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
