"""Comparison of the algorithm that each convolution takes with all that it could take."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from refsnn.bench.timing import DIRECTIONS, Convolution, shape_of
from refsnn.bench.workload import Spec, load_numbers, ops_of, refsnn_step
from refsnn.ops import CONV_METHODS

ROUNDS = 5
NEVER = ("auto", "direct")  # not an algorithm, and for float64 alone


class Example(NamedTuple):
    """A convolution of a step, with the algorithms that can compute it, the chosen one first."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    density: float
    methods: list[str]


def examples(spec: Spec) -> dict[Convolution, Example]:
    """Return the first convolution of a step for each shape, direction and choice."""
    ops, found = ops_of(spec), dict[Convolution, Example]()
    choose: Any = ops.conv_choice

    def wrap(name: str) -> Callable[..., Any]:
        function = getattr(ops, name)

        def seen(*arguments: Any) -> Any:
            result = function(*arguments)
            x, w, p = arguments if name == "conv_forward" else arguments[1]
            given = (DIRECTIONS[name], x, w, p)
            chosen = choose(*given)
            others = (m for m in CONV_METHODS if m not in (*NEVER, chosen))
            usable = [chosen, *(m for m in others if choose(*given, method=m) == m)]
            kind = Convolution(shape_of(x, w, p), DIRECTIONS[name], chosen)
            density = np.count_nonzero(x) / x.size
            found.setdefault(kind, Example(function, arguments, density, usable))
            return result

        return seen

    watched: dict[str, Any] = {name: wrap(name) for name in DIRECTIONS}
    refsnn_step(spec, *load_numbers(spec))(replace(ops, **watched))
    return found


def choices(spec: Spec) -> list[dict[str, Any]]:
    """Time every algorithm of every convolution, in turns; return a row for each convolution.

    `ratio` is the time of the chosen algorithm over the fastest one's, each the median of its
    rounds.
    """
    rows = []
    for kind, (function, arguments, density, methods) in examples(spec).items():
        seconds: dict[str, list[float]] = {method: [] for method in methods}
        for _ in range(1 + ROUNDS):  # the first round compiles, and fills the caches
            for method in methods:
                start = perf_counter()
                function(*arguments, method=method)
                seconds[method].append(perf_counter() - start)
        medians = {method: median(times[1:]) for method, times in seconds.items()}
        best = min(medians, key=lambda method: medians[method])
        rows.append(
            {
                **kind._asdict(),
                "density": density,
                "seconds": medians,
                "best": best,
                "ratio": medians[kind.choice] / medians[best],
            }
        )
    return rows
