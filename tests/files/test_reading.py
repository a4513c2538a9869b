"""Whole files: regular ones, of a bounded size."""

import os

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


def test_bytes_that_are_no_text_are_told_with_their_place(tmp_path):
    (tmp_path / "a").write_bytes(b"ab\xffc")
    with pytest.raises(ValueError, match=r"a: got the byte 0xff at 2, want UTF-8 text"):
        read_text(tmp_path / "a")
