"""Every text file and pipe has its encoding named: a system's default may be a code page."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    p for f in ("refsnn", "verification", "figures") for p in sorted((ROOT / f).rglob("*.py"))
]
#: call -> the position of the mode, if any, among its arguments
OPENERS = {"open": 1, "fdopen": 1, "read_text": None, "write_text": None, "NamedTemporaryFile": 0}
#: whose `open` has a mode at another place, or none
OTHERS = {"Path": 0, "path": 0, "os": None, "Image": None, "tarfile": None, "archive": None}


def unnamed(text):
    """Lines of the calls that open a text without an encoding."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        keywords = {k.arg: k.value for k in node.keywords}
        if "encoding" in keywords:
            continue
        if {"text", "universal_newlines"} & keywords.keys() or (name in OPENERS and is_text(node)):
            found.append(node.lineno)
    return found


def is_text(call):
    """Whether the call opens a text; its mode is a constant where it has one."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    owner = getattr(getattr(call.func, "value", None), "id", None)
    position = OTHERS.get(owner, OPENERS[name]) if name == "open" else OPENERS[name]
    if position is None:  # read_text and write_text are ours where they are no methods
        return name != "open" and isinstance(call.func, ast.Attribute)
    modes = [k.value for k in call.keywords if k.arg == "mode"] + call.args[position : position + 1]
    return "b" not in ast.unparse(modes[0]) if modes else True


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_encodings_are_named(path):
    assert not unnamed(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("open(p)", 1),
        ("open(p, 'r')", 1),
        ("open(p, mode='w')", 1),
        ("path.open('a')", 1),
        ("path.read_text()", 1),
        ("path.write_text(x)", 1),
        ("os.fdopen(3)", 1),
        ("subprocess.run(c, text=True)", 1),
        ("open(p, 'rb')", 0),
        ("path.open('ab')", 0),
        ("open(p, encoding='utf-8')", 0),
        ("os.fdopen(3, 'rb')", 0),
        ("os.open(p, 0)", 0),
        ("path.read_text(encoding='utf-8')", 0),
    ],
)
def test_a_missing_encoding_is_noticed(code, count):
    assert len(unnamed(code)) == count
