"""Reading a whole file: regular, of a bounded size, and named in every error."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_BYTES = 1 << 34  # of a file of data
MOST_TEXT = 1 << 26  # of a text


def open_regular(path: Path, most: int = MOST_BYTES) -> int:
    """Open a file for reading and return its descriptor.

    ValueError where it is no regular file (a pipe would wait for ever, /dev/zero never end) or has
    more than `most` bytes; OSError, which names the path, where it can't be opened.
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
    """Make of a MemoryError an OSError that names the file, or what else needs the memory."""
    try:
        yield
    except MemoryError:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(name)) from None


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a file's bytes; errors as of `open_regular`."""
    with os.fdopen(open_regular(path, most), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)  # what is asked for is allocated first
    if len(content) > size:
        raise ValueError(f"{path}: grew beyond {size} bytes while it was read")
    return content


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """Read a file of UTF-8 text; errors as of `open_regular`, and ValueError for other bytes."""
    content = read_bytes(path, most)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: got the byte {content[error.start]:#04x} at {error.start}, want UTF-8 text"
        ) from None
