"""The JSON Schema of the manifest (draft 2020-12)."""

import json
from functools import cache
from importlib.resources import files

from refsnn.files.schema import Rules


@cache
def text() -> str:
    """Return the schema as text."""
    return files("refsnn.oracle").joinpath("vectors.schema.json").read_text(encoding="utf-8")


@cache
def manifest() -> Rules:
    """Return the schema."""
    rules: Rules = json.loads(text())
    return rules
