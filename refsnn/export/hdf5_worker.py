"""The worker process of `refsnn.export.hdf5`, which converts an HDF5 file (stdin) to .npz (stdout).

It follows no links and reads nothing outside the file. On Windows its memory is not limited.
"""

import io
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from refsnn import system
from refsnn.files import npy

MOST_DEPTH = 8  # of groups: a NIR graph has four


def main(limit: int) -> int:
    system.limit("DATA", 3 * limit + 2**30)  # the arrays, the .npz archive and a copy
    try:
        content = dump_tree(io.BytesIO(sys.stdin.buffer.read()), limit)
    except Exception as error:  # h5py raises several kinds
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return 0


def dump_tree(stream: Any, limit: int) -> bytes:
    """Return all data sets of an HDF5 file as .npz, named by their paths, such as `a/b/c`."""
    with h5py.File(stream, "r") as file:
        sets = dict(data_sets(file, ""))
        size = sum(x.size * x.dtype.itemsize for x in sets.values() if x.size)
        if size > limit:
            raise ValueError(f"declares {size} bytes of arrays, want at most {limit}")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, x in sets.items():
                archive.writestr(f"{name}.npy", npy.dump(value(name, x)))
    return buffer.getvalue()


def data_sets(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every data set with its path, once per hard link; ignore other links."""
    if prefix.count("/") > MOST_DEPTH:  # a group may contain itself
        raise ValueError(f"got groups nested more than {MOST_DEPTH} deep")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        found = group[name]
        if isinstance(found, h5py.Group):
            yield from data_sets(found, f"{prefix}{name}/")
        elif isinstance(found, h5py.Dataset):
            yield f"{prefix}{name}", found


def value(name: str, x: Any) -> Any:
    if x.is_virtual or x.external:
        raise ValueError(f"{name}: lies in another file")
    if x.size is None:
        raise ValueError(f"{name}: holds nothing")
    if h5py.check_string_dtype(x.dtype):
        return np.asarray(x.asstr()[()], np.str_)
    if x.dtype.kind not in npy.NUMERIC:
        raise ValueError(f"{name}: got dtype {x.dtype}, want numbers or text")
    return x[()]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
