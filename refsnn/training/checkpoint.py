"""Checkpoints: one `.npz` without pickle, written atomically, with a checksum over every array.

The bytes depend on the state alone: no time, no path, no machine.
"""

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.files.arrays import read_whole
from refsnn.files.documents import parse_json
from refsnn.files.schema import object_with
from refsnn.files.writing import write_atomic
from refsnn.network import Params
from refsnn.ops import Array

FORMAT = 1
GROUPS = ("params", "buffers", "optimizer")
#: what a checkpoint holds besides arrays
META = object_with(
    {
        "format": {"const": FORMAT},
        "config": {"type": "object"},
        "iteration": {"type": "integer", "minimum": 0, "maximum": 2**53},
        "sums": {"type": "object", "additionalProperties": {"type": "number"}},
        "data": {"type": "string"},
        "rng": {"type": "object"},
    },
    {"surrogate_shape": {"type": "number", "exclusiveMinimum": 0}},
)


class CheckpointError(ValueError):
    """Raised for a file that is not a checkpoint, or is damaged."""


@dataclass
class State:
    """The state of a run after `iteration` iterations: all that it needs to go on."""

    params: Params
    buffers: Params  # running statistics of batch norm
    optimizer: Params  # moments
    rng: np.random.Generator  # order and augmentation of the batches
    iteration: int = 0
    order: Array = field(default_factory=lambda: np.empty(0, np.int64))  # of this epoch's images
    sums: dict[str, float] = field(default_factory=dict)  # of this epoch's records so far
    surrogate_shape: float | None = None  # where it is chosen anew in each epoch
    data: str = ""  # digest of the data set
    mean: Array = field(default_factory=lambda: np.empty(0))  # (C,), of the standardisation
    std: Array = field(default_factory=lambda: np.empty(0))  # (C,); empty before version 0.2


def save(path: Path | str, state: State, config: dict[str, Any]) -> None:
    """Write a checkpoint to the path, whole or not at all."""
    arrays = {
        f"{group}/{name}": value
        for group in GROUPS
        for name, value in getattr(state, group).items()
    }
    arrays |= {"order": state.order, "mean": state.mean, "std": state.std}
    meta = {
        "format": FORMAT,
        "config": config,
        "iteration": state.iteration,
        "sums": state.sums,
        "data": state.data,
        "rng": state.rng.bit_generator.state,
    }
    if state.surrogate_shape is not None:
        meta["surrogate_shape"] = state.surrogate_shape
    arrays["meta"] = np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8)
    arrays["sha256"] = np.frombuffer(digest(arrays), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomic(Path(path), buffer.getvalue())


def load(path: Path | str) -> tuple[State, dict[str, Any]]:
    """Read state and configuration; CheckpointError says what is wrong with the file."""
    path = Path(path)
    try:
        arrays = read_whole(path, None)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no checkpoint there") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    expected = arrays.pop("sha256", None)
    if expected is None or "meta" not in arrays or expected.tobytes() != digest(arrays):
        raise CheckpointError(f"{path}: altered or damaged (the checksum does not match)")
    if "order" not in arrays:
        raise CheckpointError(f"{path}: order is missing")
    try:
        meta = parse_json(arrays.pop("meta").tobytes(), f"{path}: meta", META)
        rng = restored(meta["rng"], f"{path}: meta: rng")
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    groups: dict[str, Params] = {group: {} for group in GROUPS}
    for key, value in arrays.items():
        group, _, name = key.partition("/")
        if group in groups:
            groups[group][name] = value
    state = State(
        **groups,
        rng=rng,
        iteration=meta["iteration"],
        order=arrays["order"],
        sums=meta["sums"],
        surrogate_shape=meta.get("surrogate_shape"),
        data=meta["data"],
        mean=arrays.get("mean", np.empty(0)),
        std=arrays.get("std", np.empty(0)),
    )
    return state, meta["config"]


def restored(state: dict[str, Any], name: str) -> np.random.Generator:
    """Make the generator of a state; ValueError, which begins with `name`, if it is not one."""
    rng = np.random.default_rng()
    try:
        rng.bit_generator.state = state
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        kind = type(rng.bit_generator).__name__
        raise ValueError(f"{name}: no state of NumPy's {kind} ({error!r})") from None
    return rng


def digest(arrays: dict[str, Array]) -> bytes:
    """Compute sha256 over names, dtypes, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        value = arrays[name]
        total.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        for part in [value] if value.flags.c_contiguous else value:  # a copy of a part at a time
            total.update(np.ascontiguousarray(part).data)
    return total.digest()
