"""Reading a process's pipe with a limit of time, on any system: a thread waits in its place."""

import os
import queue
import threading
import time
from typing import IO

MOST = 2**16  # bytes of a part


class Pipe:
    """The reading end of a process's pipe, which is closed when the other end is.

    Of what the process writes at most two parts are held; then it waits.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self.parts: queue.Queue[bytes] = queue.Queue(1)
        threading.Thread(target=self.fill, args=(source,), daemon=True).start()

    def fill(self, source: IO[bytes]) -> None:
        with source:
            while part := os.read(source.fileno(), MOST):
                self.parts.put(part)
        self.parts.put(b"")

    def read(self, seconds: float) -> bytes | None:
        """Return the next part, b"" after the last, None where none comes within the time."""
        try:
            part = self.parts.get(timeout=seconds)
        except queue.Empty:
            return None
        if not part:
            self.parts.put(part)  # the end stays
        return part

    def drain(self, seconds: float) -> None:
        """Read on to the end, or for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self.read(left):
            pass
