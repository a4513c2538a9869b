"""Methods of the literature by name: the settings that make each, from `recipes.toml`."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from refsnn.ops import validate


class Recipe(NamedTuple):
    """A method: what `recipes.toml` says of it."""

    name: str
    source: str
    changes: str
    settings: dict[str, Any]  # empty where it is missing
    published: str = ""
    clauses: tuple[str, ...] = ()
    differs: str = ""
    missing: str = ""


@cache
def recipes() -> dict[str, Recipe]:
    """Read the methods, those without settings last."""
    known = tomllib.loads((files("refsnn.training") / "recipes.toml").read_text(encoding="utf-8"))
    return {
        name: Recipe(name, **{"settings": {}} | about | {"clauses": (*about.get("clauses", ()),)})
        for name, about in known.items()
    }


def recipe_settings(name: Any) -> dict[str, Any]:
    """Return the settings of a method by its name.

    ValueError where there is none of this name, or refsnn does not have all its parts.
    """
    if not isinstance(name, str) or name not in recipes():
        there = [known for known, recipe in recipes().items() if not recipe.missing]
        raise ValueError(f"recipe: got {validate.shown(name)}{validate.nearest(name, there)}")
    recipe = recipes()[name]
    if recipe.missing:
        raise ValueError(f"recipe: {name} ({recipe.source}) needs {recipe.missing}, not there yet")
    return recipe.settings
