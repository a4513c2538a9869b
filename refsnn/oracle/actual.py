"""Reading an implementation's arrays: `.npz` or `.safetensors` files named after the cases."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from refsnn.files.arrays import SUFFIXES, read_arrays
from refsnn.oracle.recipes import recipes


class Actual(NamedTuple):
    """An implementation's outputs by case, and the files that could not be used."""

    got: dict[str, dict[str, Any]]  # case id -> output -> array, or the error of reading it
    problems: dict[str, str]  # case id or file -> what is wrong with it
    others: list[str]  # cases that exist but were not asked for


def read_actual(path: Path, ids: Collection[str], case: str | None = None) -> Actual:
    """Read a folder of `<case id>.npz` (or `.safetensors`) files, or one such file.

    `ids` are the cases asked for. `case` is the only one to read from a folder, or the one to
    which a file belongs whose name does not say it. Files that cannot be read, or whose names are
    not those of cases, are among the problems. ValueError where there is no file of a case.
    """
    got: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}
    others, known = list[str](), {recipe.id for recipe in recipes()}
    for file, name in files(path, ids, case):
        if name not in ids:
            if name in known:
                others.append(name)
            else:
                problems[str(file)] = (
                    "is not named after a case, want LEVEL/NAME.npz such as neuron/tie.npz"
                )
            continue
        if name in got:
            problems[str(file)] = f"is a second file of {name}"
            continue
        try:
            arrays = read_arrays(file)
        except (ValueError, OSError) as error:
            problems[name] = str(error)
            continue
        outputs = [key for key in arrays if not key.startswith("in.")]
        got[name] = {key.removeprefix("out."): arrays[key] for key in outputs}
        if len(got[name]) < len(outputs):
            del got[name]
            problems[name] = "has an output twice, with and without out. before its name"
    if not got and not problems:
        what = f"only files of other cases ({others[0]}, …)" if others else "no .npz file"
        raise ValueError(f"actual: {path} holds {what}, want LEVEL/NAME.npz for the cases")
    return Actual(got, problems, others)


def files(path: Path, ids: Collection[str], case: str | None) -> list[tuple[Path, str]]:
    """List the files, each with the id of the case that it is named after."""
    if path.is_dir() and case is not None:
        own_files = [path / f"{case}{s}" for s in SUFFIXES if (path / f"{case}{s}").exists()]
        if not own_files:
            raise ValueError(f"actual: {path} holds no {case}.npz")
        return [(file, case) for file in own_files]
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        names = [file.relative_to(path).with_suffix("").as_posix() for file in found]
        level = path.resolve().name  # the folder of one level serves too
        return [
            (file, name if "/" in name else f"{level}/{name}")
            for file, name in zip(found, names, strict=True)
        ]
    if not path.exists():
        raise ValueError(f"actual: {path} does not exist, want an .npz file or a folder of them")
    name = case or f"{path.parent.resolve().name}/{path.stem}"
    if name not in ids and case is None:
        raise ValueError(
            f"actual: {path} is not named after a case: name it LEVEL/NAME.npz, such as "
            "neuron/tie.npz (refsnn vectors list shows the ids), or say which case it is: "
            "refsnn compare VECTORS/neuron/tie.npz FILE, refsnn diagnose --case neuron/tie FILE"
        )
    if name not in ids:
        raise ValueError(
            f"case: got {name!r}, want the id of a case, such as neuron/tie (refsnn vectors list "
            "shows all)"
        )
    return [(path, name)]
