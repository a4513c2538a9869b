"""Validation of parsed JSON against rules: the part of JSON Schema (draft 2020-12) in use here.

A `number` is finite and within the range of a float, as all numbers in JSON should be. The type
`real`, which JSON Schema does not have, also allows the NaN and infinity that Python writes.
"""

import re
from typing import Any

from refsnn.ops import validate

#: keywords that are checked; others, such as `description`, are ignored
RULES = (
    "type",
    "const",
    "enum",
    "pattern",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "properties",
    "required",
    "additionalProperties",
    "items",
)
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "real": (int, float),
    "null": (type(None),),
}
Rules = dict[str, Any]


def object_with(required: Rules, optional: Rules | None = None) -> Rules:
    """Return the rules of an object with required and optional fields.

    Other fields are ignored, so that a newer version may write more.
    """
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
    }


def violation(value: Any, rules: Rules, name: str = "") -> str | None:
    """Describe the first violation of the rules, as `name: got X, want Y`; None if there is none.

    `name` is the value's path within the document, such as `cases[0].file`.
    """
    want = unmet(value, rules)
    missing = [k for k in rules.get("required", ()) if isinstance(value, dict) and k not in value]
    if missing:
        return f"{name}.{missing[0]} is missing".removeprefix(".")
    if want:
        return f"{name}: got {shown(value)}, want {want}".removeprefix(": ")
    inside: list[tuple[Any, Rules, str]] = []
    if isinstance(value, dict):
        known, rest = rules.get("properties", {}), rules.get("additionalProperties")
        for key, entry in value.items():
            within = known.get(key, rest)
            if isinstance(within, dict):
                inside.append((entry, within, f"{name}.{validate.named(key)}".lstrip(".")))
    elif isinstance(value, list) and "items" in rules:
        inside += [(entry, rules["items"], f"{name}[{i}]") for i, entry in enumerate(value)]
    return next(filter(None, (violation(*part) for part in inside)), None)


def unmet(value: Any, rules: Rules) -> str | None:
    """Return what the rules want of the value itself, not of its parts; None if it meets them."""
    kinds = rules.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and not any(is_a(value, kind) for kind in kinds):
        return " or ".join(f"{'an' if kind[0] in 'aio' else 'a'} {kind}" for kind in kinds)
    if "const" in rules and value != rules["const"]:
        return repr(rules["const"])
    if "enum" in rules and value not in rules["enum"]:
        return f"one of {', '.join(map(repr, rules['enum']))}"
    return unmet_pattern(value, rules) or unmet_range(value, rules) or unmet_fields(value, rules)


def is_a(value: Any, kind: str) -> bool:
    """Tell whether the value is of the type `kind` of `TYPES`."""
    if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    return kind != "number" or validate.finite(value)


def unmet_pattern(value: Any, rules: Rules) -> str | None:
    if isinstance(value, str) and "pattern" in rules and not re.search(rules["pattern"], value):
        return f"a text like {rules['pattern']}"
    return None


def unmet_range(value: Any, rules: Rules) -> str | None:
    if not isinstance(value, int | float):
        return None
    if "minimum" in rules and not value >= rules["minimum"]:
        return f"at least {rules['minimum']}"
    if "exclusiveMinimum" in rules and not value > rules["exclusiveMinimum"]:
        return f"more than {rules['exclusiveMinimum']}"
    if "maximum" in rules and not value <= rules["maximum"]:
        return f"at most {rules['maximum']}"
    return None


def unmet_fields(value: Any, rules: Rules) -> str | None:
    if not isinstance(value, dict):
        return None
    surplus = set(value) - set(rules.get("properties", {}))
    if rules.get("additionalProperties") is False and surplus:
        return f"nothing named {validate.named(min(surplus))} in it"
    return None


def shown(value: Any) -> str:
    """Return a value as text that fits into a line of a message."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return validate.shown(value)
