"""The process that an adapter runs in: `python -m refsnn.oracle.worker FOLDER SPEC`.

It prints one line of JSON when the adapter is made, and one for each line that it reads, the name
of a folder in FOLDER: then its case.npz was run, and its answer.npz holds what came, as plain
arrays. Whatever the adapter prints goes to standard error.
"""

import faulthandler
import importlib
import inspect
import io
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from refsnn import system
from refsnn.files import npy
from refsnn.files.arrays import read_whole, write_arrays
from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.program import Program, ProgramFailed
from refsnn.oracle.conventions import LEVELS, PRECISIONS
from refsnn.oracle.limits import most_bytes
from refsnn.oracle.vectors import Case

CASE, ANSWER = "case.npz", "answer.npz"
FACTS = "case"  # the key of all but the inputs, as JSON
STATUSES = ("ready", "refused", "done", "unsupported", "raised", "garbage")
FILE_LIMIT = 2**30  # bytes that one file may have: an endless print must not fill the disk
MESSAGE_LIMIT = 1000  # characters
GRACE = 2  # seconds to end in, once the asking process is gone


class Refused(Exception):
    """What was given is no adapter."""


def write_case(path: Path, case: Any) -> None:
    """The case without its expected values: of the outputs, only names and shapes."""
    fields = {k: v for k, v in vars(case).items() if k not in ("inputs", "outputs")}
    fields["outputs"] = {name: array.shape for name, array in case.outputs.items()}
    write_arrays(path, case.inputs | {FACTS: np.array(json.dumps(fields))})


def read_case(path: Path) -> Case:
    """The outputs are NaN: an adapter may look which are wanted, not what they should be."""
    inputs = read_whole(path)
    fields = json.loads(str(inputs.pop(FACTS)))
    shapes = fields.pop("outputs")
    for name in ("clauses", "flags"):
        fields[name] = tuple(fields[name])
    outputs = {name: np.full(tuple(shape), np.nan) for name, shape in shapes.items()}
    return Case(inputs=inputs, outputs=outputs, **fields)


