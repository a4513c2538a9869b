"""What an implementation wrote: `.npz` or `.safetensors` files named as the cases are."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from refsnn.files.arrays import SUFFIXES, read_arrays
from refsnn.oracle.recipes import recipes


class Actual(NamedTuple):
    got: dict[str, dict[str, Any]]  # case id -> output -> array, or the error in its place
    problems: dict[str, str]  # case id or file -> what is wrong with it
    others: list[str]  # known cases that are none of those asked for


def read_actual(path: Path, ids: Collection[str], case: str | None = None) -> Actual:
    """A folder of `<case id>.npz` (or `.safetensors`), or one such file; `case` says which one is
    meant, or whose it is where its name doesn't. Files that can't be read, or are no case's, are
    among the problems."""
    got: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}
    others, known = list[str](), {recipe.id for recipe in recipes()}
    for file, name in files(path, ids, case):
        if name not in ids:
            if name in known:
                others.append(name)
            else:
                problems[str(file)] = "names no case, want LEVEL/NAME.npz, such as neuron/tie.npz"
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
        what = f"files of {others[0]} and others alone" if others else "no .npz file"
        raise ValueError(f"actual: {path} holds {what}, want LEVEL/NAME.npz of the cases")
    return Actual(got, problems, others)


def files(path: Path, ids: Collection[str], case: str | None) -> list[tuple[Path, str]]:
    """Each file with the case's id that its name says."""
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
    own = f"{path.parent.resolve().name}/{path.stem}"
    name = case or own
    if name not in ids:
        said = "" if case else ", which the file's name says (--case ID says otherwise)"
        raise ValueError(f"case: got {name!r}{said}, want the id of a case, such as neuron/tie")
    return [(path, name)]
