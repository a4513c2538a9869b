"""The differences between Linux, macOS and Windows in processes, memory, cores and files.

No other module of the package asks which system it runs on.
"""

import ctypes
import os
import re
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
#: whether a signal can be sent to a process and all that it started, as only POSIX can
GROUPS = hasattr(os, "killpg")
#: options of subprocess.Popen for a process that Ctrl-C on the terminal does not reach
APART: dict[str, Any] = {
    "start_new_session": True,
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
}
SET_CHILD_SUBREAPER = 36  # from Linux's sys/prctl.h
PATIENCE = 5.0  # seconds until killed processes must be gone, or an open file be closed


def limit(name: str, most: int) -> None:
    """Limit this process by RLIMIT_`name`, in bytes; does nothing where the system lacks it."""
    number = getattr(resource, f"RLIMIT_{name}", None)
    if number is None:
        return
    _, hard = resource.getrlimit(number)
    if hard == resource.RLIM_INFINITY or most < hard:
        with suppress(ValueError, OSError):  # macOS has limits that can't be set
            resource.setrlimit(number, (most, hard))


def kill_first() -> None:
    """Let Linux kill this process first when the machine runs out of memory."""
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def adopt_orphans() -> None:
    """Let orphans among this process's descendants become its children; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def block_interrupt() -> Any:
    """Block Ctrl-C in this thread and in the processes that it starts, which inherit the block.

    Returns the signals that were blocked before. On Windows Ctrl-C still reaches all of them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Block Ctrl-C, as `block_interrupt` does, for the processes started in this context."""
    before = block_interrupt()
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def descendants(pid: int, since: float) -> list[psutil.Process]:
    """List the descendants of process `pid` that began after `since`.

    The process itself may have ended: on Windows its children keep its number as their parent's.
    Elsewhere they become children of another process (see `adopt_orphans`).
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
    """Kill all descendants of process `pid`, which is this process or one that it started."""
    since, end = psutil.Process().create_time(), time.monotonic() + PATIENCE
    while (left := descendants(pid, since)) and time.monotonic() < end:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        reap()
        time.sleep(0.005)


def reap() -> None:
    """Remove ended children, adopted ones too, from the system's table of processes."""
    with suppress(ChildProcessError):
        while hasattr(os, "WNOHANG") and os.waitpid(-1, os.WNOHANG)[0]:
            pass


def kill_group(pid: int) -> None:
    """Kill a child that was started `APART`, with its group or, on Windows, its descendants."""
    if GROUPS:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        return
    kill_descendants(pid)
    with suppress(psutil.Error):
        psutil.Process(pid).kill()


def leave_with_group() -> None:
    """End this process at once, with its whole group if it leads one."""
    if not GROUPS:
        os._exit(1)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def peak_memory() -> int:
    """Return this process's peak resident memory in bytes.

    On Linux that is VmHWM: a child's ru_maxrss would include its parent's memory.
    """
    if hasattr(info := psutil.Process().memory_info(), "peak_wset"):
        return int(info.peak_wset)  # Windows
    with suppress(OSError, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        (line,) = (line for line in lines if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    unit = 1 if sys.platform == "darwin" else 2**10
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def available_memory() -> int:
    """Return the bytes of memory that this process can still use, within a container's limit."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        stat = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii")
        files = re.findall(r"^(?:in)?active_file (\d+)$", stat, re.MULTILINE)
        used -= sum(map(int, files))  # of files, which the system drops where it needs the memory
    except (OSError, ValueError):  # no such files, or no limit, which is "max"
        return available
    return max(0, min(available, limit - used))


def usable_cores() -> int:
    """Return the number of cores that this process may use; on macOS, of all cores."""
    if hasattr(psutil.Process, "cpu_affinity"):
        return len(psutil.Process().cpu_affinity())
    return psutil.cpu_count() or 1


def load_average() -> float:
    """Return the average number of running or waiting threads over the last minute."""
    return float(psutil.getloadavg()[0])


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; does nothing on Windows."""
    if WINDOWS:
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def replace(source: Path, target: Path) -> None:
    """Rename a file to `target`, replacing that.

    Windows refuses while any process has the target open; then tries again for a while.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if not WINDOWS or time.monotonic() > end:
                raise
        time.sleep(0.01)