def find_adapter(target: str) -> Any:
    """The adapter that MODULE:OBJECT is, or makes; a function of one case serves too."""
    module_name, _, path = target.rpartition(":")
    if module_name.endswith(".py") or target.endswith(".py"):
        file, name = (module_name, path) if module_name else (target, "OBJECT")
        raise Refused(
            f"got {target!r}, want a module's name, not a file's: write {Path(file).stem}:{name}"
        )
    if not module_name or not path:
        raise Refused(f"got {target!r}, want MODULE:OBJECT")
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise Refused(f"got {target!r}, but {module_name} has no {path}")
        found = getattr(found, name)
    if inspect.isclass(found) or (not hasattr(found, "run") and callable(found)):
        needed = [
            p
            for p in inspect.signature(found).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if not inspect.isclass(found) and len(needed) == 1:
            return SimpleNamespace(run=found, name=target)
        found = found()
    if not callable(getattr(found, "run", None)):
        raise Refused(f"got {type(found).__name__}, want an object with run(case)")
    return found


def describe(adapter: Any, target: str) -> dict[str, Any]:
    """What the adapter declares, checked."""
    declared: dict[str, Any] = {"name": str(getattr(adapter, "name", target))}
    declared["precision"] = precision = getattr(adapter, "precision", None)
    if precision not in (None, *PRECISIONS):
        raise Refused(f"precision: got {precision!r}, want one of {', '.join(PRECISIONS)}")
    for name, default in (("levels", LEVELS), ("omits", ())):
        value = getattr(adapter, name, default)
        if not isinstance(value, tuple | list) or not all(isinstance(v, str) for v in value):
            raise Refused(f"{name}: got {value!r}, want a tuple of strings")
        declared[name] = list(value)
    unknown = set(declared["levels"]) - set(LEVELS)
    if unknown:
        raise Refused(f"levels: got {min(unknown)!r}, want some of {', '.join(LEVELS)}")
    return declared


def as_arrays(got: Any, wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What came, as arrays of numbers; of outputs that nobody wanted, the names alone."""
    if not isinstance(got, Mapping):
        raise TypeError(f"run(case): got {type(got).__name__}, want a mapping of names to arrays")
    arrays = {}
    for name, value in got.items():
        if not isinstance(name, str):
            raise TypeError(f"run(case): got a name {name!r}, want strings")
        if name not in wanted:
            arrays[name] = np.empty(0)
            continue
        try:
            array = np.asarray(value)
        except Exception as error:
            raise TypeError(f"{name}: got {type(value).__name__}, want an array: {error}") from None
        if array.dtype.kind not in npy.NUMERIC:
            raise TypeError(f"{name}: got dtype {array.dtype}, want numbers")
        if array.nbytes > most_bytes(wanted[name].shape):
            raise ValueError(f"{name}: got shape {array.shape}, want {wanted[name].shape}")
        arrays[name] = array
    return arrays


def run_case(adapter: Any, folder: Path) -> dict[str, str]:
    """Runs the case in the folder; the answer's status and message."""
    path = folder / CASE
    try:
        wanted = read_case(path)
        for _ in range(wanted.repeat):
            case = read_case(path)  # anew: no run sees what the one before did to its inputs
            got = adapter.run(case)
    except Unsupported as reason:
        return {"status": "unsupported", "message": str(reason) or "no reason given"}
    except ProgramFailed as error:
        return {"status": "raised", "message": str(error)}
    except BaseException as error:  # SystemExit is an answer too
        traceback.print_exc()
        return {"status": "raised", "message": tell(error, home_of(adapter))}
    try:
        write_arrays(folder / ANSWER, as_arrays(got, wanted.outputs))
    except Exception as error:
        return {"status": "garbage", "message": " ".join(str(error).split())}
    return {"status": "done", "message": ""}


def tell(error: BaseException, home: str | None = None) -> str:
    """The error, and the last line of its traceback outside this module; if any is in the file
    `home`, the last of those."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    ours = (__file__, importlib.__file__)
    outside = [f for f in frames if f.filename not in ours and not f.filename.startswith("<")]
    own = [f for f in outside if f.filename == home] or outside
    if not own:  # of importlib, say, when there is no such module
        return text
    last = own[-1]
    return f"{text} ({Path(last.filename).name}:{last.lineno}, in {last.name}: {last.line})"


def home_of(adapter: Any) -> str | None:
    """The file of its run(case)."""
    code = getattr(inspect.unwrap(adapter.run), "__code__", None)
    return None if code is None else code.co_filename


def limit_resources(memory: int) -> None:
    """Limit this process's data and files; first in line when the machine runs out of memory."""
    system.limit("DATA", memory)
    system.limit("FSIZE", FILE_LIMIT)
    system.limit("CORE", 0)
    system.kill_first()


def listen(source: Any, lines: "queue.SimpleQueue[str]") -> None:
    """Passes lines on. At their end so ends the whole group, even one that hangs."""
    for line in source:
        lines.put(line)
    lines.put("")
    time.sleep(GRACE)
    system.leave_with_group()


def main(folder: Path, spec: dict[str, Any]) -> None:
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):  # what is printed is read as UTF-8, on any system
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    # its end tells that all is cleaned up
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", closefd=False)
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(2, 1)  # what is printed must not mix with the answers
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(questions, lines), daemon=True).start()

    def answer(content: dict[str, Any]) -> None:
        if "message" in content:
            content["message"] = content["message"][:MESSAGE_LIMIT]
        print(json.dumps(content), file=answers, flush=True)

    limit_resources(spec["memory"])
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        made = Program(spec["program"], folder) if spec["program"] else find_adapter(spec["target"])
        ready = describe(made, spec["target"])
    except Refused as error:
        return answer({"status": "refused", "message": str(error)})
    except BaseException as error:
        traceback.print_exc()
        return answer({"status": "refused", "message": tell(error)})
    answer({"status": "ready", "message": "", **ready})
    while name := lines.get().strip():
        answer(run_case(made, folder / name))
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
