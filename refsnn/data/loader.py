"""Batches in order, made ahead by worker processes while the network computes.

What a batch holds depends on its indices and its seed alone, so that the number of workers
changes no bit.
"""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import (
    connection,
    current_process,
    get_all_start_methods,
    get_context,
    parent_process,
)
from os import _exit
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from refsnn import system
from refsnn.data.dataset import Dataset, standardize
from refsnn.ops import Array, validate

#: batches that each worker is ahead
AHEAD = 2


class Batch(NamedTuple):
    """Which images, and the seed of their augmentation (None: as they are)."""

    which: Array
    seed: np.random.SeedSequence | None = None


def in_order(n: int, batch_size: int = 128) -> Iterator[Batch]:
    """All n images, as they are."""
    for first in range(0, n, batch_size):
        yield Batch(np.arange(first, min(first + batch_size, n)))


class Loader:
    """The batches of a data set; `workers` processes make them, or this one (0).

    By itself (None) it takes one worker where making a batch is costly, but none in a process
    that may not have any (a daemon, such as a cluster's worker). `make` gives the data set anew in
    each worker, so that none is sent from here.
    """

    def __init__(
        self, dataset: Dataset, make: Callable[[], Dataset], workers: int | None = None
    ) -> None:
        if workers is None:
            workers = int(dataset.costly and not current_process().daemon)
        validate.whole("workers", workers, 0)
        self.dataset, self.workers = dataset, workers
        self.pool: ProcessPoolExecutor | None = None
        if workers:
            context = get_context(
                "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
            )
            self.pool = ProcessPoolExecutor(workers, context, begin, (make,))

    def batches(
        self, part: str, plan: Iterable[Batch], dtype: Any
    ) -> Iterator[tuple[Array, Array]]:
        """Standardised images and labels of the split `part`, in the order of the plan."""
        dataset = self.dataset
        labels = getattr(dataset, part).labels
        for batch, images in self.raw(part, plan):
            yield standardize(images, dataset.mean, dataset.std, dtype), labels[batch.which]

    def raw(self, part: str, plan: Iterable[Batch]) -> Iterator[tuple[Batch, Array]]:
        if self.pool is None:
            yield from ((batch, raw_batch(self.dataset, part, batch)) for batch in plan)
            return
        waiting: deque[tuple[Batch, Future[Array]]] = deque()
        try:
            for batch in plan:
                with system.without_interrupt():  # it is for the process that trains
                    waiting.append((batch, self.pool.submit(work, part, batch)))
                if len(waiting) > AHEAD * self.workers:
                    batch, future = waiting.popleft()
                    yield batch, future.result()
            while waiting:
                batch, future = waiting.popleft()
                yield batch, future.result()
        except BrokenProcessPool:
            raise OSError("a worker process that makes batches has died") from None
        finally:
            for _, future in waiting:
                future.cancel()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)


def raw_batch(dataset: Dataset, part: str, batch: Batch) -> Array:
    rng = None if batch.seed is None else np.random.default_rng(batch.seed)
    return dataset.raw_batch(getattr(dataset, part), batch.which, rng)


# In a worker: its data set, made once.
own: list[Dataset] = []


def begin(make: Callable[[], Dataset]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows sends it to workers too
    Thread(target=end_with_parent, daemon=True).start()
    own[:] = [make()]


def end_with_parent() -> None:
    """A parent that was killed can't say that it is over."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    _exit(1)


def work(part: str, batch: Batch) -> Array:
    return raw_batch(own[0], part, batch)
