"""Running an adapter in a separate process, case by case, and reporting how it ended.

Nothing that comes back is executed or trusted: it is a line of JSON and arrays of numbers, whose
sizes are checked before they are read.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from refsnn import system
from refsnn.files.arrays import read_whole
from refsnn.oracle import worker
from refsnn.oracle.limits import HEADER_ROOM, ROOM, most_bytes, signal_name
from refsnn.oracle.pipe import Pipe
from refsnn.oracle.texts import alike

START_SECONDS = 60  # at least, as imports take time
MEMORY = 4 * 2**30  # bytes of data
LINE_LIMIT = 2**16
PRINTED_LIMIT = 2**16
LAST_WORDS = 1.0  # seconds to wait for the last output of a process that has ended


class Answer(NamedTuple):
    """The answer to one case."""

    status: str  # done | unsupported | raised | garbage | hung | died
    message: str
    arrays: dict[str, np.ndarray]
    printed: str


class Ended(Exception):
    """The process gave no answer; `status` is hung, died or garbage."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class Isolated:
    """Run cases through the adapter MODULE:OBJECT, or through a program; a context manager.

    The process is started when it is first needed, and again after every case that went wrong; but
    after an error that was raised before it goes on. An error may leave anything behind, so that
    the next case, unless it raises that error too, is run again by a fresh process.
    Whatever it started ends with it, as far as `supervisor` can find it. Files go through a new
    folder for each case, so that no file of the adapter's is in the way. `timeout` is in seconds
    per case, `memory` in bytes; Windows has no memory limit.
    """

    def __init__(
        self,
        target: str = "",
        program: list[str] | None = None,
        *,
        timeout: float = 60,
        memory: int = MEMORY,
    ) -> None:
        self.spec = {"target": target, "program": program, "memory": memory}
        self.timeout = timeout
        self.process: subprocess.Popen[bytes] | None = None
        self.folder = tempfile.TemporaryDirectory(prefix="refsnn-", ignore_cleanup_errors=True)
        self.printed = self.fresh_file()
        self.raised: set[str] = set()  # messages of wrong answers, as `alike` makes them
        self.is_whole = True  # whether the process itself gave the last answer
        self.after = ""  # the one of them after which the process went on

    def __enter__(self) -> "Isolated":
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop(polite=error[0] is None)
        self.printed.close()
        self.folder.cleanup()

    def fresh_file(self) -> IO[bytes]:
        """Make a file for what the process prints.

        It has no name, so that nothing can be put in its place; on Windows an open file keeps its
        name.
        """
        handle, path = tempfile.mkstemp(dir=self.folder.name)
        os.close(handle)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 - as long as the process is asked
        with contextlib.suppress(PermissionError):
            os.unlink(path)
        return file

    def start(self) -> dict[str, Any]:
        """Start a new process and return what its adapter declares.

        ValueError if the adapter cannot be made.
        """
        self.stop()
        self.after = ""
        self.printed.close()
        self.printed = self.fresh_file()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "refsnn.oracle.supervisor",
                sys.executable,
                "-u",
                "-m",
                "refsnn.oracle.worker",
                self.folder.name,
                json.dumps(self.spec),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.printed,
            **system.APART,
        )
        assert self.process.stdout is not None
        self.pipe = Pipe(self.process.stdout)
        try:
            ready = self.answer(max(START_SECONDS, self.timeout))
        except Ended as end:
            self.stop()
            raise ValueError(f"adapter: {end}") from None
        if ready["status"] != "ready":
            self.stop()
            raise ValueError(f"adapter: {ready['message']}")
        return ready

    def renew(self, process: bool = True) -> bool:
        """Let the next case start a fresh process, or only a new object; return True."""
        if process or self.process is None or self.process.stdin is None:
            self.stop()
            return True
        try:
            self.process.stdin.write(f"{worker.RENEW}\n".encode())
            self.process.stdin.flush()
            self.answer(max(START_SECONDS, self.timeout))
        except (OSError, Ended):
            self.stop()
        return True

    def run(self, case: Any) -> Answer:
        """Run a case and return the answer."""
        after = self.after
        answer = self.try_once(case)
        if after and alike(answer.message) != after:
            self.stop()
            answer = self.try_once(case)
        return answer

    def try_once(self, case: Any) -> Answer:
        """Run a case in the process as it is; end it where it must not go on."""
        if self.process is None or self.process.poll() is not None:
            try:
                self.start()
            except ValueError as error:
                return Answer("died", f"no fresh process: {error}", {}, self.text(0))
        before = self.size()
        status, message, arrays = self.ask(case)
        printed = self.text(before)
        again = self.is_whole and alike(message) in self.raised
        if self.is_whole and status in ("raised", "garbage"):
            self.raised.add(alike(message))
        if status not in ("done", "unsupported") and not again:
            self.stop()
        self.after = alike(message) if again else ""
        return Answer(status, message, arrays, printed)

    def ask(self, case: Any) -> tuple[str, str, dict[str, np.ndarray]]:
        """Send a case to the process; return the answer's status, message and arrays."""
        assert self.process is not None
        assert self.process.stdin is not None
        folder = Path(tempfile.mkdtemp(prefix="case-", dir=self.folder.name))
        self.is_whole = True
        try:
            worker.write_case(folder / worker.CASE, case)
            with contextlib.suppress(OSError):  # a broken pipe: answer() says how the process ended
                self.process.stdin.write(f"{folder.name}\n".encode())
                self.process.stdin.flush()
            answer = self.answer(self.timeout)
            arrays = {}
            if answer["status"] == "done":
                arrays = read_answer(folder / worker.ANSWER, case)
        except Ended as end:
            self.is_whole = False
            return end.status, str(end), {}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return str(answer["status"]), str(answer["message"]), arrays

    def answer(self, seconds: float) -> dict[str, Any]:
        """Return the process's next line as JSON.

        Ended if the time is up, the process ends, or the line is not an answer.
        """
        assert self.process is not None
        before = self.size()
        line, deadline = b"", time.monotonic() + seconds
        while not line.endswith(b"\n") and len(line) < LINE_LIMIT:
            left = deadline - time.monotonic()
            if left <= 0:
                self.show_place()
                raise Ended("hung", f"no answer within {seconds:g} s{self.place(before)}")
            ended = (
                self.process.poll() is not None
            )  # looked up first, so that its last output counts
            part = self.pipe.read(LAST_WORDS if ended else min(left, 0.1))
            if part == b"" or (ended and part is None):
                raise Ended("died", self.epitaph() + self.place(before))
            line += part or b""
        try:
            answer = json.loads(line)
            if answer["status"] not in worker.STATUSES or not isinstance(answer["message"], str):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            raise Ended("garbage", f"wrote {line[:40]!r} where answers go") from None
        return dict(answer)

    def show_place(self) -> None:
        """Let the process print where it hangs, and end it.

        Windows has no signal for that.
        """
        assert self.process is not None
        if system.GROUPS:
            self.process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)

    def epitaph(self) -> str:
        """Describe how the process ended."""
        assert self.process is not None
        try:
            code = self.process.wait(1)
        except subprocess.TimeoutExpired:
            return "closed the pipe of its answers"
        if code >= 0:
            return f"exit code {code} while it ran"
        name = signal_name(-code)
        return f"killed by {name}" + ", perhaps out of memory" * (name == "SIGKILL")

    def place(self, start: int) -> str:
        """Return the adapter's line that ran when a signal ended the process.

        "" if Python could not print it.
        """
        found = re.search(r"Current thread .*:\n((?:  File .*\n)+)", self.text(start))
        if self.spec["program"] or found is None:
            return ""
        frames = re.findall(r'  File "(.+)", line (\d+) in (\S+)', found[1])
        own = list(itertools.takewhile(lambda f: f[0] != worker.__file__, frames))
        if not own:
            return ""
        name, line, function = next(f for f in own if f[0] == own[-1][0])
        return f" ({Path(name).name}:{line}, in {function})"

    def size(self) -> int:
        return os.fstat(self.printed.fileno()).st_size

    def text(self, start: int) -> str:
        """Return what was printed after the first `start` bytes, but no more than the limit."""
        self.printed.seek(max(start, self.size() - PRINTED_LIMIT))
        content = self.printed.read(PRINTED_LIMIT)
        self.printed.seek(0, os.SEEK_END)  # where the process, too, goes on to write on Windows
        return content.decode(errors="replace")

    def stop(self, polite: bool = False) -> None:
        """End the process and whatever it started.

        With `polite`, it first has a moment to clean up.
        """
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        if polite:
            self.pipe.read(worker.GRACE)  # its end closes it
        if system.GROUPS:
            process.terminate()
        else:
            system.kill_group(process.pid)
        try:
            process.wait(system.PATIENCE + 1)
        except subprocess.TimeoutExpired:  # it was stopped; the worker ends by itself
            process.kill()
            process.wait()
        self.pipe.drain(LAST_WORDS)
        for folder in Path(self.folder.name).glob("*/"):  # of a program that was killed
            shutil.rmtree(folder, ignore_errors=True)


def read_answer(path: Path, case: Any) -> dict[str, np.ndarray]:
    """Return the arrays that the process wrote; Ended("garbage") if they cannot be read."""
    most = ROOM + sum(most_bytes(a.shape) + HEADER_ROOM for a in case.outputs.values())
    try:
        size = path.stat().st_size
        if size > most:
            raise ValueError(f"got {size} bytes, want at most {most}")
        return read_whole(path)
    except (ValueError, OSError) as error:
        raise Ended("garbage", f"its answer can't be read: {error}") from None
