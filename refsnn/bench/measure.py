"""Side-by-side measurement of libraries: one process each, which take turns step by step."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

from refsnn.bench.processes import Worker, single
from refsnn.bench.workload import Spec

WARM_UP = 2  # steps that do not count
TURN = 0.5  # seconds of steps, at least, that a worker runs in a round
PAUSE = 0.2  # seconds of pause after a turn, since threads spin for a while before they sleep

Say = Callable[[str], None]
Row = dict[str, Any]


@contextmanager
def prepared(spec: Spec) -> Iterator[tuple[Spec, Row]]:
    """Yield the spec with a file of initial numbers, and their firing rates."""
    with TemporaryDirectory(prefix="refsnn-bench-") as folder:
        spec = replace(spec, numbers=str(Path(folder) / "numbers.npz"))
        yield spec, single(replace(spec, task="prepare", library="refsnn"))


def compare(
    spec: Spec,
    libraries: Sequence[str],
    repeats: int,
    peaks: Row,
    say: Say,
    recipes: Sequence[str] = (),
) -> tuple[list[Row], list[Row]]:
    """Return the results of each library and recipe, refsnn first, and its ratios to the others."""
    say(f"{spec.arch} {spec.phase}: preparing")
    with prepared(spec) as (ready, known), ExitStack() as stack:
        tasks = {library: replace(ready, library=library) for library in libraries}
        for recipe in recipes:
            of_recipe = prepared(replace(spec, recipe=recipe))
            tasks[recipe], _ = stack.enter_context(of_recipe)
        workers, facts = [], []
        for name, task in tasks.items():
            say(f"{spec.arch} {spec.phase}: {name} warms up")
            worker = stack.enter_context(Worker(task))
            facts.append(worker.answer())
            workers.append(worker)
            first, *_ = [turn(worker, least=0) for _ in range(WARM_UP)]
            facts[-1]["first_step_seconds"] = first["seconds"]
        rounds = []
        for index in range(repeats):
            say(f"{spec.arch} {spec.phase}: round {index + 1} of {repeats}")
            rounds.append([turn(worker) for worker in workers])
        results = []
        for name, fact, steps in zip(tasks, facts, zip(*rounds, strict=True), strict=True):
            row = describe(spec, name) | known | fact | summary(spec, steps)
            results.append(row)
        asked = {name: peaks[name] for name in ("gemm_gflops", "copy_gib_s")}
        results[0]["breakdown"] = workers[0].ask(json.dumps(asked))
    return results, ratios(results)


def turn(worker: Worker, least: float = TURN) -> Row:
    """Run steps for at least so many seconds, then wait a moment.

    Their mean time and the peak memory are returned. A short step by itself would show how fast the
    processor wakes up, and finds nothing in its caches.
    """
    steps = [worker.ask("step")]
    while sum(row["seconds"] for row in steps) < least:
        steps.append(worker.ask("step"))
    sleep(PAUSE)
    return steps[-1] | {"seconds": mean(row["seconds"] for row in steps)}


def describe(spec: Spec, library: str) -> Row:
    """Return the settings that a result belongs to."""
    return {
        "arch": spec.arch,
        "phase": spec.phase,
        "library": library,
        "steps": spec.steps,
        "batch_size": spec.batch_size,
        "size": 0 if spec.is_linear else spec.size,  # of images
        "density_asked": spec.density,
        "memory": spec.memory,  # refsnn's
    }


def summary(spec: Spec, steps: Sequence[Row]) -> Row:
    """Return the median speed over the rounds, and the peak memory of all of them."""
    seconds = [row["seconds"] for row in steps]
    return {
        "images_per_second": median(spec.batch_size / s for s in seconds),
        "peak_mib": max(row["peak_mib"] for row in steps),
        "seconds": seconds,
    }


def ratios(results: Sequence[Row]) -> list[Row]:
    """Return the ratios of the first result to each other one.

    The ratio of speeds is the median of the rounds' ratios, since within a round the machine is in
    the same state for both; the range of these ratios is returned too.
    """
    ours, *others = results
    made = []
    for row in others:
        pairs = zip(ours["seconds"], row["seconds"], strict=True)
        speed = [theirs / mine for mine, theirs in pairs]
        made.append(
            {
                "arch": ours["arch"],
                "phase": ours["phase"],
                "library": row["library"],
                "images_per_second": median(speed),
                "images_per_second_range": [min(speed), max(speed)],
                "peak_mib": ours["peak_mib"] / row["peak_mib"],
            }
        )
    return made
