"""Writing that either happens whole or not at all."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refsnn import system


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give the path to an OSError that has none: a full disk's does not say which file it met."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


@contextmanager
def optional(path: Path) -> Iterator[None]:
    """Go on without a file that can't be made, such as a picture; a line on standard error says
    why."""
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"refsnn: went on without {path}: {text}", file=sys.stderr)


def temporary(path: Path) -> Path:
    """Name the file that `write_atomic` writes first, which a process that is killed leaves."""
    return path.with_name(f".{path.name}.tmp")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file: after a crash at any moment it holds the old content or the new, never a part.

    OSError names the path.
    """
    unfinished = temporary(path)
    with naming(path):
        try:
            with open(unfinished, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            system.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        system.sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, as `write_atomic` does."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def append_line(path: Path, line: str) -> None:
    """Append a line and wait until it is on the disk; OSError names the path."""
    with naming(path), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
