"""What an implementation wrote: `.npz` or `.safetensors` files named as the cases are."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsnn.oracle.array_files import SUFFIXES, read_arrays


class Actual(NamedTuple):
    got: dict[str, dict[str, Any]]  # case id -> output -> array, or the error in its place
    problems: dict[str, str]  # case id or file -> what is wrong with it


def read_actual(path: Path, ids: Collection[str], case: str | None = None) -> Actual:
    """A folder of `<case id>.npz` (or `.safetensors`), or one such file; `case` says whose it is
    where its name doesn't. Files that can't be read, or are no case's, are among the problems."""
    got: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}
    for file, name in files(path, ids, case):
        if name not in ids:
            problems[str(file)] = "is not a case's name; want LEVEL/NAME.npz"
            continue
        if name in got:
            problems[str(file)] = f"is a second file of {name}"
            continue
        try:
            arrays = read_arrays(file)
        except (ValueError, OSError) as error:
            problems[name] = str(error)
            continue
        got[name] = {key.removeprefix("out."): value for key, value in arrays.items()
                     if not key.startswith("in.")}  # fmt: skip
    if not got and not problems:
        raise ValueError(f"actual: {path} holds no .npz file, want LEVEL/NAME.npz")
    return Actual(got, problems)


def files(path: Path, ids: Collection[str], case: str | None) -> list[tuple[Path, str]]:
    """Each file with the case's id that its name says."""
    if path.is_dir():
        if case is not None:
            raise ValueError(f"case: {path} is a folder, want a single .npz file")
        found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        names = [file.relative_to(path).with_suffix("").as_posix() for file in found]
        level = path.resolve().name  # the folder of one level serves too
        return [
            (file, name if "/" in name else f"{level}/{name}")
            for file, name in zip(found, names, strict=True)
        ]
    if not path.is_file():
        raise ValueError(f"actual: {path} does not exist, want an .npz file or a folder of them")
    name = case or f"{path.resolve().parent.name}/{path.stem}"
    if name not in ids:
        said = "" if case else ", which the file's name says"
        raise ValueError(f"case: got {name!r}{said}, want the id of a case, such as neuron/tie")
    return [(path, name)]


def precision_of(got: Mapping[str, Mapping[str, Any]]) -> str:
    """float32 where any array is of it, or of less."""
    arrays = [array for named in got.values() for array in named.values()]
    dtypes = {array.dtype for array in arrays if isinstance(array, np.ndarray)}
    low = any(dtype.kind == "f" and dtype.itemsize < np.dtype("f8").itemsize for dtype in dtypes)
    return "float32" if low else "float64"
