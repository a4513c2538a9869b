"""The process in which an adapter runs: `python -m refsnn.oracle.worker FOLDER SPEC`.

It prints a line of JSON once the adapter is made, and one for each line that it reads. Each line
that it reads is the name of a folder in FOLDER; it runs the folder's case.npz and writes the
outputs, as plain arrays, to answer.npz. The line "renew" lets it make the adapter
again. Whatever the adapter prints goes to standard error.
"""

import faulthandler
import importlib
import inspect
import io
import json
import os
import queue
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from refsnn import system
from refsnn.files import npy
from refsnn.files.arrays import read_whole, write_arrays
from refsnn.oracle import declare
from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.program import Program, ProgramFailed
from refsnn.oracle.conventions import LEVELS, PRECISIONS, with_old_names
from refsnn.oracle.limits import most_bytes
from refsnn.oracle.vectors import Case

REFSNN = Path(__file__).resolve().parents[1]
CASE, ANSWER = "case.npz", "answer.npz"
RENEW = "renew"  # in the place of a folder's name: make the adapter again
FACTS = "case"  # key of everything but the inputs, as JSON
STATUSES = ("ready", "refused", "done", "unsupported", "raised", "garbage")
FILE_LIMIT = 2**30  # bytes per file: endless printing must not fill the disk
MESSAGE_LIMIT = 1000  # characters
BFLOAT16 = '; NumPy has none: return float32 arrays and declare precision = "bfloat16"'
GRACE = 2  # seconds in which to end once the parent process is gone


class Refused(Exception):
    """The given object is not an adapter."""


def write_case(path: Path, case: Any) -> None:
    """Write a case without its expected outputs: only their names and shapes."""
    fields = {k: v for k, v in vars(case).items() if k not in ("inputs", "outputs")}
    fields["outputs"] = {name: array.shape for name, array in case.outputs.items()}
    write_arrays(path, case.inputs | {FACTS: np.array(json.dumps(fields))})


def without_values(case: Case) -> Case:
    """Return a copy of the case with inputs of its own, and NaN in place of expected values."""
    inputs = {name: array.copy() for name, array in case.inputs.items()}
    outputs = {name: np.full(array.shape, np.nan) for name, array in case.outputs.items()}
    return replace(
        case, inputs=inputs, outputs=outputs, conventions=with_old_names(case.conventions)
    )


def read_case(path: Path) -> Case:
    """Read a case, with outputs of NaN.

    An adapter can look up which outputs are wanted, but not their values.
    """
    inputs = read_whole(path)
    fields = json.loads(str(inputs.pop(FACTS)))
    shapes = fields.pop("outputs")
    for name in ("clauses", "flags"):
        fields[name] = tuple(fields[name])
    outputs = {name: np.full(tuple(shape), np.nan) for name, shape in shapes.items()}
    fields["conventions"] = with_old_names(fields["conventions"])
    return Case(inputs=inputs, outputs=outputs, **fields)


def find_adapter(target: str) -> Any:
    """Return the adapter that MODULE:OBJECT names or makes; a function of the case will do too.

    Refused if it is not an adapter.
    """
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
    return as_adapter(found, target)


