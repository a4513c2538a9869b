"""Rules for parsed JSON: the part of JSON Schema (draft 2020-12) that is in use here.

A `number` is finite and within the range of a float, as all numbers of JSON should be; the type
`real`, which is ours, lets NaN and infinity through, which Python writes too.
"""

import re
from typing import Any

from refsnn.ops import validate

#: what rules may say here besides `description` and the like
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
    """Make the rules of an object: the fields that it must have, and those that it may have.

    Other fields are passed over, so that a newer version may write more.
    """
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
    }


def fault(value: Any, rules: Rules, name: str = "") -> str | None:
    """Find the first thing in which a value breaks the rules: `name: got X, want Y`."""
    want = broken(value, rules)
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
    return next(filter(None, (fault(*part) for part in inside)), None)


def broken(value: Any, rules: Rules) -> str | None:
    """Say what is wanted of the value itself and is not so."""
    kinds = rules.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and not any(is_a(value, kind) for kind in kinds):
        return " or ".join(f"{'an' if kind[0] in 'aio' else 'a'} {kind}" for kind in kinds)
    if "const" in rules and value != rules["const"]:
        return repr(rules["const"])
    if "enum" in rules and value not in rules["enum"]:
        return f"one of {', '.join(map(repr, rules['enum']))}"
    return broken_text(value, rules) or broken_range(value, rules) or broken_object(value, rules)


def is_a(value: Any, kind: str) -> bool:
    """Tell whether the value is of a type of `TYPES`."""
    if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    return kind != "number" or validate.finite(value)


def broken_text(value: Any, rules: Rules) -> str | None:
    if isinstance(value, str) and "pattern" in rules and not re.search(rules["pattern"], value):
        return f"a text like {rules['pattern']}"
    return None


def broken_range(value: Any, rules: Rules) -> str | None:
    if not isinstance(value, int | float):
        return None
    if "minimum" in rules and not value >= rules["minimum"]:
        return f"at least {rules['minimum']}"
    if "exclusiveMinimum" in rules and not value > rules["exclusiveMinimum"]:
        return f"more than {rules['exclusiveMinimum']}"
    if "maximum" in rules and not value <= rules["maximum"]:
        return f"at most {rules['maximum']}"
    return None


def broken_object(value: Any, rules: Rules) -> str | None:
    if not isinstance(value, dict):
        return None
    surplus = set(value) - set(rules.get("properties", {}))
    if rules.get("additionalProperties") is False and surplus:
        return f"nothing named {validate.named(min(surplus))} in it"
    return None


def shown(value: Any) -> str:
    """Shorten a value to what fits into a line."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return validate.shown(value)
