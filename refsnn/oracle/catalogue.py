"""The catalogue of cases, each of which is made or read when it is needed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from refsnn.oracle import cases, recipes, vectors
from refsnn.oracle.agreement import disagreements, for_loops
from refsnn.oracle.cases import Recipe
from refsnn.oracle.contents import require_inputs
from refsnn.oracle.conventions import LEVELS, Conventions, check
from refsnn.oracle.naive import case as naive
from refsnn.oracle.tolerances import tolerances
from refsnn.oracle.vectors import Case


def catalogue(
    folder: Path | None, declared: Conventions | None = None
) -> dict[str, Callable[[], Case]]:
    """Return functions that make the cases, by id: from a folder of test vectors, or recipes.

    Those of recipes follow the `declared` conventions; a function raises ValueError where the
    naive loops compute something else under them. Those of a folder have their own, and `declared`
    may only repeat them; ValueError for a user's slope among them that was not declared.
    """
    declared = declared or {}
    for name, value in for_loops(declared).items():
        if not naive.is_computed(name, value):  # type: ignore[no-untyped-call]
            raise ValueError(
                f"{name}: {value!r} can be recognised, but not declared: the naive loops, the "
                "second opinion on every value, do not compute it"
            )
    if folder is None:
        make = agreed if declared else cases.build
        return {recipe.id: partial(make, recipe) for recipe in recipes.recipes(LEVELS, declared)}
    entries = vectors.read_manifest(folder)["cases"]
    for entry in entries:
        check("surrogate", entry["conventions"]["surrogate"])
        if any(entry["conventions"][name] != value for name, value in declared.items()):
            raise ValueError(f"conventions: those of the cases in {folder} can't be changed")
    return {entry["id"]: partial(read_case, folder, entry) for entry in entries}


def agreed(recipe: Recipe) -> Case:
    """Make a case of a recipe; ValueError where the naive loops compute something else."""
    case = cases.build(recipe)
    differs = disagreements(case)
    if differs:
        raise ValueError(f"{recipe.id}: refsnn and the naive loops differ: {differs[0]}")
    return case


def read_case(folder: Path, entry: Mapping[str, Any]) -> Case:
    """Read a case and check that it can be computed.

    ValueError where the file or the manifest is damaged.
    """
    case = vectors.read_case(folder, entry)
    try:
        require_inputs(case.level, case.inputs, case.settings, case.conventions)
        require_tolerances(case)
    except ValueError as error:
        raise ValueError(f"vectors: {folder / vectors.MANIFEST}: {case.id}: {error}") from None
    return case


def require_tolerances(case: Case) -> None:
    """Check that the tolerances are no larger than those of the case's outputs.

    A larger one would let any output pass. ValueError names the first that is larger.
    """
    for name, wanted in tolerances(case.level, case.outputs).items():
        for precision, most in wanted.items():
            got = case.tolerances[name].get(precision, 0.0)
            if not 0 < got <= most * (1 + 1e-6):
                raise ValueError(
                    f"outputs: {name}: tolerance: {precision}: got {got:g}, want {most:g} at most"
                )


def load(
    makers: Mapping[str, Callable[[], Case]], names: Iterable[str]
) -> tuple[list[Case], dict[str, str]]:
    """Return the cases of these ids, and for each that cannot be loaded the reason."""
    cases, problems = [], {}
    for name in names:
        try:
            cases.append(makers[name]())
        except (ValueError, OSError) as error:
            problems[name] = str(error)
    return cases, problems


def check_patterns(patterns: Iterable[str], cases: Iterable[Case]) -> None:
    """Check that every pattern matches an output's name; ValueError names one that does not."""
    names = {name for case in cases for name in case.outputs}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, 1, 0)[0] if names else "none at all"
            raise ValueError(
                f"omit: got {pattern!r}, want an output's name or pattern, like {near}"
            )


def choose(
    makers: Iterable[str], levels: Sequence[str], patterns: Sequence[str] | None
) -> list[str]:
    """Return the ids of these levels that match any of the patterns; ValueError if none does."""
    ids = list(makers)
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in ids):
            near = get_close_matches(pattern, ids, 1, 0)[0] if ids else "none at all"
            raise ValueError(f"case: got {pattern!r}, want a case's id or a pattern, like {near}")
    chosen = [
        name
        for name in ids
        if name.split("/")[0] in levels
        and (patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns))
    ]
    if not chosen:
        raise ValueError(f"case: got none of the level {', '.join(levels)}, want at least one")
    return chosen
