"""What Linux, macOS and Windows do differently: limits, groups of processes, memory, cores, files.

Everything else in the package asks here, and not for the name of the system.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

resource: Any
try:
    import resource
except ImportError:  # Windows has no such module
    resource = None

WINDOWS = sys.platform == "win32"
#: whether a signal can be sent to a process and to all that it started: POSIX alone
GROUPS = hasattr(os, "killpg")
#: options of subprocess.Popen for a process that Ctrl-C on the terminal does not reach
APART: dict[str, Any] = {
    "start_new_session": True,
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
}
SET_CHILD_SUBREAPER = 36  # of Linux' sys/prctl.h
PATIENCE = 5.0  # seconds: that killed processes have to be gone, or that a file may stay open


def limit(kind: str, most: int) -> None:
    """Limit this process by RLIMIT_`kind`, in bytes; no limit where the system has none such."""
    number = getattr(resource, f"RLIMIT_{kind}", None)
    if number is None:
        return
    _, hard = resource.getrlimit(number)
    if hard == resource.RLIM_INFINITY or most < hard:
        with suppress(ValueError, OSError):  # macOS has kinds that can't be set
            resource.setrlimit(number, (most, hard))


def kill_first() -> None:
    """Name this process to Linux as the first to kill when the machine runs out of memory."""
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def adopt_orphans() -> None:
    """Let orphans become children of this process, where the system can do that: on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def block_interrupt() -> Any:
    """Keep Ctrl-C from this thread, and from the processes that it starts, which inherit that.

    Returns what was blocked before. On Windows they all get it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Keep Ctrl-C from the processes that are started within, as `block_interrupt` does."""
    before = block_interrupt()
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def descendants(pid: int, since: float) -> list[psutil.Process]:
    """List the processes below that of this number that began after `since`.

    It may have ended: on Windows a process keeps the number of its parent. Elsewhere an orphan is
    a child of another process (see `adopt_orphans`).
    """
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["ppid", "create_time"]):
        if (process.info["create_time"] or 0) >= since:
            children.setdefault(process.info["ppid"], []).append(process)
    found = list(children.get(pid, []))
    for process in found:
        found += children.get(process.pid, [])
    return found


def kill_descendants(pid: int) -> None:
    """Kill all processes below that of this number, which this process is or has started."""
    since, end = psutil.Process().create_time(), time.monotonic() + PATIENCE
    while (left := descendants(pid, since)) and time.monotonic() < end:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        reap()
        time.sleep(0.005)


def reap() -> None:
    """Let children that have ended, adopted ones too, go from the system's table of processes."""
    with suppress(ChildProcessError):
        while hasattr(os, "WNOHANG") and os.waitpid(-1, os.WNOHANG)[0]:
            pass


def kill_group(pid: int) -> None:
    """Kill a child that was started `APART`, and all in its group or, on Windows, below it."""
    if GROUPS:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        return
    kill_descendants(pid)
    with suppress(psutil.Error):
        psutil.Process(pid).kill()


def leave_with_group() -> None:
    """End this process at once, with all in its group if it leads one."""
    if not GROUPS:
        os._exit(1)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def peak_memory() -> int:
    """Return the most bytes that this process ever had resident.

    Linux counts a parent's memory in a child's ru_maxrss, but not in its VmHWM.
    """
    if hasattr(info := psutil.Process().memory_info(), "peak_wset"):
        return int(info.peak_wset)  # Windows
    with suppress(OSError, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        (line,) = (line for line in lines if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    unit = 1 if sys.platform == "darwin" else 2**10
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def usable_cores() -> int:
    """Return the number of cores that this process may use; on macOS, that there are."""
    if hasattr(psutil.Process, "cpu_affinity"):
        return len(psutil.Process().cpu_affinity())
    return psutil.cpu_count() or 1


def load_average() -> float:
    """Return how many threads ran or wanted to in the last minute, on average."""
    return float(psutil.getloadavg()[0])


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; Windows does not open folders."""
    if WINDOWS:
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def replace(source: Path, target: Path) -> None:
    """Give a file another's name. Windows refuses while any process has that open: try again for
    a while."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if not WINDOWS or time.monotonic() > end:
                raise
        time.sleep(0.01)
