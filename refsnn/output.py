"""Output of commands: tables on a terminal, JSON in a file."""

import io
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refsnn.files.writing import naming_path, write_atomic


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str]) -> str:
    """Format rows as aligned columns: those whose head is in `left` to the left, others right."""
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
    """Escape the surrogates in a text, which stand for undecodable bytes of a file's name."""
    return text.encode(errors="backslashreplace").decode()


def counted(count: int, noun: str) -> str:
    """Return "1 case" or "2 cases", for the noun "case"."""
    return f"{count} {noun}" + "s" * (count != 1)


def say(text: str) -> None:
    """Show the progress on one line of the terminal, replacing the last; "" clears the line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


class Lines(io.TextIOBase):
    """Standard error for a progress bar where it is no terminal: each state is a line."""

    def write(self, text: str) -> int:
        if state := text.strip("\r\n "):
            print(state, file=sys.stderr, flush=True)
        return len(text)


SECONDS = 5.0  # from one line of a progress to the next where it is no terminal


def progress_bar(**options: Any) -> Any:
    """Return a tqdm bar on standard error; a line every few seconds where it is no terminal."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(dynamic_ncols=True, **options)
    options = {"mininterval": SECONDS, "maxinterval": 2 * SECONDS} | options
    return tqdm(file=Lines(), ascii=True, ncols=100, **options)


def print_json(text: str) -> None:
    """Print JSON, with `\\u` escapes where the output's encoding lacks a character."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2)
    print(text)


@contextmanager
def open_output(
    name: str | None, show: Callable[[str], None] = print_json
) -> Iterator[Callable[[str | bytes], None]]:
    """Yield a function that writes a text or bytes to the file `name`; `-` prints by `show`.

    With None the function does nothing. A file that can't be written raises OSError, which names
    it, at once and not only when the content is ready; one that is there already stays as it is
    until the content is written as a whole. What was written stays, whatever fails afterwards.
    """
    if name is None:
        yield lambda content: None
        return
    if name == "-":
        yield lambda content: show(str(content))
        return
    path = Path(name)
    empty = not path.exists()
    path.open("a", encoding="utf-8").close()

    def write(content: str | bytes) -> None:
        nonlocal empty
        data = content if isinstance(content, bytes) else f"{content}\n".encode()
        if path.is_file():
            write_atomic(path.resolve(), data)
        else:
            with naming_path(path):  # a pipe, or a device
                path.write_bytes(data)
        empty = False

    try:
        yield write
    except BaseException:
        if empty:
            path.unlink(missing_ok=True)
        raise
