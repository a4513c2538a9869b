"""Locks of run folders, since two processes would overwrite each other's checkpoints."""

import os
from contextlib import suppress
from pathlib import Path

from filelock import lock_descriptor


class Locked(ValueError):
    """Another process has the run."""


def lock(folder: Path) -> int:
    """Open a file that keeps other processes off the run until `unlock`, or until this one dies."""
    path = folder / ".lock"
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not lock_descriptor(file, blocking=False):
            os.close(file)
            raise Locked(f"{folder}: another process is at work on this run")
        with suppress(FileNotFoundError):  # its holder has just removed it
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        os.close(file)


def unlock(folder: Path, file: int) -> None:
    """Remove the file that `lock` has opened, and close it."""
    path = folder / ".lock"
    try:
        path.unlink(missing_ok=True)
        os.close(file)
    except PermissionError:  # Windows removes no open file, nor one that another process waits for
        os.close(file)
        with suppress(OSError):
            path.unlink(missing_ok=True)
