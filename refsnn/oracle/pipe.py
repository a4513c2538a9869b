"""Reading from a process's pipe with a time limit, on any system, by a thread that waits for it."""

import os
import queue
import threading
import time
from typing import IO

MOST = 2**16  # bytes per part


class Pipe:
    """The reading end of a process's pipe, which closes when the other end does.

    At most two parts are held; then the process has to wait.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self.parts: queue.Queue[bytes] = queue.Queue(1)
        threading.Thread(target=self.fill, args=(source,), daemon=True).start()

    def fill(self, source: IO[bytes]) -> None:
        """Pass the parts on until the pipe ends."""
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
        """Discard everything up to the end, for at most so many seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self.read(left):
            pass
