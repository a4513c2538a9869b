"""Methods of the literature by name: the settings that make each, from `recipes.toml`."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from refsnn.ops import validate

PAPER = "paper"  # the paper's own network and neuron, among methods by name


class Recipe(NamedTuple):
    """A method: what `recipes.toml` says of it."""

    name: str
    source: str
    changes: str
    settings: dict[str, Any]
    published: str = ""
    clauses: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()  # kinds of evidence for the clauses
    digits: dict[str, list[float]] = {}  # noqa: RUF012  # training method -> mean, deviation in %
    differs: str = ""
    needs: str = ""  # a setting that has to be given beside it


@cache
def recipes() -> dict[str, Recipe]:
    """Read the methods."""
    known = tomllib.loads((files("refsnn.training") / "recipes.toml").read_text(encoding="utf-8"))
    return {
        name: Recipe(name, **about | {key: (*about[key],) for key in ("clauses", "checked")})
        for name, about in known.items()
    }


def recipe_settings(name: Any) -> dict[str, Any]:
    """Return the settings of a method by its name, none for PAPER; ValueError for other names."""
    if name == PAPER:
        return {}
    if not isinstance(name, str) or name not in recipes():
        hint = validate.nearest(name, (*recipes(), PAPER))
        raise ValueError(f"recipe: got {validate.shown(name)}{hint}")
    return recipes()[name].settings


def self_contained() -> list[str]:
    """Return the names of the methods that need nothing but their recipe."""
    return [name for name, recipe in recipes().items() if not recipe.needs]
