"""Validation of parsed JSON: the first violation of the rules is named."""

import pytest

from refsnn.files.schema import object_with, violation

POINT = object_with(
    {"x": {"type": "number"}, "n": {"type": "integer", "maximum": 9}},
    {"name": {"type": ["string", "null"]}, "loss": {"type": "real"}},
)
NAMED = {"type": "object", "additionalProperties": {"type": "boolean"}}
GOOD = {"x": 1.5, "n": 3}


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        GOOD | {"more": []},
        GOOD | {"name": None},
        GOOD | {"name": "a"},
        GOOD | {"loss": float("inf")},
        GOOD | {"loss": 3},
    ],
)
def test_a_value_that_keeps_the_rules_has_no_violation(value):
    assert violation(value, POINT) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "got a list, want an object"),
        ({"x": 1.0}, "n is missing"),
        (GOOD | {"x": True}, "x: got True, want a number"),
        (GOOD | {"x": float("nan")}, "x: got nan, want a number"),
        (GOOD | {"x": 10**400}, "x: got an integer of more than 60 digits, want a number"),
        (GOOD | {"n": 3.0}, "n: got 3.0, want an integer"),
        (GOOD | {"n": 10}, "n: got 10, want at most 9"),
        (GOOD | {"name": 1}, "name: got 1, want a string or a null"),
        (GOOD | {"loss": "x"}, "loss: got 'x', want a real"),
    ],
)
def test_a_violation_is_named_with_what_came_and_what_was_wanted(value, message):
    assert violation(value, POINT) == message


def test_rules_for_additional_fields_hold_for_each_of_them():
    assert violation({"a": True, "b": 1}, NAMED) == "b: got 1, want a boolean"
    assert violation({"a": True}, NAMED) is None
    assert violation({"a\nb": 1}, NAMED) == r"'a\nb': got 1, want a boolean"
