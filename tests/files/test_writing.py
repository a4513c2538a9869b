"""Files are written whole or not at all."""

import errno
import json
import os
import stat

import pytest

from refsnn.files.writing import append_line, open_temporary, write_atomic, write_json


def test_content_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.bin"
    write_atomic(path, b"first")
    write_atomic(path, b"2")
    assert path.read_bytes() == b"2"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_the_old_file_survives_when_writing_fails_midway(tmp_path, monkeypatch, call):
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_content_is_on_the_disk_before_it_takes_the_name_and_the_folder_after(
    tmp_path, monkeypatch
):
    calls = []

    def spy(name, real):
        def call(*arguments):
            size = os.fstat(arguments[0]).st_size if name == "fsync" else 0
            calls.append((name, size if name == "fsync" and len(calls) == 0 else None))
            return real(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, spy(name, getattr(os, name)))
    write_atomic(tmp_path / "a.bin", b"12345")
    assert calls == [("fsync", 5), ("replace", None), ("fsync", None)]


def test_two_writers_of_one_file_do_not_interfere(tmp_path, monkeypatch):
    """A second write starts and ends before the first has renamed its file."""
    path, fsync = tmp_path / "a.bin", os.fsync

    def write_between(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        write_atomic(path, b"second")
        assert path.read_bytes() == b"second"
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", write_between)
    write_atomic(path, b"first")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "a.bin", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o666 & ~mask


def test_the_next_write_of_a_file_removes_what_a_killed_process_left(tmp_path):
    """It keeps those of other files and of living processes, which have locked theirs."""
    for name in ("a.bin", "b.bin"):
        (tmp_path / f".{name}.0123abcd.tmp").write_bytes(b"half")
    descriptor, living = open_temporary(tmp_path / "a.bin")
    write_atomic(tmp_path / "a.bin", b"content")
    os.close(descriptor)
    assert sorted(os.listdir(tmp_path)) == sorted([living.name, ".b.bin.0123abcd.tmp", "a.bin"])


def test_a_temporary_file_that_another_process_has_removed_is_written_again(tmp_path, monkeypatch):
    path, replace = tmp_path / "a.bin", os.replace

    def remove_before(source, target):
        monkeypatch.setattr(os, "replace", replace)
        os.unlink(source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", remove_before)
    write_atomic(path, b"content")
    assert path.read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "a.bin", b"")


def test_json_ends_with_a_newline_and_reads_back(tmp_path):
    value = {"a": [1, 2.5, None], "b": "λ"}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert text.endswith("}\n")


def test_lines_are_appended(tmp_path):
    path = tmp_path / "a.jsonl"
    append_line(path, "one")
    append_line(path, "λ")
    assert path.read_text(encoding="utf-8") == "one\nλ\n"


@pytest.mark.parametrize(
    "write", [lambda path: write_atomic(path, b"new"), lambda path: append_line(path, "new")]
)
def test_the_error_of_a_full_disk_names_the_file(write, tmp_path, monkeypatch):
    path = tmp_path / "a.bin"

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.bin") as caught:
        write(path)
    assert caught.value.filename == str(path)
