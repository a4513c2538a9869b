"""Folders in which something is made until it is whole."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

SUFFIX = ".unfinished"
LOCK = ".lock"  # the file in such a folder that its process has locked


@contextmanager
def unfinished(parent: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder in `parent`, and remove it in the end with what is still in it.

    What killed processes have left of the same name is removed first: a folder belongs to the
    process that holds the lock in it, and the system frees the lock of a dead one. On a disk
    without locks it stays. OSError names the path.
    """
    remove_leftovers(parent, name)
    folder, file = locked_folder(parent, f".{name}-")
    try:
        yield folder
    finally:
        remove(folder, file)


def remove_leftovers(parent: Path, name: str) -> None:
    """Remove what killed processes have left in `parent` of the folders of this name."""
    for entry in os.scandir(parent):
        ours = entry.name.startswith(f".{name}-") and entry.name.endswith(SUFFIX)
        if ours and entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                remove_left(Path(entry.path))


def remove_left(folder: Path) -> None:
    """Remove a folder that no living process has locked."""
    file = open_lock(folder)
    try:
        free = lock_descriptor(file, blocking=False)
    except BaseException:  # a disk without locks
        os.close(file)
        raise
    if free:
        remove(folder, file)
    else:
        os.close(file)


def remove(folder: Path, file: int) -> None:
    """Remove a folder whose lock this process holds, and close that."""
    shutil.rmtree(folder, ignore_errors=True)
    still = is_lock_of(folder, file)  # Windows removes no open file
    os.close(file)
    if still:
        with suppress(OSError):  # another process has it open: that will remove the folder
            (folder / LOCK).unlink()
            folder.rmdir()


def locked_folder(parent: Path, start: str) -> tuple[Path, int]:
    """Make a folder and lock it, before another process takes it for one that is left over."""
    while True:
        folder = Path(tempfile.mkdtemp(SUFFIX, start, parent))
        with suppress(FileNotFoundError):  # another process has removed it
            file = open_lock(folder)
            with suppress(OSError):  # a disk without locks
                lock_descriptor(file)
            if is_lock_of(folder, file):
                return folder, file
            os.close(file)


def open_lock(folder: Path) -> int:
    return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)


def is_lock_of(folder: Path, file: int) -> bool:
    """Check that the open file is still the folder's lock."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), os.stat(folder / LOCK))
    return False
