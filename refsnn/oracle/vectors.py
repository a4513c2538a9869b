"""Test vectors as data: `manifest.json`, and for each case an `.npz` without pickle.

The manifest's fields are the schema of version SCHEMA; files of other versions are refused.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refsnn import __version__
from refsnn.ops import Array, validate
from refsnn.oracle.conventions import LEVELS, Conventions

SCHEMA = "refsnn-vectors-1"
PRECISIONS = ("float64", "float32")


@dataclass(frozen=True)
class Case:
    """One computation: everything that an implementation needs, and what must come out.

    Arrays are in PyTorch's order. `inputs` are float64 that float32 holds exactly (labels int64);
    `outputs` float64, in the order of computing. With `exact`, no step rounds in float32.
    """

    id: str  # level/name
    level: str
    summary: str
    clauses: tuple[str, ...]
    flags: tuple[str, ...]  # the classes of fault that it catches
    conventions: Conventions
    settings: dict[str, Any]
    repeat: int  # runs, of which the last counts
    exact: bool
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    tolerances: dict[str, dict[str, float]]  # output -> precision -> largest difference


FACTS = ("id", "level", "summary", "clauses", "flags", "conventions", "settings", "repeat", "exact")


def describe(case: Case, sha256: str) -> dict[str, Any]:
    """A case's entry in the manifest."""
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
    return facts | arrays | {"file": f"{case.id}.npz", "sha256": sha256}


def write(cases: Iterable[Case], folder: Path) -> dict[str, Any]:
    """The cases' files and the manifest, which it returns; equal cases give equal bytes."""
    entries = []
    for case in cases:
        path = folder / f"{case.id}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"in.{k}": v for k, v in case.inputs.items()}
        arrays |= {f"out.{k}": v for k, v in case.outputs.items()}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        entries.append(describe(case, hashlib.sha256(path.read_bytes()).hexdigest()))
    manifest = {"schema": SCHEMA, "refsnn": __version__, "cases": entries}
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """ValueError where it is missing, no JSON, or of another version."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"vectors: {path} is missing; refsnn vectors generate {folder} makes it")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        schema, cases = manifest["schema"], manifest["cases"]
        assert isinstance(cases, list)
    except (ValueError, KeyError, TypeError, AssertionError):
        raise ValueError(f"vectors: {path} is not a manifest of test vectors") from None
    if schema != SCHEMA:
        raise ValueError(f"vectors: {path} has schema {schema!r}, want {SCHEMA!r}")
    return manifest


def read(folder: Path) -> list[Case]:
    """All cases of a folder, each file's checksum compared."""
    return [read_case(folder, entry) for entry in read_manifest(folder)["cases"]]


def read_case(folder: Path, entry: Mapping[str, Any]) -> Case:
    try:
        facts = {name: entry[name] for name in FACTS}
        validate.one_of("level", entry["level"], LEVELS)
        path, sha256 = folder / f"{entry['id']}.npz", entry["sha256"]
        tolerances = {out["name"]: out["tolerance"] for out in entry["outputs"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"vectors: a case of {folder} has no {error}") from None
    if not path.is_file():
        raise ValueError(f"vectors: {path} is missing")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ValueError(f"vectors: {path} has another checksum than its manifest says")
    arrays = read_npz(path)
    inputs, outputs = (
        {n.removeprefix(part): a for n, a in arrays.items() if n.startswith(part)}
        for part in ("in.", "out.")
    )
    facts |= {name: tuple(facts[name]) for name in ("clauses", "flags")}
    return Case(**facts, inputs=inputs, outputs=outputs, tolerances=tolerances)


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of the file; nothing in it is executed. ValueError where it can't be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                raise ValueError("a single array")
            return {name: file[name] for name in file.files}
    except OSError as error:
        if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError):
            raise
        raise ValueError(f"{path}: is not an .npz file of arrays ({error})") from None
    except Exception as error:  # zipfile and NumPy raise whatever damage makes them
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: is not an .npz file of plain arrays ({text})") from None
