"""HDF5 files, read in a process of their own: HDF5's library crashes or hangs on damaged ones."""

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
EXPANSION = 1032  # times its own size that what deflate compressed can have: of zeros alone
SECONDS, BYTES_A_SECOND = 60.0, 2**20  # that a file may take: for the start, and for its content

Tree = dict[str, Any]  # a group: name -> group, array or text


def parse_tree(content: bytes) -> Tree:
    """Read all groups and arrays in the bytes of an HDF5 file; links are left out.

    A single number is a NumPy scalar, a single text a `str`. ValueError says what is wrong.
    """
    answer = ask(content, min(LIMIT, EXPANSION * len(content)))
    flat = read_npz(Path("answer"), io.BytesIO(answer), LIMIT, None)
    tree: Tree = {}
    for name, array in flat.items():
        if isinstance(array, ValueError):
            raise ValueError(f"{name}: {array}")
        *groups, last = name.split("/")
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        single: Any = array[()]
        at[last] = str(single) if isinstance(single, str) else single
    return tree


def ask(content: bytes, limit: int) -> bytes:
    """Let the process read the file's content, and return the .npz archive that it makes of it."""
    seconds = SECONDS + len(content) / BYTES_A_SECOND
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
        raise ValueError(f"HDF5's library came to no end within {seconds:.0f} s") from None
    if done.returncode:
        name = f"exit code {done.returncode}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-done.returncode).name
        said = done.stderr.decode(errors="replace").strip().splitlines()
        crash = done.returncode != 1 or not said
        raise ValueError(f"HDF5's library crashed, {name}" if crash else said[-1][:200])
    return done.stdout
