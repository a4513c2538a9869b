"""What a command sets for its whole process: how memory is kept, how many threads compute, what
signals do.

A library must leave them to the program that it is part of, so nothing here runs by itself.
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

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
MOST = 2**31 - 1
STREAMS = ("standard input", "standard output", "standard error")  # by their descriptors


def keep_freed_memory() -> bool:
    """Keep what is freed for the next step, where the C library is glibc; was it done?

    Pages fresh from the system are zeroed when they are first touched, which costs as much as a
    kernel's pass over them: a step that gives its arrays back and asks for the same again would
    pay that every time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, MOST) and mallopt(M_MMAP_MAX, 0))


def limit_threads(threads: int | None) -> None:
    """At most so many threads in Numba's kernels and in BLAS; None: as the environment says."""
    if threads is None:
        return
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= threads <= most:
        raise ValueError(
            f"threads: got {threads}, want 1 to {most} (the cores, or NUMBA_NUM_THREADS)"
        )
    numba.set_num_threads(threads)
    threadpool_limits(threads)


class Output(io.FileIO):
    """Standard output, whose errors have its name, or standard error, which is best effort: that
    its disk is full must not end what it tells of."""

    def write(self, content: Any) -> Any:
        number = self.fileno()
        try:
            with naming_path(Path(STREAMS[number])):
                return super().write(content)
        except OSError as error:
            if system.WINDOWS and error.errno == errno.EINVAL:  # its name of a broken pipe
                raise BrokenPipeError(errno.EPIPE, "Broken pipe", STREAMS[number]) from None
            if number == 1 or isinstance(error, BrokenPipeError):
                raise
            return len(content)


def open_streams() -> None:
    """Make standard streams that are closed the null device, and let output be written whatever
    its encoding: a character that this lacks is written as its escape, `\\u03bb`."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the next file that is opened would get its number, and be printed into
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = output(1, sys.stdout), output(2, sys.stderr)


def output(number: int, stream: Any) -> Any:
    """Make the text stream of a descriptor, in the manner of the one that was there, if any."""
    if not isinstance(stream, io.TextIOWrapper | None):
        return stream
    errors = getattr(stream, "errors", "strict")
    errors = "backslashreplace" if errors in ("strict", "surrogateescape") else errors
    if stream is not None and not isinstance(
        getattr(stream.buffer, "raw", stream.buffer), io.FileIO
    ):
        stream.reconfigure(errors=errors)  # the console of Windows has a way of its own
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(Output(number, "w", closefd=False)),
        encoding=getattr(stream, "encoding", None),
        errors=errors,
        # python -u asks for both of its own
        line_buffering=number == 2
        or stream is None
        or stream.line_buffering
        or stream.write_through,
    )


def flush_streams(code: int) -> int:
    """Write what is still to be written; returns the exit code, 2 where that can't be.

    A pipe whose reader went away is none's loss.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try again at its end
        if isinstance(error, BrokenPipeError):
            return code
        print(f"refsnn: error: {error.strerror}: {error.filename}", file=sys.stderr)
        return 2
    return code


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; its one argument is the number."""


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Find the interrupt that an error is, or that it came of: Numba's compiler, for one, raises
    another in its place."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def exit_code(stop: KeyboardInterrupt) -> int:
    """Tell the exit code of a process that a signal stopped."""
    return 128 + int(stop.args[0] if stop.args else signal.SIGINT)


def raise_when_stopped() -> None:
    """Let Ctrl-C and SIGTERM raise `Stopped` from now on, so that what was begun is put away."""

    def stop(number: int, frame: Any) -> NoReturn:
        raise Stopped(number)

    def unraisable(found: Any) -> None:
        if not isinstance(found.exc_value, KeyboardInterrupt):
            return sys.__unraisablehook__(found)
        # raised where nothing can be raised, such as a finaliser: again, a moment later
        number = exit_code(found.exc_value) - 128
        return threading.Timer(0.01, signal.raise_signal, (number,)).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    sys.unraisablehook = unraisable


class Signals:
    """Ctrl-C and SIGTERM ask once; a second Ctrl-C stops at once."""

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
