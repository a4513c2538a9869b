"""The published schema: what it says, and that reading follows it."""

import copy
import json

import numpy as np
import pytest

from refsnn import spec
from refsnn.files.schema import RULES, violation
from refsnn.oracle import conventions, schema, vectors

SETTINGS = {
    "layer": {"stride", "padding", "training"},
    "block": {"stride", "training"},
    "network": {"steps", "depths", "widths", "stem_width", "branches", "side", "training"},
}


@pytest.fixture(scope="module")
def manifest(cases):
    entries = [vectors.describe(case, f"{case.id}.npz", "0" * 64) for case in cases.values()]
    made = {"schema": vectors.SCHEMA, "refsnn": "0", "cases": entries}
    return json.loads(json.dumps(made, allow_nan=False))


def inside(rules):
    """All rules within rules."""
    yield rules
    parts = [*rules.get("properties", {}).values(), *[rules[k] for k in ("items",) if k in rules]]
    for part in parts:
        yield from inside(part)


def test_all_cases_follow_it(manifest):
    assert violation(manifest, schema.manifest()) is None


def test_jsonschema_agrees(manifest):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema.manifest())
    jsonschema.Draft202012Validator(schema.manifest()).validate(manifest)


def test_it_says_nothing_that_reading_does_not_follow():
    words = {"$schema", "title", "description", *RULES}
    for rules in inside(schema.manifest()):
        assert set(rules) <= words
        if "properties" in rules:
            assert rules["additionalProperties"] is False
            assert all(part.get("description") for part in rules["properties"].values())


def test_its_conventions_are_those_there_are():
    entry = schema.manifest()["properties"]["cases"]["items"]["properties"]
    stated = entry["conventions"]
    assert stated["required"] == list(stated["properties"])
    assert set(stated["properties"]) == set(conventions.PAPER)
    assert stated["additionalProperties"] is False
    for name, convention in conventions.CONVENTIONS.items():
        described = stated["properties"][name]["description"]
        assert described.startswith(", ".join(spec.clauses_of(name)) + ". ")
        assert all(words in described for words in convention.values.values())
        assert convention.numbers is None or convention.numbers.wants() in described
    assert entry["level"]["enum"] == list(conventions.LEVELS)
    assert schema.manifest()["properties"]["schema"]["const"] == vectors.SCHEMA


#: values of all kinds, most of which most conventions can't have
VALUES = [True, False, None, [], "", "v_th", "1", "mean", "zero!", "xzero"]
VALUES += [-1e7, -1.0, -0.1, 0, 0.0, 0.5, 1, 1.0, 1.5, 2, 3, 99.5, 100, 101, 1e6, 1e7]


@pytest.mark.parametrize("name", conventions.CONVENTIONS)
def test_a_conventions_rules_allow_what_may_be_declared_and_nothing_else(name):
    """By jsonschema too, to which True is no number and 1.0 a whole one."""
    jsonschema = pytest.importorskip("jsonschema")
    entry = schema.manifest()["properties"]["cases"]["items"]["properties"]
    rules = entry["conventions"]["properties"][name]
    theirs = jsonschema.Draft202012Validator(rules)
    for value in [*VALUES, *conventions.CONVENTIONS[name].values]:
        try:
            conventions.check(name, value)
            allowed = True
        except ValueError:
            allowed = False
        assert theirs.is_valid(value) == allowed, value
        if type(value) is float and "integer" in rules.get("type", ()):
            allowed = False  # reading wants what is written, which is 1 for 1.0
        assert (violation(value, rules) is None) == allowed, value


def test_entries_spell_everything_out(manifest):
    """By hand, apart from the schema."""
    for entry in manifest["cases"]:
        assert set(entry) == {
            "id",
            "level",
            "summary",
            "clauses",
            "flags",
            "conventions",
            "settings",
            "repeat",
            "exact",
            "inputs",
            "outputs",
            "file",
            "sha256",
        }
        assert entry["summary"]
        assert entry["clauses"]
        assert set(entry["clauses"]) <= {clause.id for clause in spec.CLAUSES}
        assert set(entry["conventions"]) == set(conventions.PAPER)
        assert set(entry["settings"]) >= SETTINGS.get(entry["level"], set())
        for output in entry["outputs"]:
            assert 0 < output["tolerance"]["float64"] < output["tolerance"]["float32"]


def changed(entry, path, value):
    *way, last = path
    for key in way:
        entry = entry[key]
    if value is None:
        del entry[last]
    else:
        entry[last] = value


FAULTS = [
    (["repeat"], 0, "cases[0].repeat: got 0, want at least 1"),
    (["repeat"], True, "cases[0].repeat: got True, want an integer"),
    (["exact"], 1, "cases[0].exact: got 1, want a boolean"),
    (["id"], "../../etc/passwd", "cases[0].id: got '../../etc/passwd', want a text like"),
    (["id"], "neuron/../a", "cases[0].id: got 'neuron/../a', want a text like"),
    (["id"], 3, "cases[0].id: got 3, want a string"),
    (["file"], "/etc/passwd", "cases[0].file: got '/etc/passwd', want a text like"),
    (["sha256"], "0", "cases[0].sha256: got '0', want a text like"),
    (["sha256"], None, "cases[0].sha256 is missing"),
    (["more"], 1, "cases[0]: got an object, want nothing named more in it"),
    (
        ["outputs", 0, "tolerance", "float32"],
        -1.0,
        "cases[0].outputs[0].tolerance.float32: got -1.0, want more than 0",
    ),
    (["outputs", 0, "shape"], [-1], "cases[0].outputs[0].shape[0]: got -1, want at least 0"),
    (["outputs"], {}, "cases[0].outputs: got an object, want an array"),
    (
        ["conventions", "fire_at_threshold"],
        "=>",
        "cases[0].conventions.fire_at_threshold: got '=>', want a boolean",
    ),
    (["conventions", "tau"], None, "cases[0].conventions.tau is missing"),
    (["conventions", "tau"], 1.5, "cases[0].conventions.tau: got 1.5, want at most 1"),
    (["conventions", "reset"], "one", "cases[0].conventions.reset: got 'one', want one of 'zero'"),
    (
        ["conventions", "more"],
        1,
        "cases[0].conventions: got an object, want nothing named more in it",
    ),
    (["level"], "galaxy", "cases[0].level: got 'galaxy', want one of 'surrogate'"),
]


@pytest.mark.parametrize(("path", "value", "message"), FAULTS, ids=lambda x: str(x)[:30])
def test_each_fault_is_named_and_jsonschema_sees_it_too(manifest, path, value, message):
    broken = {**manifest, "cases": copy.deepcopy(manifest["cases"][:1])}
    changed(broken["cases"][0], path, value)
    assert violation(broken, schema.manifest()).startswith(message)
    try:
        import jsonschema
    except ImportError:
        return
    assert not jsonschema.Draft202012Validator(schema.manifest()).is_valid(broken)


def test_numbers_that_are_none_do_not_pass(manifest):
    broken = copy.deepcopy(manifest["cases"][0])
    broken["outputs"][0]["tolerance"]["float64"] = np.nan
    rules = schema.manifest()["properties"]["cases"]["items"]
    assert violation(broken, rules) == ("outputs[0].tolerance.float64: got nan, want a number")
