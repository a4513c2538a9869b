"""Writers of files; `write_atomic` writes a file as a whole or not at all."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refsnn import system
from refsnn.files.unfinished import unfinished


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

    Writes into a folder of its own beside the file first (see `unfinished`), so that several
    processes may write the same file. OSError names the path.
    """
    with naming_path(path):
        with unfinished(path.parent, path.name) as folder:
            new = folder / path.name
            with open(new, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            system.replace(new, path)
        system.sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file with `write_atomic`."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def append_line(path: Path, line: str) -> None:
    """Append a line and wait until it is on the disk; OSError names the path."""
    with naming_path(path), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
