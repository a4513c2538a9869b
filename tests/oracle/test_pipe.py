"""A pipe is read with a limit of time, part by part, to an end that stays."""

import os
import time

import pytest

from refsnn.oracle.pipe import MOST, Pipe


@pytest.fixture
def ends():
    """The pipe, and the descriptor that is written into."""
    source, target = os.pipe()
    return Pipe(os.fdopen(source, "rb")), target


def test_lines_come_in_order_and_then_the_end(ends):
    pipe, target = ends
    for text in (b"one\n", b"two\n"):
        os.write(target, text)
        assert pipe.read(10) == text
    os.close(target)
    assert [pipe.read(10) for _ in "123"] == [b""] * 3


def test_nothing_within_the_time_is_no_end(ends):
    pipe, target = ends
    begin = time.monotonic()
    assert pipe.read(0.1) is None
    assert 0.1 <= time.monotonic() - begin < 5
    os.write(target, b"late")
    assert pipe.read(10) == b"late"
    os.close(target)


def test_a_flood_waits_and_can_be_drained(ends):
    pipe, target = ends
    os.set_blocking(target, False)
    written = 0
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            written += os.write(target, bytes(MOST))
        except BlockingIOError:
            time.sleep(0.05)
    assert written < 10 * MOST
    begin = time.monotonic()
    pipe.drain(0.3)  # the other end is open still
    assert time.monotonic() - begin < 5
    os.close(target)
    pipe.drain(10)
    assert pipe.read(10) == b""
