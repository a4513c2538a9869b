"""What another implementation may take, and what is said of its end."""

import signal

import numpy as np

ROOM = 2**20  # bytes that any output may have, whatever its wanted size
HEADER_ROOM = 2**16  # and a file of it beside them


def most_bytes(shape: tuple[int, ...]) -> int:
    """Of an output that is worth passing on, wrong as its shape may be."""
    return max(ROOM, 16 * int(np.prod(shape, dtype=object)))


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
