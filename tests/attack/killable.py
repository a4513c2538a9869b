"""Run commands of refsnn that may be killed, each in a process group of its own.

As a program it has everything imported and forks for each command (a line of JSON) that it is
asked for, which takes a tenth of the time.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS = 120.0  # that a command may take
SITE = "import kill_hook\nkill_hook.install()\n"


class Ended(NamedTuple):
    code: int  # negative: the signal
    errors: str
    steps: list[list[str]]  # event and paths


def train(*arguments: str) -> int:
    """`refsnn train` with a checkpoint after each batch."""
    from refsnn.training import trainer

    trainer.CHECKPOINT_SECONDS = -1.0
    return refsnn("train", *arguments)


def refsnn(*arguments: str) -> int:
    from refsnn.cli import main

    return main(list(arguments))


def frames(folder: str) -> int:
    """The frames of made-up recordings, by way of the cache."""
    from refsnn.data import load
    from refsnn.data.load import Options

    load("nmnist", Options(data_dir=folder, steps=2, image_size=8))
    return 0


def plain_write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


COMMANDS = {"train": train, "refsnn": refsnn, "frames": frames}


class Killer:
    """The program beside it, as a context."""

    def __init__(self, site: Path) -> None:
        (site / "sitecustomize.py").write_text(SITE)
        self.paths = os.pathsep.join(
            [str(site), str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")]
        )

    def __enter__(self) -> "Killer":
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)]),
            "OPENBLAS_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *error: Any) -> None:
        self.process.communicate()

    def run(
        self,
        command: list[str],
        folder: Path,
        log: Path,
        at: int = 0,
        half: bool = False,
        plain: bool = False,
    ) -> Ended:
        """Run in a folder, whose changes are the steps; dead before the one of number `at`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        environment = {
            "PYTHONPATH": self.paths,
            "KILL_ROOT": str(folder),
            "KILL_LOG": str(log),
            "KILL_AT": str(at),
            "KILL_HALF": str(int(half)),
            "REFSNN_CACHE": str(folder / "cache"),
            "TMPDIR": str(folder / "tmp"),
            "HOME": str(folder),
            "MPLCONFIGDIR": str(log.parent / "matplotlib"),
        }
        errors = log.with_suffix(".errors")
        asked = [command, str(folder), environment, str(errors), plain]
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        log.with_name(f"{log.name}.count").unlink(missing_ok=True)
        return Ended(code, errors.read_text(), [json.loads(line) for line in lines])


def serve() -> list[str]:
    """Fork for each line of the standard input; the forked process returns with its command."""
    for line in sys.stdin:
        command, folder, environment, errors, plain = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setsid()
            os.environ.update(environment)
            os.chdir(folder)
            for number, path, flags in (
                (0, os.devnull, os.O_RDONLY),
                (1, os.devnull, os.O_WRONLY),
                (2, errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            ):
                os.dup2(os.open(path, flags), number)
            if plain:
                from refsnn.files import writing

                writing.write_atomic.__code__ = plain_write.__code__
            return command
        print(waited(child), flush=True)
    return []


def waited(child: int) -> int:
    """The exit code of the child, when nothing is left of its group."""
    end, status = time.monotonic() + SECONDS, 0
    while True:
        try:
            found, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:  # all are gone, the children's own too
            return os.waitstatus_to_exitcode(status)
        status = code if found == child else status
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        if not found:
            time.sleep(0.005)


def adopt() -> None:
    """Take over the children of those that die, so that they can be waited for."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def main() -> int:
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.pyplot  # noqa: F401
    import numba  # noqa: F401

    import refsnn.cli
    import refsnn.data.load
    import refsnn.experiments.table
    import refsnn.oracle.vectors_command
    import refsnn.training.plot  # noqa: F401

    adopt()
    command = serve()
    if not command:
        return 0
    import kill_hook

    kill_hook.install()
    return COMMANDS[command[0]](*command[1:])


if __name__ == "__main__":
    sys.exit(main())
