"""The JSON Schema of the manifest (draft 2020-12)."""

import json
import re
from functools import cache
from importlib.resources import files

from refsnn import spec
from refsnn.files.schema import Rules
from refsnn.oracle.conventions import CONVENTIONS, Convention
from refsnn.oracle.slopes import OWN


@cache
def text() -> str:
    """Return the schema as text."""
    return json.dumps(manifest(), indent=1, ensure_ascii=False) + "\n"


@cache
def manifest() -> Rules:
    """Return the schema: that of the file, with the rules of all conventions."""
    stored = files("refsnn.oracle").joinpath("vectors.schema.json").read_text(encoding="utf-8")
    rules: Rules = json.loads(stored)
    conventions = rules["properties"]["cases"]["items"]["properties"]["conventions"]
    conventions["properties"] = {name: rules_of(name, c) for name, c in CONVENTIONS.items()}
    conventions["required"] = list(CONVENTIONS)
    conventions["additionalProperties"] = False
    return rules


def rules_of(name: str, convention: Convention) -> Rules:
    """Return the rules of a convention's values."""
    told = [f"{str(value).lower()}: {words}" for value, words in convention.values.items()]
    if convention.numbers is not None:
        told.append(f"{convention.numbers.wants()}: {convention.numbers.text.format('so many')}")
    if convention.own:
        told.append(f"{OWN}…: a slope of the user's own, which who reads it must have too")
    rules: Rules = {"description": f"{', '.join(spec.clauses_of(name))}. {'; '.join(told)}."}
    named = [value for value in convention.values if isinstance(value, str)]
    if all(isinstance(value, bool) for value in convention.values) and convention.values:
        return rules | {"type": "boolean"}
    pattern = "|".join(map(re.escape, named))
    if convention.own:
        return rules | {"type": "string", "pattern": f"^({pattern}|{re.escape(OWN)}.+)$"}
    if convention.numbers is None:
        return rules | {"enum": named}
    low, high, whole = convention.numbers.low, convention.numbers.high, convention.numbers.whole
    kind = "integer" if whole else "number"
    numbers = [value for value in convention.values if not isinstance(value, str)]
    limits = {"minimum": min([low, *numbers]), "maximum": max([high, *numbers])}
    if isinstance(convention.paper, int | float):
        limits["minimum"] = min(limits["minimum"], convention.paper)
    if not named:
        return rules | {"type": kind} | limits
    return rules | {"type": ["string", kind], "pattern": f"^({pattern})$"} | limits
