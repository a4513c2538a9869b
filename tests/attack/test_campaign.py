"""Damaged files are read, or refused in a line: by every reader of files from outside.

A thousand by default; `pytest -m attack tests/attack` takes 100,000 (ten minutes on two cores).
"""

import ast
import os
import random
import sys
from importlib import util
from pathlib import Path

import pytest
from attacker import ROOT
from bad_readers import BAD
from campaign import campaign, grouped
from containers import FORMS, mutated
from readers import READERS, TRUSTED

SEED = 0
watched = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits of memory")
#: functions and methods that open or parse files
OPENERS = {
    "File",
    "TarFile",
    "ZipFile",
    "fdopen",
    "fromfile",
    "load",
    "loads",
    "open",
    "open_memmap",
    "open_regular",
    "parse",
    "parse_json",
    "read_array",
    "read_arrays",
    "read_bytes",
    "read_json",
    "read_json_lines",
    "read_text",
    "read_toml",
    "read_variables",
    "read_whole",
    "safe_open",
}
LOADERS = {"load": {"np"}, "loads": {"json", "tomllib", "pickle"}, "parse": {"npy"}}


@pytest.mark.slow
@pytest.mark.processes
@watched
def test_a_thousand_damaged_files(tmp_path):
    if found := campaign(tmp_path, SEED, 1000, jobs=1):
        pytest.fail(grouped(found), pytrace=False)


@pytest.mark.processes
@watched
@pytest.mark.attack
def test_a_hundred_thousand_damaged_files(tmp_path):
    if found := campaign(tmp_path, SEED + 1, 100_000, jobs=os.cpu_count() or 1):
        pytest.fail(grouped(found), pytrace=False)


@pytest.mark.processes
@watched
def test_the_campaign_notices_what_is_wrong(tmp_path):
    found = campaign(tmp_path, SEED, 0, jobs=1, table="bad_readers")
    assert {failure.reader for failure in found} == BAD.keys()
    for name, (_, kind) in BAD.items():
        assert any(f.reader == name and f.what.startswith(kind) for f in found), name


def modules():
    """Dotted names and files of all code that a user runs."""
    for folder in ("refsnn", "verification", "figures"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def opens(path):
    """The calls in a file that open or parse files."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            owner, name = None, getattr(node.func, "id", None)
            if isinstance(node.func, ast.Attribute):
                name, owner = node.func.attr, getattr(node.func.value, "id", None)
            if name in OPENERS and owner in LOADERS.get(name, {owner}):
                yield ast.unparse(node.func)


def test_every_module_that_opens_files_is_attacked():
    attacked = {name for reader in READERS.values() for name in reader.modules.split()}
    opening = {name: set(opens(path)) for name, path in modules()}
    opening = {name: calls for name, calls in opening.items() if calls}
    assert not attacked & TRUSTED.keys()
    left_out = {n: calls for n, calls in opening.items() if n not in attacked | TRUSTED.keys()}
    assert not left_out, "want them in READERS or TRUSTED of tests/attack/readers.py"
    assert attacked | TRUSTED.keys() <= opening.keys()  # neither holds a name without meaning


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_read_by_the_modules_of_the_table(name, tmp_path):
    reader = READERS[name]
    if reader.needs and util.find_spec(reader.needs) is None:
        pytest.skip(f"needs {reader.needs}")
    path, seen = reader.make(tmp_path), set()
    sys.setprofile(lambda frame, event, value: seen.add(frame.f_code.co_filename))
    try:
        reader.read(path)
    finally:
        sys.setprofile(None)
    for module in reader.modules.split():
        assert str(ROOT / Path(*module.split("."))) + ".py" in seen


@pytest.mark.parametrize("name", READERS)
def test_damage_is_the_same_each_time_and_seldom_none(name, tmp_path):
    reader = READERS[name]
    if reader.needs and util.find_spec(reader.needs) is None:
        pytest.skip(f"needs {reader.needs}")
    assert reader.form in {*FORMS, "bytes"}
    content = reader.make(tmp_path).read_bytes()
    made = [mutated(content, reader.form, random.Random(str(k))) for k in range(40)]
    assert made == [mutated(content, reader.form, random.Random(str(k))) for k in range(40)]
    assert len(set(made) - {content}) > 25
