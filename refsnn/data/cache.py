"""A cache of arrays that are computed from files once, and then memory-mapped."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from numpy.lib.format import open_memmap
from platformdirs import user_cache_path

from refsnn.files.documents import read_json
from refsnn.files.reading import open_regular
from refsnn.files.schema import Rules
from refsnn.files.unfinished import remove_leftovers, unfinished
from refsnn.ops import Array
from refsnn.system import WINDOWS

FORMAT = 1  # of the cached files; another number invalidates every cache
CONTENTS = "contents.json"  # lists the names of the other files
NAMES: Rules = {"type": "array", "items": {"type": "string", "pattern": r"^[a-z_]+\.npy$"}}


class New(Protocol):
    def __call__(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a writable array of zeros in the cache, to be filled at once or in pieces."""


def cache_folder() -> Path:
    """Return $REFSNN_CACHE, or the folder refsnn where the system keeps caches.

    That is $XDG_CACHE_HOME or ~/.cache, on macOS ~/Library/Caches, on Windows %LOCALAPPDATA%.
    ValueError where the user has no home folder.
    """
    if chosen := os.environ.get("REFSNN_CACHE"):
        return Path(chosen)
    with suppress(RuntimeError):  # some versions of platformdirs return a folder in ~ instead
        folder = user_cache_path("refsnn", appauthor=False)
        if folder.parts[0] != "~":
            return folder
    raise ValueError("cache: got a user without a home folder, want a folder in REFSNN_CACHE")


def mapped(
    name: str,
    sources: Sequence[Path],
    made_by: Mapping[str, Any],
    make: Callable[[New], None],
) -> dict[str, Array]:
    """Return read-only memory maps of the arrays that `make` fills, called the first time only.

    The arrays are made again when the path, size or modification time of a source, or a value of
    `made_by` (JSON types), has changed, and when a file of the cache was truncated. OSError where
    the cache can't be written.
    """
    folder = cache_folder() / f"{name}-{digest(sources, made_by)}"
    with suppress(OSError, ValueError):  # missing, or damaged
        arrays = read(folder)
        with suppress(OSError):
            remove_leftovers(folder.parent, name)  # perhaps of the process that made the arrays
        return arrays
    with ExitStack() as stack:
        with naming_cache(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(unfinished(folder.parent, name))
            made = temporary / "made"
            made.mkdir()
        make(lambda name, shape, dtype: new_array(folder, made / f"{name}.npy", shape, dtype))
        with naming_cache(folder):
            finish(made)
            # these maps stay valid whatever another process does; Windows moves no open file
            arrays = {} if WINDOWS else read(made)
            publish(made, folder, aside=temporary / "damaged")
            return arrays or read(folder)


def digest(sources: Sequence[Path], made_by: Mapping[str, Any]) -> str:
    paths = [path.resolve() for path in sources]
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    text = json.dumps([FORMAT, states, dict(made_by)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def read(folder: Path) -> dict[str, Array]:
    """Map the arrays of a finished folder; OSError or ValueError where it is not finished."""
    names = read_json(folder / CONTENTS, NAMES)
    if not names or {path.name for path in folder.glob("*.npy")} != set(names):
        raise ValueError(f"{folder}: holds no arrays, or others than it says")
    return {Path(name).stem: read_map(folder / name) for name in names}


def read_map(path: Path) -> Array:
    os.close(open_regular(path))  # NumPy would wait for a pipe
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged file is made again
            array = open_memmap(path, mode="r")
    except (OSError, ValueError):
        raise
    except Exception as error:  # bytes of any kind make NumPy's parsers raise errors of any kind
        raise ValueError(f"{path}: is no .npy file ({error})") from None
    size = path.stat().st_size
    if array.offset + array.nbytes != size:
        raise ValueError(f"{path}: got {size} bytes, want {array.offset + array.nbytes}")
    return array


@contextmanager
def naming_cache(folder: Path) -> Iterator[None]:
    """Say in an OSError that it is the cache that can't be written, and what to do about it."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"cache: {folder} can't be written: {error.strerror or error}; "
            "set REFSNN_CACHE to another folder"
        ) from error


def new_array(folder: Path, path: Path, shape: tuple[int, ...], dtype: Any) -> Array:
    with naming_cache(folder):
        array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # else a full disk is a bus error later, in `make`
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def finish(made: Path) -> None:
    """Write everything to the disk, before the folder gets the name that says it is complete."""
    files = sorted(made.glob("*.npy"))
    contents = made / CONTENTS
    contents.write_text(json.dumps([path.name for path in files]), encoding="utf-8")
    for path in (*files, contents):
        with open(path, "r+b") as file:
            os.fsync(file.fileno())


def publish(made: Path, folder: Path, aside: Path) -> None:
    """Rename the folder `made` to `folder`, unless another process has put the arrays there."""
    if whole(folder):
        return
    with suppress(FileNotFoundError):
        os.rename(folder, aside)
    try:
        os.rename(made, folder)
    except OSError:
        if not whole(folder):
            raise


def whole(folder: Path) -> bool:
    try:
        return bool(read(folder))
    except (OSError, ValueError):
        return False
