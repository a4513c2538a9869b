"""The adapter of programs in any language, which read a folder of files and write another.

`PROGRAM IN OUT` is called once for each run of a case. IN holds `case.txt` and an `.npy` file for
each input: little-endian, C order, float64 (labels int64). Each line of `case.txt` is a key, a
space and a value:

    id neuron/tie
    level neuron
    repeat 1
    convention.tau 0.5
    convention.fire_at_threshold false
    setting.stride 1
    input.c 4 6
    output.u_pre 4 6

A value extends to the end of the line: a number, a word, `true`, `false`, or a list separated by
spaces. The value of an input or output is its shape, which is empty for a scalar.

The program writes `NAME.npy` into OUT for each output (dots stay in names) and exits with 0. Exit
code 3 means that it cannot compute the case; the first line on standard error says why. Any other
exit code is a failure.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.files import npy
from refsnn.files.reading import read_bytes
from refsnn.files.writing import naming_path
from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.limits import HEADER_ROOM, most_bytes, signal_name

UNSUPPORTED = 3


class ProgramFailed(Exception):
    """The program exited with an error, or wrote files that cannot be read."""


class Program:
    """Run a command, given as a list of words, for each case.

    Its folders are made in `folder` (default: the system's folder for temporary files). It runs in
    this process's group and without a time limit: `refsnn conform` ends both, and removes the
    folder.
    """

    def __init__(self, command: Sequence[str], folder: Path | None = None) -> None:
        if isinstance(command, str) or not command:
            raise ValueError(f"program: got {command!r}, want a list of words")
        if shutil.which(command[0]) is None:
            raise ValueError(f"program: got {command[0]!r}, want a program that can be executed")
        self.command, self.folder = list(command), folder
        self.name = " ".join(command)

    def run(self, case: Any) -> dict[str, np.ndarray]:
        """Return the case's outputs by name; ProgramFailed where the program fails."""
        with tempfile.TemporaryDirectory(prefix="refsnn-case-", dir=self.folder) as folder:
            given, made = Path(folder, "in"), Path(folder, "out")
            given.mkdir()
            made.mkdir()
            with naming_path(given):
                write_case(given, case)
            self.call(given, made)
            return read_outputs(made, case)

    def call(self, given: Path, made: Path) -> None:
        """Call the program once, and pass its standard error on."""
        with tempfile.TemporaryFile() as errors:
            code = subprocess.run(
                [*self.command, str(given), str(made)],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                check=False,
            ).returncode
            errors.seek(0)
            text = errors.read(2**16).decode(errors="replace")
        sys.stderr.write(text)
        lines = text.strip().splitlines() or ["nothing on standard error"]
        if code == UNSUPPORTED:
            raise Unsupported(lines[0])
        if code:
            end = f"exit code {code}" if code > 0 else f"killed by {signal_name(-code)}"
            raise ProgramFailed(f"{end}: {lines[0]}")


def write_case(folder: Path, case: Any) -> None:
    """Write case.txt and an .npy file for each input."""
    lines = [("id", case.id), ("level", case.level), ("repeat", case.repeat)]
    lines += [(f"convention.{name}", value) for name, value in case.conventions.items()]
    lines += [(f"setting.{name}", value) for name, value in case.settings.items()]
    lines += [(f"input.{name}", array.shape) for name, array in case.inputs.items()]
    lines += [(f"output.{name}", array.shape) for name, array in case.outputs.items()]
    (folder / "case.txt").write_text(
        "".join(f"{key} {word(value)}\n" for key, value in lines), encoding="utf-8"
    )
    for name, array in case.inputs.items():
        whole = np.issubdtype(array.dtype, np.integer)
        (folder / f"{name}.npy").write_bytes(npy.dump(array.astype("<i8" if whole else "<f8")))


def word(value: Any) -> str:
    """Return a value as written in case.txt."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return " ".join(map(word, value))
    return json.dumps(
        value
    )  # true, false; the shortest digits from which the number can be read back


def read_outputs(folder: Path, case: Any) -> dict[str, np.ndarray]:
    """Return the arrays that the program wrote, by name; other files are not read."""
    found = {}
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(".npy")
        if name not in case.outputs:
            found[name] = np.empty(0)
            continue
        most = most_bytes(case.outputs[name].shape) + HEADER_ROOM
        if not path.is_file():
            raise ProgramFailed(f"{path.name}: got something other than a file")
        size = path.stat().st_size
        if size > most:
            raise ProgramFailed(f"{path.name}: got {size} bytes, want at most {most}")
        try:
            found[name] = npy.parse(read_bytes(path, most))
        except ValueError as error:
            raise ProgramFailed(f"{path.name}: {error}") from None
    return found
