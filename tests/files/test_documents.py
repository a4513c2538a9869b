"""Reading of JSON and TOML gives values, or an error of one line that names file and field."""

import os

import pytest

from refsnn.files.documents import MOST_DEPTH, read_json, read_json_lines, read_toml

RULES = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


def nested(depth):
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "got the byte 0xff at 0, want UTF-8 text"),
        (b"1" * 5000, "not valid JSON"),
        (b"3", "got 3, want an object"),
        (b'{"a": "x"}', "a: got 'x', want an integer"),
        (nested(MOST_DEPTH + 2), "got values nested more than 64 deep"),
        (b"[" * 10**6, "got values nested more than 64 deep"),
        (b'{"a":' * 10**5, "got values nested more than 64 deep"),
    ],
)
def test_json_that_breaks_the_rules_is_refused_by_name(content, message, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path}: {message}"):
        read_json(path, RULES)


def test_json_at_the_depth_limit_is_read(tmp_path):
    (tmp_path / "x.json").write_bytes(nested(MOST_DEPTH))
    read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[a", "not valid TOML"),
        (b"\xff", "got the byte 0xff at 0, want UTF-8 text"),
        (b"a = 'x'", "a: got 'x', want an integer"),
        (b"b = 1", "a is missing"),
        (b"a = " + b"[" * 10**5, "got values nested more than 64 deep"),
        (b"a." * 100 + b"a = 1", "got values nested more than 64 deep"),
    ],
)
def test_toml_that_breaks_the_rules_is_refused_by_name(content, message, tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path}: {message}"):
        read_toml(path, RULES)


def test_a_last_line_that_was_cut_off_is_ignored(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": 3')
    assert read_json_lines(path, RULES) == [{"a": 1}, {"a": 2}]
    path.write_bytes(b"")
    assert read_json_lines(path, RULES) == []


def test_a_damaged_line_that_is_not_the_last_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(ValueError, match=rf"^{path}: line 2: not valid JSON"):
        read_json_lines(path, RULES)
    path.write_bytes(b'{"a": 1}\n{"b": 1}\n')
    with pytest.raises(ValueError, match=rf"^{path}: line 2: a is missing"):
        read_json_lines(path, RULES)


@pytest.mark.parametrize("read", [read_json, read_toml, read_json_lines])
def test_a_file_that_is_not_regular_is_refused_at_once(read, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "zero", "."):
        with pytest.raises(ValueError, match="is no regular file"):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
