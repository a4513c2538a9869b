"""Scheduling of runs, in processes of this machine or on a Dask cluster, and estimates of time."""

import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsnn.experiments.ablation import Planned, result
from refsnn.experiments.presets import DataSize
from refsnn.files.writing import write_json
from refsnn.ops import get_ops
from refsnn.output import progress_bar
from refsnn.process import Signals, keep_freed_memory, limit_threads
from refsnn.system import block_interrupt
from refsnn.training.algorithm import main_logits, train_step
from refsnn.training.config import TrainConfig
from refsnn.training.lock import Locked
from refsnn.training.monitor import Diverged
from refsnn.training.run import Run, resume, start
from refsnn.training.trainer import Interrupted, initial_state

SPAWN = multiprocessing.get_context("spawn")
POLL = 0.1  # seconds between two checks for runs that have ended
CONNECT = 10.0  # seconds that a scheduler has to answer
#: seconds to wait for a locked run: a process that was told to stop finishes its iteration first
PATIENCE = 60.0
WARM_UP, REPEATS = 1, 5  # steps of an estimate; the first compiles
PIXELS = 2**16  # over all images and time steps of an estimate's batch
TINY = 1e-8  # a learning rate that changes neither the firing rates nor, so, the speed

Stop = Callable[[], bool]


class Outcome(NamedTuple):
    state: str  # finished, diverged, failed, interrupted, or waiting: stopped before it began
    reason: str = ""


class Failed(Exception):
    """A process ended without a result, or its function raised; the message says which and why."""


class Workers(NamedTuple):
    """A pool of workers.

    submit(name, function, *arguments) returns a future of function(*arguments, stop). stop() asks
    all functions to end early.
    """

    submit: Callable[..., Any]
    stop: Callable[[], object]


def train_run(folder: Path, config: TrainConfig, stop: Stop) -> Outcome:
    """Start or resume the run and write its summary.json or, where it diverges, diverged.json."""
    run = opened(folder, config, stop)
    if not run.keeps_all:
        keep_freed_memory(large=False)
    try:
        run.train(stop, quiet=True)
    except Interrupted:
        return Outcome("interrupted")
    except Diverged as error:
        write_json(folder / "diverged.json", {"reason": str(error)})
        return Outcome("diverged", str(error))
    run.summarize()
    return Outcome("finished")


def opened(folder: Path, config: TrainConfig, stop: Stop) -> Run:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            begun = (folder / "config.json").exists()
            return resume(folder) if begun else start(folder, config)
        except Locked:
            if stop() or time.monotonic() > end:
                raise
            time.sleep(POLL)


@contextmanager
def on_this_machine(jobs: int, threads: int, at_once: bool = False) -> Iterator[Workers]:
    """Run functions in new processes, `jobs` at a time, each with `threads` threads.

    With `at_once`, stopping kills the processes, for functions that have nothing to clean up.
    """
    stop = SPAWN.Event()

    def submit(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return pool.submit(apart, stop, threads, at_once, function, arguments)

    # Ctrl-C on a terminal reaches children too, but only the parent handles it
    with ThreadPoolExecutor(jobs, initializer=block_interrupt) as pool:
        try:
            yield Workers(submit, stop.set)
        finally:
            stop.set()


def apart(
    stop: Any, threads: int, at_once: bool, function: Callable[..., Any], arguments: Sequence[Any]
) -> Any:
    """Call function(*arguments, stop) in a new process; Failed where it returns nothing."""
    if stop.is_set():
        return Outcome("waiting")
    receiver, sender = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=child, args=(sender, stop, threads, function, arguments))
    process.start()
    sender.close()
    try:
        while at_once and not receiver.poll(POLL):
            if stop.is_set():
                process.kill()
        answer = receiver.recv()
    except (EOFError, BrokenPipeError):
        answer = None
    process.join()
    if answer is None:
        code = process.exitcode or 0
        end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        answer = Failed(f"its process ended with {end}")
    if isinstance(answer, Failed):
        raise answer
    return answer


