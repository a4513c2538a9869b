"""The manifest's schema (JSON Schema, draft 2020-12), and the few of its rules that are in use."""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

#: what a schema may say here besides `description` and the like
RULES = (
    "type", "const", "enum", "pattern", "minimum", "exclusiveMinimum", "properties", "required",
    "additionalProperties", "items",
)  # fmt: skip
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "integer": (int,),
    "number": (int, float),
}  # fmt: skip


@cache
def text() -> str:
    return files("refsnn.oracle").joinpath("vectors.schema.json").read_text(encoding="utf-8")


@cache
def manifest() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(text())
    return schema


def fault(value: Any, rules: dict[str, Any], name: str = "") -> str | None:
    """The first thing in which a value of parsed JSON breaks the rules: `name: got X, want Y`."""
    want = broken(value, rules)
    if want:
        return f"{name or 'the whole'}: got {shown(value)}, want {want}"
    inside: list[tuple[Any, dict[str, Any], str]] = []
    if isinstance(value, dict):
        known = rules.get("properties", {})
        inside += [(value[k], known[k], f"{name}.{k}".lstrip(".")) for k in value if k in known]
    elif isinstance(value, list) and "items" in rules:
        inside += [(entry, rules["items"], f"{name}[{i}]") for i, entry in enumerate(value)]
    return next(filter(None, (fault(*part) for part in inside)), None)


def broken(value: Any, rules: dict[str, Any]) -> str | None:
    """What is wanted of the value itself and is not so."""
    kind = rules.get("type")
    if kind and (
        not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        return f"{'an' if kind[0] in 'aio' else 'a'} {kind}"
    if "const" in rules and value != rules["const"]:
        return repr(rules["const"])
    if "enum" in rules and value not in rules["enum"]:
        return f"one of {', '.join(map(repr, rules['enum']))}"
    if "pattern" in rules and not re.search(rules["pattern"], value):
        return f"a text like {rules['pattern']}"
    if "minimum" in rules and not value >= rules["minimum"]:
        return f"at least {rules['minimum']}"
    if "exclusiveMinimum" in rules and not value > rules["exclusiveMinimum"]:
        return f"more than {rules['exclusiveMinimum']}"
    missing = [key for key in rules.get("required", ()) if key not in value]
    if missing:
        return f"{missing[0]} in it"
    known = rules.get("properties", {})
    if rules.get("additionalProperties") is False and set(value) - set(known):
        return f"nothing named {sorted(set(value) - set(known))[0]} in it"
    return None


def shown(value: Any) -> str:
    """Short enough for a line."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return repr(value)[:60]
