"""Readers of JSON and TOML that check values against rules; errors name the file and the field."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refsnn.files.reading import read_bytes, read_text
from refsnn.files.schema import Rules, violation

MOST_DEPTH = 64  # levels of nested values: more than any file of refsnn's has


def read_json(path: Path, rules: Rules | None = None) -> Any:
    """Read a JSON file and check it against the rules.

    Raises ValueError, which names the file and the field, what it holds and what was wanted, and
    OSError where the file can't be read.
    """
    return parse_json(read_text(path), str(path), rules)


def parse_json(text: str | bytes, name: str, rules: Rules | None = None) -> Any:
    """Parse JSON and check it against the rules.

    `name` says where the text comes from; a ValueError begins with it and names the field.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise too_deep(name) from None
    except ValueError as error:  # an encoding error is a ValueError too
        raise ValueError(f"{name}: not valid JSON ({error})") from None
    return checked(value, name, rules)


def read_toml(path: Path, rules: Rules | None = None) -> dict[str, Any]:
    """Read a TOML file and check it against the rules; raises what `read_json` raises."""
    text = read_text(path)
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise too_deep(str(path)) from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid TOML ({error})") from None
    found: dict[str, Any] = checked(value, str(path), rules)
    return found


def read_json_lines(path: Path, rules: Rules | None = None) -> list[Any]:
    """Read a file with one JSON value per line, without a last line that a crash cut off.

    ValueError names the file and the first other line that can't be read or breaks the rules.
    """
    return list(json_lines(read_bytes(path), path, rules))


def json_lines(content: bytes, path: Path, rules: Rules | None) -> Iterator[Any]:
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if number == len(lines):  # the writing of what follows the last newline was cut off
            return
        yield parse_json(line, f"{path}: line {number}", rules)


def too_deep(name: str) -> ValueError:
    return ValueError(f"{name}: got values nested more than {MOST_DEPTH} deep")


def checked(value: Any, name: str, rules: Rules | None) -> Any:
    if depth(value) > MOST_DEPTH:
        raise too_deep(name)
    wrong = None if rules is None else violation(value, rules)
    if wrong:
        raise ValueError(f"{name}: {wrong}")
    return value


def depth(value: Any) -> int:
    """Count the objects and lists around the innermost value, up to MOST_DEPTH + 1."""
    level, count = [value], 0
    while count <= MOST_DEPTH:
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            break
        count += 1
    return count
