"""One process at a time for a run: two would overwrite each other's checkpoints."""

import fcntl
import os
from pathlib import Path


class Locked(ValueError):
    """Another process has the run."""


def lock(folder: Path) -> int:
    """Open a file that keeps other processes off the run until `unlock`, or until this one dies."""
    path = folder / ".lock"
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            os.close(file)
            raise Locked(f"{folder}: another process is at work on this run") from None
        except FileNotFoundError:  # its holder has just removed it
            pass
        os.close(file)


def unlock(folder: Path, file: int) -> None:
    (folder / ".lock").unlink(missing_ok=True)
    os.close(file)
