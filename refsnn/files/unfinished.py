"""Hidden folders in which a folder is prepared until it is complete."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

SUFFIX = ".unfinished"
LOCK = ".lock"  # the file in such a folder that the process working there has locked


@contextmanager
def unfinished(parent: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder in `parent`, and remove it at the end with what is still in it.

    First removes the folders of the same name that killed processes have left: a folder belongs to
    the process that holds the lock in it, and the system frees a dead process's lock. On a disk
    without locks such folders stay. OSError names the path.
    """
    remove_leftovers(parent, name)
    folder, file = locked_folder(parent, f".{name}-")
    try:
        yield folder
    finally:
        remove(folder, file)


def remove_leftovers(parent: Path, name: str) -> None:
    """Remove the folders of this name that killed processes have left in `parent`."""
    for entry in os.scandir(parent):
        ours = entry.name.startswith(f".{name}-") and entry.name.endswith(SUFFIX)
        if ours and entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                remove_left(Path(entry.path))


def remove_left(folder: Path) -> None:
    """Remove a folder unless a living process has locked it."""
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
    """Remove a folder whose lock this process holds in `file`, and close `file`."""
    shutil.rmtree(folder, ignore_errors=True)
    still_there = is_lock_of(folder, file)  # Windows removes no open file
    os.close(file)
    if still_there:
        with suppress(OSError):  # another process has it open, and will remove the folder
            (folder / LOCK).unlink()
            folder.rmdir()


def locked_folder(parent: Path, start: str) -> tuple[Path, int]:
    """Make a folder and lock it; return its path and the descriptor of the lock's file.

    Another process may remove the folder before it is locked; then make another one.
    """
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
    """Tell whether the open file is still the folder's lock."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), os.stat(folder / LOCK))
    return False
