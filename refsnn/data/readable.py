"""Search for unreadable files, before a training begins and not in its tenth hour."""

import errno
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from refsnn.data.cache import New, mapped
from refsnn.data.parallel import each
from refsnn.ops import Array


def reasons(
    paths: Sequence[Path], read: Callable[[Path], object], jobs: int = 1
) -> Iterator[tuple[Path, str]]:
    """Yield each path with the reason why `read` can't read it, or "".

    Runs in `jobs` processes and shows a progress bar.
    """
    found = each(partial(reason, read=read), paths, jobs)
    yield from zip(paths, tqdm(found, "reading", len(paths), disable=None), strict=True)


def reason(path: Path, read: Callable[[Path], object]) -> str:
    try:
        read(path)
    except (ValueError, TypeError) as error:
        text = " ".join(str(error).split()).removeprefix("dataset: ").removeprefix(str(path))
        return text.lstrip(": ").removeprefix("can't be read: ")
    except OSError as error:
        if error.errno == errno.ENOMEM:  # the file may be all right
            raise
        return error.strerror or str(error)
    return ""


def without_unreadable(
    name: str, splits: Sequence[Any], read: Callable[[Path], object], made_by: Mapping[str, Any]
) -> tuple[list[Any], int]:
    """Remove the files that `read` can't read from the splits; return the splits and their number.

    Splits are named tuples with `paths` and `labels` (N,). The result of reading is kept in the
    cache until the path, size or modification time of a file changes, or a value of `made_by`, on
    which `read` depends. Prints a warning if files are left out. ValueError where a class has no
    file left.
    """
    paths = [Path(path) for split in splits for path in split.paths]
    keep = readable(name, paths, read, made_by)
    kept, first = [], 0
    for split in splits:
        mask = keep[first : first + len(split.paths)]
        first += len(mask)
        lost = np.setdiff1d(split.labels, split.labels[mask])
        if len(lost):
            folder = Path(split.paths[int(np.argmax(split.labels == lost[0]))]).parent
            raise ValueError(f"dataset: {folder}: none of its files can be read")
        kept.append(
            split._replace(
                paths=[path for path, good in zip(split.paths, mask, strict=True) if good],
                labels=split.labels[mask],
            )
        )
    skipped = int((~keep).sum())
    if skipped and parent_process() is None:  # once, and not in every worker process
        print(
            f"warning: {name}: left out {skipped} of {len(paths)} files, which can't be read, the "
            f"first of them {paths[int(np.argmin(keep))]}; refsnn data check lists them",
            file=sys.stderr,
        )
    return kept, skipped


def readable(
    name: str, paths: Sequence[Path], read: Callable[[Path], object], made_by: Mapping[str, Any]
) -> Array:
    """Return a mask (N,) of the paths that can be read, from the cache if it is there."""
    mask = np.array([path.is_file() for path in paths])  # the cache needs their size and time
    there = [path for path, good in zip(paths, mask, strict=True) if good]

    def make(new: New) -> None:
        new("readable", (len(there),), bool)[:] = [not why for _, why in reasons(there, read)]

    if there:
        mask[mask] = mapped(f"{name}-readable", there, made_by, make)["readable"]
    return mask
