"""Readers of whole regular files of a bounded size; every error names the file."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_BYTES = 1 << 34  # bytes of a data file
MOST_TEXT = 1 << 26  # bytes of a text file


def open_regular(path: Path, most: int = MOST_BYTES) -> int:
    """Open a file for reading and return its descriptor.

    Raises ValueError where it is no regular file (a pipe would wait for ever, /dev/zero never end)
    or has more than `most` bytes, and OSError, which names the path, where it can't be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(path, flags)
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(f"{path}: is no regular file")
        if state.st_size > most:
            raise ValueError(f"{path}: got {state.st_size} bytes, want at most {most}")
    except BaseException:
        os.close(file)
        raise
    return file


@contextmanager
def naming_memory(name: Path | str) -> Iterator[None]:
    """Turn a MemoryError into an OSError with `name`, the file or whatever needs the memory."""
    try:
        yield
    except MemoryError:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(name)) from None


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a file's bytes; raises what `open_regular` raises."""
    with os.fdopen(open_regular(path, most), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)  # allocates this much at once
    if len(content) > size:
        raise ValueError(f"{path}: grew beyond {size} bytes while it was read")
    return content


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """Read a UTF-8 text file; raises what `open_regular` raises, and ValueError for other bytes."""
    content = read_bytes(path, most)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: got the byte {content[error.start]:#04x} at {error.start}, want UTF-8 text"
        ) from None


def one_line(error: Exception) -> str:
    """Return an error's message on one line of at most 200 characters, or the error's class."""
    return " ".join(str(error).split())[:200] or type(error).__name__
