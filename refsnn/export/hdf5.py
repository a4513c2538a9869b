"""Reader of HDF5 files in a process of its own, since HDF5's library may crash on damaged ones."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from refsnn.files.arrays import read_npz

LIMIT = 2**34  # bytes of arrays in a file
EXPANSION = 1032  # times its size that a file may take when unpacked: deflate's limit, for zeros
SECONDS, BYTES_PER_SECOND = 60.0, 2**20  # time that reading may take: to start, and for content

Tree = dict[str, Any]  # a group: name -> group, array or text


def parse_tree(content: bytes) -> Tree:
    """Read all groups and arrays, but no links, from the bytes of an HDF5 file.

    A single number becomes a NumPy scalar, a single text a `str`. ValueError says what is wrong.
    """
    answer = ask(content, min(LIMIT, EXPANSION * len(content)))
    flat = read_npz(Path("answer"), io.BytesIO(answer), LIMIT, None)
    tree: Tree = {}
    for name, array in flat.items():
        if isinstance(array, ValueError):
            raise ValueError(f"{name}: {array}")
        *groups, last = name.split("/")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        single: Any = array[()]
        inner[last] = str(single) if isinstance(single, str) else single
    return tree


def ask(content: bytes, limit: int) -> bytes:
    """Let the worker process convert the file's content to an .npz archive, and return that."""
    seconds = SECONDS + len(content) / BYTES_PER_SECOND
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "refsnn.export.hdf5_worker", str(limit)],
            input=content,
            capture_output=True,
            timeout=seconds,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"HDF5's library did not finish within {seconds:.0f} s") from None
    if done.returncode:
        name = f"exit code {done.returncode}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-done.returncode).name
        said = done.stderr.decode(errors="replace").strip().splitlines()
        crash = done.returncode != 1 or not said
        raise ValueError(f"HDF5's library crashed, {name}" if crash else said[-1][:200])
    return done.stdout
