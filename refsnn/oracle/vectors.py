"""Test vectors as files: `manifest.json`, and for each case a file of arrays without pickle.

`vectors.schema.json` describes the manifest, in version SCHEMA; other versions are refused.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.files.arrays import SUFFIXES, dump_arrays, read_arrays
from refsnn.files.documents import read_json
from refsnn.files.reading import open_regular
from refsnn.files.schema import violation
from refsnn.files.writing import temporary_files, write_atomic
from refsnn.ops import Array, validate
from refsnn.oracle import schema
from refsnn.oracle.conventions import PAPER, Conventions, renamed
from refsnn.version import __version__

SCHEMA = "refsnn-vectors-4"
FORMER = ("refsnn-vectors-1", "refsnn-vectors-2", "refsnn-vectors-3")
MANIFEST = "manifest.json"
UNFINISHED = "unfinished"  # the manifest's list of files while they are written
FILE = re.compile(rf"[a-z]+/[a-z0-9][a-z0-9._-]*({'|'.join(map(re.escape, SUFFIXES))})")


@dataclass(frozen=True)
class Case:
    """A computation: everything that an implementation needs, and the expected outputs.

    Arrays are in PyTorch's axis order. `inputs` are float64 that float32 holds exactly (labels
    int64); `outputs` are float64, in the order of computing. If `exact`, rounding in float32 flips
    no spike.
    """

    id: str  # level/name
    level: str
    summary: str
    clauses: tuple[str, ...]
    flags: tuple[str, ...]  # the classes of mistake that it catches
    conventions: Conventions
    settings: dict[str, Any]
    repeat: int  # number of runs; the outputs are those of the last
    exact: bool
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    tolerances: dict[str, dict[str, float]]  # output -> precision -> largest difference


FACTS = ("id", "level", "summary", "clauses", "flags", "conventions", "settings", "repeat", "exact")


def describe(case: Case, file: str, sha256: str) -> dict[str, Any]:
    """Return a case's entry in the manifest."""
    arrays = {
        part: [
            {"name": name, "shape": list(value.shape), "dtype": str(value.dtype)}
            for name, value in getattr(case, part).items()
        ]
        for part in ("inputs", "outputs")
    }
    for entry in arrays["outputs"]:
        entry["tolerance"] = case.tolerances[entry["name"]]
    facts = {name: getattr(case, name) for name in FACTS}
    return facts | arrays | {"file": file, "sha256": sha256}


def write(cases: Iterable[Case], folder: Path, suffix: str = ".npz") -> dict[str, Any]:
    """Write the cases' files and the manifest, and return the manifest.

    Equal cases give equal bytes. `suffix` is one of `arrays.SUFFIXES`. Test vectors that were in
    the folder before are removed, also those of a process that was killed: the manifest names the
    files before they are written. ValueError if the folder holds anything else.
    """
    former = former_files(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, [], former)
    for name in former:
        for file in (folder / name, *temporary_files(folder / name)):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # where others' files are too
            (folder / name).parent.rmdir()
    entries: list[dict[str, Any]] = []
    for case in cases:
        name = f"{case.id}{suffix}"
        write_manifest(folder, [], [*(entry["file"] for entry in entries), name])
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"in.{k}": v for k, v in case.inputs.items()}
        arrays |= {f"out.{k}": v for k, v in case.outputs.items()}
        content = dump_arrays(suffix, arrays)
        write_atomic(path, content)
        entries.append(describe(case, name, hashlib.sha256(content).hexdigest()))
    return write_manifest(folder, entries)


