"""The cases that there are, each made or read when it is asked for."""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from refsnn.oracle import cases, recipes, vectors
from refsnn.oracle.vectors import Case


def catalogue(folder: Path | None) -> dict[str, Callable[[], Case]]:
    """By id: the files of a folder of test vectors, or what refsnn builds itself."""
    if folder is None:
        return {recipe.id: partial(cases.build, recipe) for recipe in recipes.recipes()}
    entries = vectors.read_manifest(folder)["cases"]
    return {entry["id"]: partial(vectors.read_case, folder, entry) for entry in entries}


def choose(
    folder: Path | None, levels: Sequence[str], patterns: Sequence[str] | None
) -> tuple[list[str], Iterator[Case]]:
    """All ids there are; the chosen cases, each made or read when its turn comes."""
    makers = catalogue(folder)
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in makers):
            near = get_close_matches(pattern, makers, 1, 0)[0] if makers else "none at all"
            raise ValueError(f"case: got {pattern!r}, want a case's id or a pattern, like {near}")
    chosen = [
        name for name in makers
        if name.split("/")[0] in levels
        and (patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns))
    ]  # fmt: skip
    if not chosen:
        raise ValueError(f"case: got none of the level {', '.join(levels)}, want at least one")
    return list(makers), (makers[name]() for name in chosen)
