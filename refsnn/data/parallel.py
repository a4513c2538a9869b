"""One function of many things, in processes of its own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from refsnn.ops import validate

T = TypeVar("T")
R = TypeVar("R")


def each(function: Callable[[T], R], things: Sequence[T], jobs: int = 1) -> Iterator[R]:
    """Yield the function of each thing in turn, computed by `jobs` processes, or this one (1).

    More than one process needs the guard `if __name__ == "__main__"` in the script that asks.
    """
    validate.whole("jobs", jobs, 1)
    if jobs == 1:
        yield from map(function, things)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(function, things, chunksize=8)
