"""Writers of files; `write_atomic` writes a file as a whole or not at all."""

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from refsnn import system


@contextmanager
def naming_path(path: Path) -> Iterator[None]:
    """Add the path to an OSError that has none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


@contextmanager
def optional(path: Path) -> Iterator[None]:
    """Go on without a file that can't be made, such as a picture; print why on standard error."""
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"refsnn: went on without {path}: {text}", file=sys.stderr)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file: after a crash at any moment it holds the old content or the new, never a part.

    Several processes may write the same file, each through a temporary file of its own. OSError
    names the path.
    """
    with naming_path(path):
        remove_leftovers(path)
        while not replaced(path, content):
            pass
        system.sync_folder(path.parent)


def replaced(path: Path, content: bytes) -> bool:
    """Replace a file with a temporary one; False where another process has removed that.

    `remove_leftovers` may do so in the moments in which the temporary file is not locked.
    """
    descriptor, new = open_temporary(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        system.replace(new, path)  # after closing it, since Windows renames no open file
    except FileNotFoundError:
        return False
    finally:
        new.unlink(missing_ok=True)
    return True


def open_temporary(path: Path) -> tuple[int, Path]:
    """Make a temporary file beside `path` and lock it; return its descriptor and path."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(new, flags, 0o666)
    with suppress(OSError):  # a disk without locks
        lock_descriptor(descriptor)
    return descriptor, new


def temporary_files(path: Path) -> list[Path]:
    """List the temporary files of `path`, of living processes or left by killed ones."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    with suppress(OSError):
        return [other for other in path.parent.iterdir() if pattern.fullmatch(other.name)]
    return []


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes have left.

    The system has freed the locks of these. On a disk without locks they stay.
    """
    for left in temporary_files(path):
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDWR)
            try:
                free = lock_descriptor(descriptor, blocking=False)
            finally:
                os.close(descriptor)
            if free:
                left.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file with `write_atomic`."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def append_line(path: Path, line: str) -> None:
    """Append a line and wait until it is on the disk; OSError names the path."""
    with naming_path(path), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
