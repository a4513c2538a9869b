"""Reading a whole file: what it takes of memory, and what is refused."""

import os
import tracemalloc
from pathlib import Path

import pytest

from refsnn.files.reading import open_regular, read_bytes, read_text


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


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match=rf"^{path}: is no regular file$"):
            read_bytes(path)


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path):
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(
        ValueError, match=r"huge: got 1099511627776 bytes, want at most 17179869184"
    ):
        open_regular(tmp_path / "huge")
    with pytest.raises(ValueError, match=r"huge: got 1099511627776 bytes, want at most 9"):
        read_text(tmp_path / "huge", 9)