def as_adapter(found: Any, target: str) -> Any:
    """Return an object with run(case), made of a class, or of a function of a case.

    A PyTorch module without run(case), or what makes one, is run as `Module` describes. Refused if
    it is no such object.
    """
    made = found
    is_class = inspect.isclass(found)
    if is_class or (not hasattr(found, "run") and not is_module(found) and callable(found)):
        needed = [
            p
            for p in inspect.signature(found).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if not is_class and len(needed) == 1:
            return SimpleNamespace(run=found, name=target)
        if needed:
            names = ", ".join(p.name for p in needed)
            raise Refused(
                f"{target} needs {names}: give a function without arguments that makes it"
            )
        made = found()
    if callable(getattr(made, "run", None)):
        return made
    if not is_module(made):
        raise Refused(f"got {type(made).__name__}, want an object with run(case)")
    from refsnn.oracle.adapters.module import Module

    fresh = made is not found
    try:
        return Module(found if fresh else lambda: found, target, fresh=fresh)
    except ValueError as error:
        raise Refused(str(error)) from None


def is_module(found: Any) -> bool:
    """Tell whether an object is a PyTorch module; PyTorch is not imported for that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(found, torch.nn.Module)


def describe(adapter: Any, target: str) -> dict[str, Any]:
    """Return what the adapter declares; Refused if it is invalid."""
    declared: dict[str, Any] = {"name": str(getattr(adapter, "name", target))}
    declared["precision"] = precision = getattr(adapter, "precision", None)
    if precision not in (None, *PRECISIONS):
        raise Refused(f"precision: got {precision!r}, want one of {', '.join(PRECISIONS)}")
    for name, default in (("levels", LEVELS), ("omits", ())):
        value = getattr(adapter, name, default)
        if not isinstance(value, tuple | list) or not all(isinstance(v, str) for v in value):
            raise Refused(f"{name}: got {value!r}, want a tuple of strings")
        declared[name] = list(value)
    declared["has_own_numbers"] = own = getattr(adapter, "has_own_numbers", False) is True
    try:
        declared["conventions"] = declare.meant(getattr(adapter, "conventions", None), own)
    except (TypeError, ValueError, OSError) as error:
        raise Refused(str(error)) from None
    unknown = set(declared["levels"]) - set(LEVELS)
    if unknown:
        raise Refused(f"levels: got {min(unknown)!r}, want some of {', '.join(LEVELS)}")
    return declared


def as_arrays(got: Any, wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert the returned outputs to arrays of numbers.

    An output that is not wanted becomes an empty array.
    """
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
            hint = BFLOAT16 if "bfloat16" in str(error).lower() else ""
            message = f"{name}: got {type(value).__name__}, want an array: {error}{hint}"
            raise TypeError(message) from None
        if array.dtype.kind not in npy.NUMERIC:
            raise TypeError(f"{name}: got dtype {array.dtype}, want numbers")
        if array.nbytes > most_bytes(wanted[name].shape):
            raise ValueError(f"{name}: got shape {array.shape}, want {wanted[name].shape}")
        arrays[name] = array
    return arrays


def run_case(adapter: Any, folder: Path) -> dict[str, str]:
    """Run the case in the folder; return the answer's status and message."""
    answer, arrays = run_adapter(adapter, lambda: read_case(folder / CASE), (BaseException,))
    if answer["status"] == "done":
        try:
            write_arrays(folder / ANSWER, arrays)
        except Exception as error:
            return {"status": "garbage", "message": " ".join(str(error).split())}
    return answer


def run_adapter(
    adapter: Any, make: Callable[[], Case], caught: tuple[type[BaseException], ...]
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Run the case that `make` gives; return the answer's status and message, and the outputs.

    What `run` raises of the exceptions `caught` is an answer.
    """
    try:
        wanted = make()
        for _ in range(wanted.repeat):
            got = adapter.run(make())  # a new copy, as a run may write into its inputs
    except Unsupported as reason:
        return {"status": "unsupported", "message": str(reason) or "no reason given"}, {}
    except ProgramFailed as error:
        return {"status": "raised", "message": str(error)}, {}
    except caught as error:
        traceback.print_exc()
        return {"status": "raised", "message": tell(error, home_of(adapter))}, {}
    try:
        return {"status": "done", "message": ""}, as_arrays(got, wanted.outputs)
    except Exception as error:
        return {"status": "garbage", "message": " ".join(str(error).split())}, {}


def tell(error: BaseException, home: str | None = None) -> str:
    """Describe an error with the last line of its traceback that its author wrote.

    That is in the file `home`, or in any outside the libraries; failing that, in a library.
    """
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    ours = (__file__, importlib.__file__)
    outside = [f for f in frames if f.filename not in ours and not f.filename.startswith("<")]
    own = [f for f in outside if f.filename == home or not in_library(f.filename)] or outside
    if not own:  # such as importlib's, if there is no such module
        return text
    last = own[-1]
    return f"{text} ({Path(last.filename).name}:{last.lineno}, in {last.name}: {last.line})"


def in_library(file: str) -> bool:
    """Tell whether a file is refsnn's own, the standard library's or an installed package's."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    # pip install --target DIR installs into a folder of any name
    folders += [folder for folder in sys.path if folder and any(Path(folder).glob("*.dist-info"))]
    folders.append(str(REFSNN))
    path = Path(os.path.realpath(file))
    return {"site-packages", "dist-packages"} & {*path.parts} != set() or any(
        path.is_relative_to(os.path.realpath(folder)) for folder in folders
    )


def home_of(adapter: Any) -> str | None:
    """Return the file that holds the adapter's run(case), or a module's forward; None without."""
    source = getattr(adapter, "source", adapter.run)
    code = getattr(inspect.unwrap(source), "__code__", None)
    return None if code is None else code.co_filename


def limit_resources(memory: int) -> None:
    """Limit this process's data and files.

    The system kills it first if the machine runs out of memory.
    """
    system.limit("DATA", memory)
    system.limit("FSIZE", FILE_LIMIT)
    system.limit("CORE", 0)
    system.kill_first()


def listen(source: Any, lines: "queue.SimpleQueue[str]") -> None:
    """Pass lines on; when the source ends, end the whole process group, even if it hangs."""
    for line in source:
        lines.put(line)
    lines.put("")
    time.sleep(GRACE)
    system.leave_with_group()


def main(folder: Path, spec: dict[str, Any]) -> None:
    """Make the adapter and run the cases whose folders are named on standard input."""
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):  # read as UTF-8 on any system
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    # the pipe closes when everything is cleaned up
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", closefd=False)
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(2, 1)  # keeps what is printed apart from the answers
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
        if name == RENEW:  # a module that defines an object, rather than a class, keeps it
            made = made if spec["program"] else find_adapter(spec["target"])
            answer({"status": "ready", "message": ""})
        else:
            answer(run_case(made, folder / name))
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
