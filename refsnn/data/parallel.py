"""Calls of one function on many items, in several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from refsnn.ops import validate

T = TypeVar("T")
R = TypeVar("R")


def each(function: Callable[[T], R], items: Sequence[T], jobs: int = 1) -> Iterator[R]:
    """Yield function(item) for each item in order, computed by `jobs` processes, or this one (1).

    With more than one process, a script needs the guard `if __name__ == "__main__"`.
    """
    validate.whole("jobs", jobs, 1)
    if jobs == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(function, items, chunksize=8)
