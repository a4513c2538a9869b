"""The process that a worker runs under: `python -m refsnn.oracle.supervisor COMMAND ...`.

It ends as the worker ends, and before that kills all processes that the worker has started. On
Linux orphans become children of this process, so that they are found in whatever session they
are; what kills this process first, or forks faster than it is killed, escapes. Elsewhere only the
worker's process group is killed.

SIGTERM kills the worker too; SIGABRT goes on to it.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

SET_CHILD_SUBREAPER = 36  # of Linux' sys/prctl.h
PATIENCE = 5.0  # seconds that the killed have to be gone
HANDLED = (signal.SIGTERM, signal.SIGABRT)


def main(command: list[str]) -> NoReturn:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until it is known whom they are for
    worker = os.posix_spawn(command[0], command, os.environ, setpgroup=0, setsigmask=[])

    def handle(number: int, frame: Any) -> None:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL if number == signal.SIGTERM else number)

    for number in HANDLED:
        signal.signal(number, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    for descriptor in range(3):  # close our copies, so that pipes close when the worker does
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    pid = 0
    while pid != worker:
        pid, status = os.waitpid(-1, 0)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    kill_descendants()
    end_as(os.waitstatus_to_exitcode(status))


def kill_descendants() -> None:
    end = time.monotonic() + PATIENCE
    while (left := descendants()) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.005)


def descendants() -> list[int]:
    """List the processes below this one, as far as the system shows them."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = path.read_bytes().rpartition(b")")[2].split()[1]  # names may hold anything
            children.setdefault(int(parent), []).append(int(path.parent.name))
    found = children.get(os.getpid(), [])
    for pid in found:
        found += children.get(pid, [])
    return found


def end_as(code: int) -> NoReturn:
    """End with an exit code, or by the signal that it is the negative of."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


if __name__ == "__main__":
    main(sys.argv[1:])
