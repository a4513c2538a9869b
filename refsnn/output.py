"""What commands give: tables on a terminal, JSON in a file."""

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refsnn.files.writing import naming_path


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str]) -> str:
    """Aligned columns: those whose head is in `left` to the left, numbers to the right."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in left else cell.rjust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    )


def printable(text: str) -> str:
    """Escape what no encoding has: the bytes of a file's name that are no text."""
    return text.encode(errors="backslashreplace").decode()


def counted(count: int, what: str) -> str:
    """2 cases, 1 case"""
    return f"{count} {what}" + "s" * (count != 1)


def say(text: str) -> None:
    """Show what is going on, on one line of a terminal; "" clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def print_json(text: str) -> None:
    """Print JSON, with JSON's own escapes where the output's encoding lacks a character."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2)
    print(text)


@contextmanager
def open_output(name: str | None) -> Iterator[Any]:
    """Give a function that takes the text of the JSON file NAME, or prints it where that is `-`.

    OSError, which names the file, at once where it can't be written.
    """
    if name is None:
        yield lambda text: None
        return
    if name == "-":
        yield print_json
        return
    path = Path(name)
    new = not path.exists()
    path.open("a", encoding="utf-8").close()

    def write(text: str) -> None:
        with naming_path(path):
            path.write_text(text + "\n", encoding="utf-8")

    try:
        yield write
    except BaseException:
        if new:
            path.unlink(missing_ok=True)
        raise
