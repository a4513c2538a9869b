"""What commands give: tables on a terminal, JSON in a file."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def counted(count: int, what: str) -> str:
    """2 cases, 1 case"""
    return f"{count} {what}" + "s" * (count != 1)


@contextmanager
def open_output(name: str | None) -> Iterator[Any]:
    """A function that takes the text of the JSON file. What can't be written fails at once."""
    if name is None:
        yield lambda text: None
        return
    if name == "-":
        yield print
        return
    path = Path(name)
    new = not path.exists()
    path.open("a").close()
    try:
        yield lambda text: path.write_text(text + "\n")
    except BaseException:
        if new:
            path.unlink(missing_ok=True)
        raise
