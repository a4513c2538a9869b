"""Show refsnn the standard library as it is on Windows, in every process that has this folder in
its PYTHONPATH.

Only what refsnn imports itself is changed, so that other packages go on to work on this system:
modules and names that Python's documentation does not list for Windows are missing. Below
WINDOWS_ROOT no file that this process has open is removed, moved or replaced, by anybody. A text
file without a named encoding is an error, as is what Python deprecates.
"""

import builtins
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from types import ModuleType
from typing import Any

MISSING_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "select", "termios"}
MISSING_NAMES = {
    "os": {
        *("fork", "forkpty", "killpg", "getpgid", "getpgrp", "setpgid", "setpgrp", "setsid"),
        *("getsid", "getuid", "geteuid", "getgid", "posix_spawn", "posix_spawnp", "wait", "wait3"),
        *("wait4", "waitid", "WNOHANG", "WUNTRACED", "posix_fallocate", "pread", "pwrite"),
        *("preadv", "pwritev", "mkfifo", "mknod", "sched_getaffinity", "sched_setaffinity"),
        *("getloadavg", "chown", "fchown", "lchown", "fchdir", "nice", "uname", "sync"),
        *("fdatasync", "statvfs", "fstatvfs", "sysconf", "pipe2", "sendfile", "memfd_create"),
        *("O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC", "O_SYNC", "O_DSYNC"),
    },
    "signal": {
        *("SIGKILL", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGSTOP", "SIGCONT"),
        *("SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGXFSZ", "SIGBUS", "SIGSYS", "SIGTRAP", "SIG_BLOCK"),
        *("SIG_UNBLOCK", "SIG_SETMASK", "pthread_sigmask", "pthread_kill", "pause", "alarm"),
        *("setitimer", "getitimer", "sigwait", "sigpending", "siginterrupt", "valid_signals"),
    },
}
IN_USE = "is being used by another process"
#: the real ones, which are replaced below
RENAME, REPLACE, REMOVE, OPEN, IMPORT = os.rename, os.replace, os.remove, os.open, __import__


class Seen(ModuleType):
    """A module without some of its names, and with others in their place."""

    def __init__(self, real: ModuleType, **others: Any) -> None:
        vars(self).update(others, real=real, missing=MISSING_NAMES.get(real.__name__, set()))

    def __getattr__(self, name: str) -> Any:
        if name in vars(self)["missing"]:
            raise AttributeError(f"module {self.real.__name__!r} has no attribute {name!r} here")
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """Without what belongs to fork, and with the one signal there is."""

    def __init__(self, *args: Any, **how: Any) -> None:
        if how.get("preexec_fn") or how.get("pass_fds"):
            raise ValueError("preexec_fn and pass_fds are not supported")
        super().__init__(*args, **how)

    def send_signal(self, number: int) -> None:
        if number not in (signal.SIGTERM, signal.SIGKILL):  # which terminate and kill send
            raise ValueError(f"unsupported signal: {number}")
        super().send_signal(signal.SIGKILL)


def run(*args: Any, **how: Any) -> Any:
    real, subprocess.Popen = subprocess.Popen, Popen
    try:
        return RUN(*args, **how)
    finally:
        subprocess.Popen = real


RUN = subprocess.run


class CDLL(ctypes.CDLL):
    def __init__(self, name: Any, *args: Any, **how: Any) -> None:
        if name is None:
            raise TypeError("bad argument type for built-in operation")
        super().__init__(name, *args, **how)


def get_context(method: str | None = None) -> Any:
    if method not in (None, "spawn"):
        raise ValueError(f"cannot find context for {method!r}")
    return multiprocessing.get_context("spawn")


def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """Open a file, but no folder."""
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return OPEN(path, flags, mode, dir_fd=dir_fd)


SEEN = {
    "os": Seen(os, name="nt", open=opened),
    "signal": Seen(signal),
    "sys": Seen(sys, platform="win32"),
    "subprocess": Seen(subprocess, Popen=Popen, run=run, CREATE_NEW_PROCESS_GROUP=0),
    "ctypes": Seen(ctypes, CDLL=CDLL),
    "multiprocessing": Seen(
        multiprocessing, get_all_start_methods=lambda: ["spawn"], get_context=get_context
    ),
}


def importing(
    name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
) -> Any:
    asking = str((globals or {}).get("__name__", ""))
    spec = (globals or {}).get("__spec__")
    if asking == "__main__" and spec is not None:  # python -m
        asking = spec.name
    if asking.split(".")[0] == "refsnn" and level == 0:
        if name in MISSING_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in SEEN:
            return SEEN[name]
    return IMPORT(name, globals, locals, fromlist, level)


def place(path: Any, folder: Any = None) -> str:
    """The path where it is below WINDOWS_ROOT; "" elsewhere."""
    if isinstance(path, int):
        return ""
    path = os.fsdecode(path)
    if folder is not None:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    path = os.path.abspath(path)
    return path if path.startswith(os.environ["WINDOWS_ROOT"] + os.sep) else ""


def require_unused(path: str) -> None:
    """PermissionError where this process has the file, or one in the folder, open or mapped."""
    used = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            used.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # that of the list
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        used |= {line.split(maxsplit=5)[-1].rstrip("\n") for line in file}
    for name in used:
        if name == path or (name.startswith(f"{path}/") and os.path.isfile(name)):
            raise PermissionError(13, IN_USE, path)


def remove(path: Any, *, dir_fd: int | None = None) -> None:
    if found := place(path, dir_fd):
        require_unused(found)
    REMOVE(path, dir_fd=dir_fd)


def rename(source: Any, target: Any, **how: Any) -> None:
    if found := place(source):
        require_unused(found)
    if place(target) and os.path.lexists(target):
        raise FileExistsError(17, "File exists", str(target))
    RENAME(source, target, **how)


def replace(source: Any, target: Any, **how: Any) -> None:
    for path in filter(None, (place(source), place(target))):
        require_unused(path)
    if place(target) and os.path.isdir(target):
        raise PermissionError(13, "Permission denied", str(target))
    REPLACE(source, target, **how)


os.remove = os.unlink = remove
os.rename, os.replace = rename, replace
builtins.__import__ = importing
warnings.simplefilter("ignore", EncodingWarning)  # of other packages
for category in (DeprecationWarning, PendingDeprecationWarning, EncodingWarning):
    warnings.filterwarnings("error", category=category, module=r"refsnn\b")
