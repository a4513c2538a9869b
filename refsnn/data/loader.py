"""Loader that makes batches in order, ahead of time and in worker processes.

A batch's content depends only on its indices and its seed, so the number of workers changes no bit
of it.
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

#: batches that each worker makes ahead of time
AHEAD = 2


class Batch(NamedTuple):
    """The indices of a batch's images, and the seed of their augmentation (None: none)."""

    which: Array
    seed: np.random.SeedSequence | None = None


def in_order(images: int | Array, batch_size: int = 128) -> Iterator[Batch]:
    """Yield batches of so many images, or of those of these indices, without augmentation."""
    which = np.arange(images) if isinstance(images, int) else images
    for first in range(0, len(which), batch_size):
        yield Batch(which[first : first + batch_size])


class Loader:
    """Make the batches of a data set in `workers` processes, or in this one (0).

    None means one worker where making a batch is costly, and otherwise none; a daemon process, such
    as a cluster's worker, may have no children and so no workers. `make` loads the data set in each
    worker, so that none has to be sent there.
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
        """Yield standardised images and labels of the split `part`, in the order of the plan."""
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
                with system.without_interrupt():  # the training process handles Ctrl-C
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


# In a worker process: the data set, loaded once.
own: list[Dataset] = []


def begin(make: Callable[[], Dataset]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows sends it to workers too
    Thread(target=end_with_parent, daemon=True).start()
    own[:] = [make()]


def end_with_parent() -> None:
    """End this process when its parent has ended: a killed parent can't tell its workers."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    _exit(1)


def work(part: str, batch: Batch) -> Array:
    return raw_batch(own[0], part, batch)
