"""Reading of whole regular files of a bounded size."""

import os
import tracemalloc
from pathlib import Path

import pytest

from refsnn.files.reading import read_bytes, read_text


def test_content_comes_back(tmp_path):
    path = tmp_path / "a"
    path.write_bytes("λ\n".encode())
    assert read_bytes(path) == "λ\n".encode()
    assert read_text(path) == "λ\n"


def test_a_file_above_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "a"
    with open(path, "wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match=rf"^{path}: got {10**12} bytes, want at most \d+$"):
        read_bytes(path)
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(ValueError, match=r"got 5 bytes, want at most 4"):
        read_bytes(path, 4)


def test_no_descriptor_is_left_open(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    if before is None:
        pytest.skip("needs /proc")
    for _ in range(3):
        read_bytes(path)
        with pytest.raises(ValueError, match="at most"):
            read_bytes(path, 1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_bytes_that_are_not_utf8_are_named_with_their_position(tmp_path):
    (tmp_path / "a").write_bytes(b"ab\xffc")
    with pytest.raises(ValueError, match=r"a: got the byte 0xff at 2, want UTF-8 text"):
        read_text(tmp_path / "a")


def test_reading_takes_the_memory_of_the_file(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(bytes(1000))
    tracemalloc.start()
    try:
        assert read_bytes(path) == bytes(1000)
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_meanwhile_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "growing"
    path.write_bytes(b"1234")
    real = os.fdopen

    def grown(*arguments):
        file = real(*arguments)
        monkeypatch.setattr(
            os, "fstat", lambda number: os.stat_result([0o100644] + [0] * 5 + [3] + [0] * 3)
        )
        return file

    monkeypatch.setattr(os, "fdopen", grown)
    with pytest.raises(ValueError, match=r"growing: grew beyond 3 bytes while it was read$"):
        read_bytes(path)


def test_a_file_that_is_not_regular_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match=rf"^{path}: is no regular file$"):
            read_bytes(path)
