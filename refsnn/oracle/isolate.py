"""An adapter in a process of its own: started, asked case by case, and what it died of.

Nothing that comes back is executed or trusted: a line of JSON and arrays of numbers, of sizes
that are checked before they are read.
"""

import contextlib
import itertools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from refsnn.files.arrays import read_whole
from refsnn.oracle import supervisor, worker
from refsnn.oracle.limits import HEADER_ROOM, ROOM, most_bytes, signal_name

START_SECONDS = 60  # imports take their time
MEMORY = 4 * 2**30  # bytes of data
LINE_LIMIT = 2**16
PRINTED_LIMIT = 2**16


class Answer(NamedTuple):
    """What came of one case."""

    status: str  # done | unsupported | raised | garbage | hung | died
    message: str
    arrays: dict[str, np.ndarray]
    printed: str


class Ended(Exception):
    """The process gave no answer: `status` is hung, died or garbage."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class Isolated:
    """Runs cases through the adapter MODULE:OBJECT, or through a program; a context manager.

    The process is started when it is needed, and a fresh one after every case that went wrong; all
    that it started ends with it, as far as `supervisor` says. Files go through a folder of their
    own, new for each case, so that no file is in the way that the adapter put there.
    `timeout` in seconds a case, `memory` in bytes.
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

    def __enter__(self) -> "Isolated":
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop(polite=error[0] is None)
        self.printed.close()
        self.folder.cleanup()

    def fresh_file(self) -> IO[bytes]:
        """Make a file for what is printed: without a name, nothing can be put in its place."""
        handle, path = tempfile.mkstemp(dir=self.folder.name)
        os.close(handle)
        file = open(path, "a+b")  # noqa: SIM115 - as long as the process is asked
        os.unlink(path)
        return file

    def start(self) -> dict[str, Any]:
        """A fresh process. What its adapter declares; ValueError where it can't be made."""
        self.stop()
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
            start_new_session=True,
        )
        try:
            ready = self.answer(max(START_SECONDS, self.timeout))
        except Ended as end:
            self.stop()
            raise ValueError(f"adapter: {end}") from None
        if ready["status"] != "ready":
            self.stop()
            raise ValueError(f"adapter: {ready['message']}")
        return ready

    def run(self, case: Any) -> Answer:
        if self.process is None or self.process.poll() is not None:
            try:
                self.start()
            except ValueError as error:
                return Answer("died", f"no fresh process: {error}", {}, self.text(0))
        before = self.size()
        status, message, arrays = self.ask(case)
        printed = self.text(before)
        if status not in ("done", "unsupported"):
            self.stop()
        return Answer(status, message, arrays, printed)

    def ask(self, case: Any) -> tuple[str, str, dict[str, np.ndarray]]:
        assert self.process is not None
        assert self.process.stdin is not None
        folder = Path(tempfile.mkdtemp(prefix="case-", dir=self.folder.name))
        try:
            worker.write_case(folder / worker.CASE, case)
            with contextlib.suppress(BrokenPipeError):  # answer() says what it died of
                self.process.stdin.write(f"{folder.name}\n".encode())
                self.process.stdin.flush()
            answer = self.answer(self.timeout)
            arrays = {}
            if answer["status"] == "done":
                arrays = read_answer(folder / worker.ANSWER, case)
        except Ended as end:
            return end.status, str(end), {}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return str(answer["status"]), str(answer["message"]), arrays

    def answer(self, seconds: float) -> dict[str, Any]:
        """The process's next line; Ended where none comes within the time."""
        assert self.process is not None
        assert self.process.stdout is not None
        before = self.size()
        pipe, line, deadline = self.process.stdout.fileno(), b"", time.monotonic() + seconds
        while not line.endswith(b"\n") and len(line) < LINE_LIMIT:
            left = deadline - time.monotonic()
            if left <= 0:
                self.process.send_signal(signal.SIGABRT)  # prints where it hangs
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(1)
                raise Ended("hung", f"no answer within {seconds:g} s{self.place(before)}")
            ended = self.process.poll() is not None  # before looking: its last words count
            ready, _, _ = select.select([pipe], [], [], 0 if ended else min(left, 0.1))
            part = os.read(pipe, LINE_LIMIT) if ready else b""
            if not part and (ended or ready):
                raise Ended("died", self.epitaph() + self.place(before))
            line += part
        try:
            answer = json.loads(line)
            if answer["status"] not in worker.STATUSES or not isinstance(answer["message"], str):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            raise Ended("garbage", f"wrote {line[:40]!r} where answers go") from None
        return dict(answer)

    def epitaph(self) -> str:
        assert self.process is not None
        try:
            code = self.process.wait(1)
        except subprocess.TimeoutExpired:
            return "closed the pipe of its answers"
        if code >= 0:
            return f"exit code {code} while it ran"
        note = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"killed by {signal_name(-code)}{note}"

    def place(self, start: int) -> str:
        """Where in the adapter Python was when a signal ended it, if it could still print that."""
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
        """What was printed since the file had `start` bytes; of much, the last part."""
        first = max(start, self.size() - PRINTED_LIMIT)
        return os.pread(self.printed.fileno(), PRINTED_LIMIT, first).decode(errors="replace")

    def stop(self, polite: bool = False) -> None:
        """End the process and whatever it started, politely: with a moment to clean up."""
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if polite:
            select.select([process.stdout], [], [], worker.GRACE)  # its end closes it
        process.terminate()
        try:
            process.wait(supervisor.PATIENCE + 1)
        except subprocess.TimeoutExpired:  # it was stopped; the worker ends by itself
            process.kill()
            process.wait()
        process.stdout.close()
        for folder in Path(self.folder.name).glob("*/"):  # of a program that was killed
            shutil.rmtree(folder, ignore_errors=True)


def read_answer(path: Path, case: Any) -> dict[str, np.ndarray]:
    """The arrays that the process wrote; Ended("garbage") for anything else."""
    most = ROOM + sum(most_bytes(a.shape) + HEADER_ROOM for a in case.outputs.values())
    try:
        size = path.stat().st_size
        if size > most:
            raise ValueError(f"got {size} bytes, want at most {most}")
        return read_whole(path)
    except (ValueError, OSError) as error:
        raise Ended("garbage", f"its answer can't be read: {error}") from None
