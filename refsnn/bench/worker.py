"""The worker process of the benchmark, which has its own memory and threads for one task.

`python -m refsnn.bench.worker SPEC` prints a line of JSON when it is ready, and one for each line
that it reads. The line "step" asks for a timed step; a JSON object with the machine's peaks asks
for the breakdown of a step.
"""

import json
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple, TextIO

from refsnn.bench import density, linear_lif
from refsnn.bench.workload import Spec, load_numbers, ops_of, read_numbers, refsnn_step
from refsnn.ops import LIF, Ops
from refsnn.process import keep_freed_memory
from refsnn.system import peak_memory

BREAKDOWN_REPEATS = 3


def peak_mib() -> float:
    """Return this process's peak resident memory in MiB."""
    return peak_memory() / 2**20


def main(spec: Spec, commands: TextIO, answer: Callable[[dict[str, Any]], None]) -> None:
    """Run the spec's task."""
    if spec.task == "prepare":
        answer((linear_lif if spec.is_linear else density).prepare(spec))
    elif spec.task == "peaks":
        from refsnn.bench.peaks import peaks

        answer(peaks())
    elif spec.task == "choices":
        from refsnn.bench.choices import choices

        answer({"choices": choices(spec)})
    else:
        serve(spec, commands, answer)


def serve(spec: Spec, commands: TextIO, answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer commands until the input ends."""
    worker = ready(spec)
    answer({"baseline_mib": worker.baseline_mib, "threads": worker.threads})
    for line in commands:
        if line.strip() == "step":
            start = perf_counter()
            worker.step()
            answer({"seconds": perf_counter() - start, "peak_mib": peak_mib()})
        else:
            answer(worker.analyse(**json.loads(line)))


class Ready(NamedTuple):
    """A library that is ready to run steps."""

    step: Callable[[], Any]
    analyse: Callable[..., dict[str, Any]]  # returns a step's breakdown, given the peaks
    threads: int
    baseline_mib: float  # peak memory after the imports


def ready(spec: Spec) -> Ready:
    """Prepare the spec's library."""
    return refsnn_ready(spec) if spec.library == "refsnn" else peer_ready(spec)


def refsnn_ready(spec: Spec) -> Ready:
    """Prepare refsnn."""
    from refsnn.bench.timing import breakdown, watch

    ops, threads = ops_of(spec), 1
    if spec.ops == "numba":
        from refsnn.kernels.threads import get_num_threads

        threads = get_num_threads()
    keep_freed_memory(large=not spec.is_low)
    baseline = peak_mib()
    if spec.is_linear:
        step: Callable[[Ops], Any] = linear_lif.refsnn_step(spec, read_numbers(spec))
    else:
        step = refsnn_step(spec, *load_numbers(spec))

    def analyse(gemm_gflops: float, copy_gib_s: float) -> dict[str, Any]:
        return breakdown(*watch(step, ops, BREAKDOWN_REPEATS), gemm_gflops, copy_gib_s)

    return Ready(lambda: step(ops), analyse, threads, baseline)


def peer_ready(spec: Spec) -> Ready:
    """Prepare PyTorch with the neurons of the spec's library."""
    import torch

    from refsnn.bench.peer_neurons import NEURONS
    from refsnn.bench.peers import peer_step

    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    NEURONS[spec.library](1, LIF())  # imports the library
    baseline = peak_mib()
    if spec.is_linear:
        step = linear_lif.peer_step(spec, read_numbers(spec))
    else:
        step = peer_step(spec, *load_numbers(spec))

    def refuse(**peaks: float) -> dict[str, Any]:
        raise ValueError(f"library: got {spec.library}, want refsnn for a breakdown")

    return Ready(step, refuse, torch.get_num_threads(), baseline)


if __name__ == "__main__":
    # what libraries print must not mix with the answers
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    main(Spec(**json.loads(sys.argv[1])), sys.stdin, write)
