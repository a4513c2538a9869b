"""Count a command's steps of input and output, and kill it at one of them.

`install()` is called in each of the command's processes (by a `sitecustomize.py`, too). A step is
what changes a file or folder in KILL_ROOT: opening for writing, writing, fsync, renaming, removing,
making and so on. Each is a line of JSON in KILL_LOG, numbered over all processes. Before the step
of number KILL_AT, or in the middle of it where it writes and KILL_HALF is set, the whole process
group is killed.
"""

import builtins
import fcntl
import io
import json
import os
import signal
import sys
import threading
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: audit events -> how many paths they begin with; the folders that these are in come last
EVENTS = {
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.mkdir": 1,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.utime": 1,
}

WRITE = os.write  # which `install` replaces


class Steps:
    """Numbers the steps, and kills at one."""

    def __init__(self, root: str, log: str, at: int, half: bool) -> None:
        self.root, self.at, self.half = os.path.realpath(root), at, half
        self.log = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.count = os.open(f"{log}.count", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.lock = threading.RLock()

    def step(self, event: str, *paths: str) -> bool:
        """Tell whether the process is to die in the middle of it."""
        with self.lock:
            fcntl.flock(self.count, fcntl.LOCK_EX)
            try:
                WRITE(self.count, b".")
                number = os.fstat(self.count).st_size
                names = [os.path.relpath(path, self.root) for path in paths]
                WRITE(self.log, f"{json.dumps([event, *names])}\n".encode())
            finally:
                fcntl.flock(self.count, fcntl.LOCK_UN)
        if number == self.at:
            if self.half and event == "write":
                return True
            die()
        return False

    def inside(self, path: Any, folder: Any = -1) -> str:
        """The path where it is in the root; "" elsewhere."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
            if not os.path.isabs(path):  # a pipe
                return ""
        path = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        path = os.path.abspath(path)
        return path if path == self.root or path.startswith(self.root + os.sep) else ""

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, int) and flags & WRITES and (name := self.inside(path)):
                self.step("open", name)
        elif event in EVENTS:
            count = EVENTS[event]
            folders = arguments[-count:] if len(arguments) > count else (-1,) * count
            names = [self.inside(*pair) for pair in zip(arguments[:count], folders, strict=True)]
            if any(names):
                self.step(event, *filter(None, names))


def die() -> None:
    os.killpg(0, signal.SIGKILL)
    signal.pause()  # until it arrives


def install() -> None:
    """Begin to count, as the environment says."""
    steps = Steps(
        os.environ["KILL_ROOT"],
        os.environ["KILL_LOG"],
        int(os.environ["KILL_AT"]),
        os.environ["KILL_HALF"] == "1",
    )

    class Raw(io.FileIO):
        """A file whose writing is a step."""

        def write(self, data: Any) -> int:
            if steps.step("write", steps.inside(self.fileno())):
                super().write(memoryview(data).cast("B")[: len(data) // 2])
                die()
            return super().write(data)

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        plain = not set(mode) & set("wax+") or (isinstance(file, int) and file <= 2)
        if plain or not steps.inside(file):
            return original(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        return io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)

    def counted(name: str) -> None:
        function = getattr(os, name)

        def call(file: Any, *rest: Any) -> Any:
            path = steps.inside(file)
            if path and steps.step("write" if name == "pwrite" else name, path):
                function(file, rest[0][: len(rest[0]) // 2], *rest[1:])
                die()
            return function(file, *rest)

        setattr(os, name, call)

    original = builtins.open
    builtins.open = io.open = opened
    for name in ("fsync", "fdatasync", "ftruncate", "posix_fallocate", "write", "pwrite"):
        counted(name)
    sys.addaudithook(steps.audit)
