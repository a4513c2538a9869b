"""Settings of a command's whole process: memory, threads, standard streams and signals.

A library must leave these to the program that uses it, so nothing here runs on import.
"""

import ctypes
import errno
import io
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from threadpoolctl import threadpool_limits

from refsnn import system
from refsnn.files.writing import naming_path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # from glibc's malloc.h
MOST = 2**31 - 1
LARGE = 32 << 20  # bytes; the most that glibc takes for M_MMAP_THRESHOLD
STREAMS = ("standard input", "standard output", "standard error")  # by their descriptors


def keep_freed_memory(large: bool = True) -> bool:
    """Keep freed memory for the next training step; return whether the C library can (glibc).

    The system zeroes new pages when they are first touched, which costs as much as a kernel's pass
    over them. A step that frees its arrays and allocates the same again would pay this every time.
    Without `large`, arrays of 32 MiB and more are given back to the system as usual, which costs
    that time, but avoids fragmentation: holes between arrays that live longer.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = {M_TRIM_THRESHOLD: MOST, M_MMAP_MAX: 0 if large else MOST}
    if not large:
        settings[M_MMAP_THRESHOLD] = LARGE
    return all(mallopt(name, value) for name, value in settings.items())


def limit_threads(threads: int | None) -> None:
    """Limit the threads of the kernels and of BLAS; None leaves them to the environment."""
    if threads is None:
        return
    from refsnn.kernels.threads import set_num_threads

    set_num_threads(threads)
    threadpool_limits(threads)


class Output(io.FileIO):
    """Standard output, whose errors have its name, or standard error, whose errors are ignored.

    A full disk behind standard error must not end the command that reports there.
    """

    def write(self, content: Any) -> Any:
        number = self.fileno()
        try:
            with naming_path(Path(STREAMS[number])):
                return super().write(content)
        except OSError as error:
            if system.WINDOWS and error.errno == errno.EINVAL:  # what Windows calls a broken pipe
                raise BrokenPipeError(errno.EPIPE, "Broken pipe", STREAMS[number]) from None
            if number == 1 or isinstance(error, BrokenPipeError):
                raise
            return len(content)


def open_streams() -> None:
    """Open closed standard streams on the null device, and make printing safe in any encoding.

    A character that the output's encoding lacks is written as its escape, such as `\\u03bb`.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next file opened would get this descriptor, and be printed into
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = output(1, sys.stdout), output(2, sys.stderr)


def output(number: int, stream: Any) -> Any:
    """Return a text stream for a descriptor, with the settings of the existing `stream`, if any."""
    if not isinstance(stream, io.TextIOWrapper | None):
        return stream
    errors = getattr(stream, "errors", "strict")
    errors = "backslashreplace" if errors in ("strict", "surrogateescape") else errors
    if stream is not None and not isinstance(
        getattr(stream.buffer, "raw", stream.buffer), io.FileIO
    ):
        stream.reconfigure(errors=errors)  # the Windows console writes in its own way
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(Output(number, "w", closefd=False)),
        encoding=getattr(stream, "encoding", None),
        errors=errors,
        # python -u sets write_through
        line_buffering=number == 2
        or stream is None
        or stream.line_buffering
        or stream.write_through,
    )


def flush_streams(code: int) -> int:
    """Flush standard output; return `code`, or 2 where it can't be written.

    A pipe whose reader has gone away is not an error.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python would try again when it exits
        if isinstance(error, BrokenPipeError):
            return code
        print(f"refsnn: error: {error.strerror}: {error.filename}", file=sys.stderr)
        return 2
    return code


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; the only argument is the signal's number."""


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interrupt that an error is or that caused it, or None.

    Numba's compiler, for one, raises another error when it is interrupted.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a process that a signal stopped."""
    return 128 + int(stop.args[0] if stop.args else signal.SIGINT)


def raise_when_stopped() -> None:
    """Let Ctrl-C and SIGTERM raise `Stopped` from now on, so that `finally` blocks clean up."""

    def stop(number: int, frame: Any) -> NoReturn:
        raise Stopped(number)

    def unraisable(found: Any) -> None:
        if not isinstance(found.exc_value, KeyboardInterrupt):
            return sys.__unraisablehook__(found)
        # it was raised where Python ignores errors, such as a finaliser: raise it again soon
        number = exit_code(found.exc_value) - 128
        return threading.Timer(0.01, signal.raise_signal, (number,)).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    sys.unraisablehook = unraisable


class Signals:
    """A context in which Ctrl-C and SIGTERM are only noted in `caught`.

    A second Ctrl-C acts as it did before the context.
    """

    def __init__(self) -> None:
        self.caught: int | None = None

    def __enter__(self) -> "Signals":
        self.before = {s: signal.signal(s, self.note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def note(self, number: int, frame: Any) -> None:
        self.caught = number
        signal.signal(signal.SIGINT, self.before[signal.SIGINT] or signal.SIG_DFL)

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