def child(
    sender: Connection,
    stop: Any,
    threads: int,
    function: Callable[..., Any],
    arguments: Sequence[Any],
) -> None:
    """Call the function in the child process and send the result; stop early if the parent ends."""
    os.environ |= dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
    limit_threads(threads)
    keep_freed_memory()
    parent = multiprocessing.parent_process()
    with Signals() as signals:

        def asked() -> bool:
            alone = parent is not None and not parent.is_alive()
            return stop.is_set() or signals.caught is not None or alone

        try:
            answer = function(*arguments, asked)
        except Exception as error:
            answer = Failed(reason(error))
        with suppress(BrokenPipeError):  # the parent is gone
            sender.send(answer)


def reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, Failed) else f"{type(error).__name__}: {text}"


@contextmanager
def on_cluster(address: str, threads: int) -> Iterator[Workers]:
    """Run functions on the workers of the Dask scheduler at `address`, which see the same files."""
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            "scheduler: distributed is not installed; pip install 'refsnn[cluster]'"
        ) from None
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"scheduler: no answer from {address} ({error})") from None
    futures: list[Any] = []

    def submit(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        # by its name, Dask knows the same run of two calls as one task
        futures.append(client.submit(task, threads, function, arguments, key=f"refsnn-{name}"))
        return futures[-1]

    with client:
        yield Workers(submit, lambda: client.cancel(futures))


def task(threads: int, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Call the function on a worker; stop early when the client has cancelled it or has gone."""
    from distributed import get_worker

    limit_threads(threads)
    worker = get_worker()
    key = worker.get_current_task()

    def unwanted() -> bool:
        known = worker.state.tasks.get(key)
        return known is None or known.state == "cancelled"

    return function(*arguments, unwanted)


def train_all(runs: Sequence[Planned], workers: Workers, stopping: Stop) -> Counter[str]:
    """Train all runs, or stop early when `stopping`; return the count of each state of `Outcome`.

    Shows the progress, and prints a line for each run that has ended.
    """
    states: Counter[str] = Counter()
    pending = {workers.submit(str(run.folder), train_run, *run): run for run in runs}
    total, told = sum(run.config.epochs for run in runs), False
    with (
        progress_bar(total=total, initial=epochs_done(runs), unit="epoch") as bar,
        RunLines() as lines,
    ):
        while pending:
            if stopping() and not told:
                workers.stop()
                told = True
            for future in [future for future in pending if future.done()]:
                run = pending.pop(future)
                outcome = outcome_of(future, run, stopping())
                states[outcome.state] += 1
                lines.end(run)
                if text := outcome_text(run, outcome):
                    bar.write(text, file=sys.stderr)
            lines.show(list(pending.values()))
            bar.update(epochs_done(runs) - bar.n)
            through = sum(states[state] for state in ("finished", "diverged", "failed"))
            bar.set_postfix(states, runs=f"{through}/{len(runs)}", refresh=False)
            time.sleep(POLL)
    return states


class RunLines:
    """Progress lines with the time left, on a terminal: one for each run that has begun."""

    def __init__(self) -> None:
        self.bars: dict[Path, Any] = {}

    def show(self, runs: Sequence[Planned]) -> None:
        """Bring the lines up to date with the folders of runs that may have begun."""
        if not sys.stderr.isatty():
            return
        for run in runs:
            done = epochs_done([run])
            if run.folder not in self.bars:
                if not (run.folder / "checkpoint.npz").exists():
                    continue
                taken = {bar.pos for bar in self.bars.values()}
                free = next(place for place in count(1) if -place not in taken)
                self.bars[run.folder] = progress_bar(
                    total=run.config.epochs,
                    initial=done,
                    unit="epoch",
                    desc=run.folder.name,
                    position=free,
                    leave=False,
                )
            bar = self.bars[run.folder]
            bar.update(done - bar.n)

    def end(self, run: Planned) -> None:
        """Remove a run's line."""
        if run.folder in self.bars:
            self.bars.pop(run.folder).close()

    def __enter__(self) -> "RunLines":
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self.bars.values():
            bar.close()


def outcome_text(run: Planned, outcome: Outcome) -> str:
    """Return a line about a run that has ended; nothing about one that was stopped."""
    if outcome.state == "finished":
        found = result(run)
        if found.accuracy is not None:
            return f"{run.folder.name}: test accuracy {found.accuracy:.4f}"
    return f"{run.folder.name}: {outcome.state}: {outcome.reason}" if outcome.reason else ""


def outcome_of(future: Any, run: Planned, stopping: bool) -> Outcome:
    """Return the outcome of a run; one that raised, or that stopped without being asked, failed."""
    try:
        outcome: Outcome = future.result()
    except Exception as error:
        outcome = Outcome("failed", reason(error))
    if outcome.state in ("finished", "diverged"):
        return outcome
    if stopping:
        begun = (run.folder / "config.json").exists()
        return Outcome("interrupted" if begun else "waiting")
    return Outcome("failed", outcome.reason or "it was told to stop")


def epochs_done(runs: Sequence[Planned]) -> int:
    paths = (run.folder / "metrics.jsonl" for run in runs)
    return sum(path.read_bytes().count(b"\n") for path in paths if path.is_file())


class Estimate(NamedTuple):
    """The number of runs of one architecture and T, and the seconds that they still take."""

    config: TrainConfig
    runs: int
    seconds: float


def estimate(
    runs: Sequence[Planned], sizes: Mapping[str, DataSize], workers: Workers, stopping: Stop
) -> Iterator[Estimate]:
    """Estimate the time of the runs from a few steps of each architecture, T and batch size.

    Steps are measured on random images; reading and augmenting real ones takes time besides.
    Raises Interrupted when `stopping`.
    """
    groups: dict[TrainConfig, list[Planned]] = {}
    for run in runs:
        groups.setdefault(run.config.changed(method="evolutionary", seed=0), []).append(run)
    measured = [
        workers.submit(config.network.arch, measure, config, sizes[config.data.dataset])
        for config in groups
    ]
    for (config, members), future in zip(groups.items(), measured, strict=True):
        while not (future.done() or stopping()):
            time.sleep(POLL)
        if stopping():
            raise Interrupted
        try:
            step, inference = future.result()
        except Failed as error:
            raise ValueError(f"estimate: {config.network.arch}: {error}") from None
        size = sizes[config.data.dataset]
        epochs = sum(run.config.epochs for run in members) - epochs_done(members)
        seconds = epochs * (size.train * step + size.test * inference)
        yield Estimate(config, len(members), seconds)


def measure(config: TrainConfig, size: DataSize, stop: Stop) -> tuple[float, float]:
    """Return the seconds per image of a training step and of inference, each the best of REPEATS.

    Time grows linearly with the batch, so a batch of about PIXELS pixels will do.
    """
    ops, rng = get_ops(config.ops), np.random.default_rng(0)
    config = config.changed(lr=TINY)
    net = config.build_network(size.shape[-1], size.classes)
    state = initial_state(config, net)
    count = max(4, PIXELS // (config.steps * size.shape[-3] * size.shape[-2]))
    count = min(config.batch_size, count)
    images = rng.normal(size=(count, *size.shape)).astype(config.dtype)
    batch = images, rng.integers(size.classes, size=count)

    def seconds(function: Callable[[], object]) -> float:
        times = []
        for _ in range(WARM_UP + REPEATS):
            if stop():
                raise Interrupted
            begin = time.perf_counter()
            function()
            times.append(time.perf_counter() - begin)
        return min(times[WARM_UP:]) / count

    step = seconds(lambda: train_step(state, net, config, ops, batch, 10**6))
    return step, seconds(
        lambda: main_logits(net, state.params, state.buffers, images, config.steps, ops)
    )
