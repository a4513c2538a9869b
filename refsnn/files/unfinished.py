"""Folders in which something is made until it is whole."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".unfinished"


@contextmanager
def unfinished(parent: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder in `parent`, and remove it in the end with what is still in it.

    What killed processes have left of the same name is removed first: a folder belongs to the
    process that holds a lock on it, and the system frees the lock of a dead one. On a disk without
    locks it stays. OSError names the path.
    """
    remove_leftovers(parent, name)
    folder, file = locked_folder(parent, f".{name}-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(file)


def remove_leftovers(parent: Path, name: str) -> None:
    """Remove what killed processes have left in `parent` of the folders of this name."""
    for entry in os.scandir(parent):
        if entry.name.startswith(f".{name}-") and entry.name.endswith(SUFFIX):
            remove_left(entry.path)


def remove_left(folder: str) -> None:
    """Remove a folder that no living process has locked."""
    with suppress(OSError):
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(file)


def locked_folder(parent: Path, start: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(SUFFIX, start, parent))
        with suppress(FileNotFoundError):  # another process removed it before it was locked
            file = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # a disk without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if folder.exists():
                return folder, file
            os.close(file)
