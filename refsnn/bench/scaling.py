"""Measurement of how a step's time and memory grow with T and batch size, and fall with threads."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from refsnn.bench.measure import WARM_UP, Row, Say, prepared, turn
from refsnn.bench.processes import Worker
from refsnn.bench.workload import Spec
from refsnn.system import usable_cores

POINTS = {"steps": (1, 2, 4, 8, 16), "batch_size": (4, 8, 16, 32)}
THREADS = (1, 2, 4, 8, 16)  # those of which there are cores


def scaling(spec: Spec, repeats: int, say: Say) -> Iterator[Row]:
    """Yield the results against T, batch size and, unless the spec sets them, threads."""
    threads = tuple(n for n in THREADS if n <= usable_cores() and spec.threads is None)
    points = POINTS | ({"threads": threads} if len(threads) > 1 else {})
    with prepared(spec) as (ready, _):
        for against, values in points.items():
            seconds, mib = [], []
            for value in values:
                say(f"{spec.arch} {spec.phase}: {against} {value}")
                change: dict[str, Any] = {against: value}
                with Worker(replace(ready, **change)) as worker:
                    worker.answer()
                    answers = [turn(worker) for _ in range(WARM_UP + repeats)]
                seconds.append(median(a["seconds"] for a in answers[WARM_UP:]))
                mib.append(max(a["peak_mib"] for a in answers))
            yield {
                "arch": spec.arch,
                "phase": spec.phase,
                "library": spec.library,
                "against": against,
                "values": list(values),
                "fixed": {n: getattr(spec, n) for n in ("steps", "batch_size") if n != against},
                "seconds": seconds,
                "seconds_deviation_percent": deviation(values, seconds),
                "peak_mib": mib,
                "peak_mib_deviation_percent": deviation(values, mib),
            }


def deviation(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the largest distance from the least-squares line a + b x, in % of the line."""
    b, a = np.polyfit(x, y, 1)
    line = a + b * np.asarray(x)
    return float(100 * np.max(np.abs(np.asarray(y) / line - 1)))
