"""Reading a whole file: regular, of a bounded size, and named in every error."""

import os
import stat
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


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a file's bytes; errors as of `open_regular`."""
    with os.fdopen(open_regular(path, most), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:  # it grew meanwhile
        raise ValueError(f"{path}: got more than {most} bytes")
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
