"""Worker processes that run the measured steps, and the reason why one ended."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from refsnn.bench.workload import Spec

THREAD_VARIABLES = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)


def environment(threads: int | None) -> dict[str, str]:
    """Return this process's environment, with the number of threads if one is given."""
    sizes = {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
    return os.environ | sizes


class Worker:
    """Run `refsnn.bench.worker` in a process, and end it on leaving the context."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe would fill up
        self.process = subprocess.Popen(
            [sys.executable, "-m", "refsnn.bench.worker", spec.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
            env=environment(spec.threads),
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self.process.kill()
        self.process.communicate()  # closes its input, at whose end it ends
        self.errors.close()

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer; ValueError where the worker died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            raise ValueError(self.why_ended())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, question: str) -> dict[str, Any]:
        """Send a line and return the answer to it."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        except OSError:  # the pipe is broken, which Windows calls an invalid argument
            raise ValueError(self.why_ended()) from None
        return self.answer()

    def why_ended(self) -> str:
        """Return a message with the worker that ended, its task, and its last line of output."""
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        end = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        spec = self.spec
        task = spec.phase if spec.task == "steps" else spec.task
        who = "peaks" if task == "peaks" else f"{spec.library}, {spec.arch}, {task}"
        last = lines[-1] if lines and code > 0 else end
        if last.startswith("ValueError: "):  # the worker refused a setting
            return last.removeprefix("ValueError: ")
        return f"bench: a worker ended ({who}): {last}"


def single(spec: Spec) -> dict[str, Any]:
    """Return the answer of a worker that has a single task."""
    with Worker(spec) as worker:
        return worker.answer()
