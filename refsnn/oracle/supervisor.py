"""The process that runs a worker: `python -m refsnn.oracle.supervisor COMMAND ...`.

It ends with the worker's exit code or signal, and before that kills all processes that the worker
has started. On Linux orphans become children of this process, which finds them in any session. A
process escapes that kills this one first or forks faster than it is killed; on Windows also one
whose parent has ended before the worker; on macOS one that has left the worker's process group.

SIGTERM kills the worker too; SIGABRT is passed on to it. Windows has neither: there, whoever
started this process kills all processes below it.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any, NoReturn

from refsnn import system


def main(command: list[str]) -> NoReturn:
    end_as(supervise(command) if system.GROUPS else supervise_without_groups(command))


def supervise(command: list[str]) -> int:
    """Run the worker in a process group of its own and return its exit code."""
    system.adopt_orphans()
    handled = (signal.SIGTERM, signal.SIGABRT)
    signal.pthread_sigmask(signal.SIG_BLOCK, handled)  # until the worker has started
    worker = os.posix_spawn(command[0], command, os.environ, setpgroup=0, setsigmask=[])

    def handle(number: int, frame: Any) -> None:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL if number == signal.SIGTERM else number)

    for number in handled:
        signal.signal(number, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
    close_streams()
    pid = 0
    while pid != worker:
        pid, status = os.waitpid(-1, 0)
    system.kill_group(worker)
    system.kill_descendants(os.getpid())
    return os.waitstatus_to_exitcode(status)


def supervise_without_groups(command: list[str]) -> int:
    """Run the worker and return its exit code, on Windows."""
    worker = subprocess.Popen(command, stdin=0, stdout=1, stderr=2)
    close_streams()
    code = worker.wait()
    system.kill_descendants(worker.pid)
    return code


def close_streams() -> None:
    """Close our copies of the worker's streams, so that its pipes close when it does."""
    for descriptor in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)


def end_as(code: int) -> NoReturn:
    """End with an exit code, or by the signal that it is the negative of."""
    if code < 0:
        system.limit("CORE", 0)
        with suppress(OSError):  # SIGKILL can't be handled
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code < 2**31 else code - 2**32)  # Windows has codes of 32 bits


if __name__ == "__main__":
    main(sys.argv[1:])
