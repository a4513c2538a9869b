"""Limits on another implementation's outputs, and names of signals."""

import signal

import numpy as np

ROOM = 2**20  # bytes that any output may have, whatever its wanted size
HEADER_ROOM = 2**16  # bytes that its file may have beside the numbers


def most_bytes(shape: tuple[int, ...]) -> int:
    """Return how many bytes an output may have that should have this shape."""
    return max(ROOM, 16 * int(np.prod(shape, dtype=object)))


def signal_name(number: int) -> str:
    """Return the name of a signal by its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
