"""Declared conventions: a profile by name, a TOML file, `name=value`, or a dict."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from refsnn.files.documents import read_toml
from refsnn.ops import validate
from refsnn.oracle.conventions import (
    CONVENTIONS,
    PAPER,
    Conventions,
    Value,
    check,
    require_name,
)
from refsnn.oracle.own_slope import resolved

Declaration = str | Path | Mapping[str, Any] | Iterable[Any]

#: what an implementation whose numbers are its own is meant to have, where nothing else is declared
USUAL: Conventions = {name: PAPER[name] for name in ("tau", "v_th", "surrogate", "surrogate_shape")}


@cache
def profiles() -> dict[str, dict[str, Any]]:
    """Return the shipped profiles by name: `summary`, and `conventions` that are declared."""
    text = files("refsnn.oracle").joinpath("profiles.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def declared(given: Declaration | None) -> Conventions:
    """Return the conventions that are declared; later parts of a list override earlier ones.

    A surrogate may be a slope of the user's own, as `own_slope` describes, which gets a name.
    ValueError for an unknown profile, name or value.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        made = dict(given)
    elif isinstance(given, Path) or (isinstance(given, str) and given.endswith(".toml")):
        made = from_file(Path(given))
    elif isinstance(given, str):
        made = from_word(given)
    elif isinstance(given, Iterable):
        made = {}
        for part in given:
            made |= declared(part)
    else:
        raise TypeError(
            f"conventions: got {validate.shown(given)}, want a profile, a file, a dict or a list"
        )
    if "surrogate" in made:
        made["surrogate"] = resolved(made["surrogate"])
    for name, value in made.items():
        check(name, value)
    return {name: as_written(name, value) for name, value in made.items()}


def meant(given: Declaration | None, has_own_numbers: bool) -> Conventions:
    """Return what is declared, with the paper's numbers where an implementation has its own."""
    return (USUAL if has_own_numbers else {}) | declared(given)


def as_written(name: str, value: Value) -> Value:
    """Return a convention's value as vectors hold it: 1, not 1.0, where it is a whole number."""
    numbers = CONVENTIONS[name].numbers
    is_whole = numbers is not None and numbers.whole and isinstance(value, float)
    return int(value) if is_whole else value


def from_file(path: Path) -> Conventions:
    """Return the conventions of a TOML file: lines `name = value`, and `profile` for a base."""
    values = read_toml(path, {"type": "object"})
    base = declared(values.pop("profile", None))
    try:
        return base | declared(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def from_word(word: str) -> Conventions:
    """Return the conventions of a profile, or of `name=value`."""
    name, equals, text = word.partition("=")
    if not equals:
        known = profiles()
        if word not in known:
            near = difflib.get_close_matches(word, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"conventions: got {word!r}{hint}, want a profile ({', '.join(known)}), "
                "a TOML file or name=value"
            )
        return dict(known[word]["conventions"])
    require_name(name)
    if text not in CONVENTIONS[name].values and re.search(r",\s*\w+=", text):
        raise ValueError(f"conventions: got {word!r}, want name=value, the next after a space")
    return {name: value_of(name, text)}


def value_of(name: str, text: str) -> Value:
    """Return a convention's value from its text."""
    for value in CONVENTIONS[name].values:
        if text in (str(value), str(value).lower()):
            return value
    try:
        return float(text)
    except ValueError:
        return text