def former_files(folder: Path) -> list[str]:
    """List the files of test vectors that are in the folder already, finished or not.

    ValueError if it holds anything else.
    """
    begun = temporary_files(folder / MANIFEST)
    if not folder.exists() or all(path in begun for path in folder.iterdir()):
        return []
    try:
        manifest = read_json(folder / MANIFEST)
        ours = manifest["schema"].startswith("refsnn-vectors-")
        names = [case["file"] for case in manifest["cases"]] + manifest.get(UNFINISHED, [])
        names = [name for name in names if FILE.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        ours, names = False, []
    if not ours:
        raise ValueError(f"vectors: {folder} holds other files, want a new or an empty folder")
    for name in names:
        if (folder / name).parent.is_symlink():
            raise ValueError(f"vectors: {(folder / name).parent} is a link, want a folder")
    return names


def strangers(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """List the files in the folder that do not belong to the set."""
    ours = {MANIFEST, *(entry["file"] for entry in manifest["cases"])}
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    return sorted(set(found) - ours)


def write_manifest(
    folder: Path, entries: list[dict[str, Any]], unfinished: Sequence[str] = ()
) -> dict[str, Any]:
    """Write a manifest of finished entries, or of files still to be written or removed."""
    manifest: dict[str, Any] = {"schema": SCHEMA, "refsnn": __version__, "cases": entries}
    if unfinished:
        manifest[UNFINISHED] = list(unfinished)
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    write_atomic(folder / MANIFEST, text.encode())
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest.

    ValueError if it is missing, of another version, or not as the schema says.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise ValueError(
            f"vectors: {path} is missing, want a folder that refsnn vectors generate wrote"
        )
    manifest = read_json(path)
    version = manifest.get("schema") if isinstance(manifest, dict) else None
    if version in FORMER:
        manifest, version = from_former(manifest), SCHEMA
    if version != SCHEMA:
        raise ValueError(f"vectors: {path} has schema {validate.shown(version)}, want {SCHEMA!r}")
    if manifest.get("cases") == []:
        raise ValueError(f"vectors: {path} belongs to an unfinished run; generate it again")
    wrong = violation(manifest, schema.manifest())
    if wrong:
        raise ValueError(f"vectors: {path}: {wrong}")
    seen = set()
    for entry in manifest["cases"]:
        name, file = entry["id"], Path(entry["file"])
        if name.split("/")[0] != entry["level"] or file.with_suffix("").as_posix() != name:
            raise ValueError(f"vectors: {path}: {name} has level {entry['level']} and file {file}")
        if name in seen:
            raise ValueError(f"vectors: {path}: {name} occurs twice")
        seen.add(name)
    return manifest


def from_former(manifest: dict[str, Any]) -> dict[str, Any]:
    """Convert a manifest of a former version to today's names and values.

    Conventions that it does not have are the paper's. Errors in it stay.
    """
    cases = manifest.get("cases")
    if isinstance(cases, list):
        cases = [
            case | {"conventions": PAPER | renamed(case["conventions"])}
            if isinstance(case, dict) and isinstance(case.get("conventions"), dict)
            else case
            for case in cases
        ]
    return manifest | {"schema": SCHEMA, "cases": cases}


def read(folder: Path) -> list[Case]:
    """Read all cases of a folder, and check their checksums."""
    return [read_case(folder, entry) for entry in read_manifest(folder)["cases"]]


def read_case(folder: Path, entry: Mapping[str, Any]) -> Case:
    """Read the case of an entry that `read_manifest` returned.

    ValueError if the file differs from the entry.
    """
    path = folder / entry["file"]
    if not path.exists():
        raise ValueError(f"vectors: {path} is missing")
    with os.fdopen(open_regular(path), "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
            raise ValueError(f"vectors: {path} has another checksum than its manifest says")
    arrays = read_arrays(path)
    facts = {name: entry[name] for name in FACTS}
    facts |= {name: tuple(facts[name]) for name in ("clauses", "flags")}
    inputs, outputs = (
        {a["name"]: described(path, arrays, f"{part}.{a['name']}", a) for a in entry[f"{part}puts"]}
        for part in ("in", "out")
    )
    tolerances = {out["name"]: out["tolerance"] for out in entry["outputs"]}
    return Case(**facts, inputs=inputs, outputs=outputs, tolerances=tolerances)


def described(
    path: Path, arrays: Mapping[str, Array | ValueError], name: str, entry: Mapping[str, Any]
) -> Array:
    """Return an array of the file.

    ValueError if it differs from its entry, or is not finite.
    """
    array, (shape, dtype) = arrays.get(name), (entry["shape"], entry["dtype"])
    name = validate.named(name)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"vectors: {path}: {name} {array or 'is missing'}")
    if list(array.shape) != shape or array.dtype != dtype:
        raise ValueError(
            f"vectors: {path}: {name}: got {array.dtype} {array.shape}, "
            f"want {dtype} {validate.shown(tuple(shape))}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"vectors: {path}: {name} has numbers that are not finite")
    return array
