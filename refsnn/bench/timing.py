"""Breakdown of a step's time, by timing every operation of an `Ops` record."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from refsnn.ops import Ops

FORWARD, DX, DW = "convolution forward", "convolution dx", "convolution dw"
LINEAR = "linear"
NEURON, REST = "norm and neuron", "rest"
#: operation -> part of the step; every other operation belongs to the rest
PARTS = {
    "conv_forward": FORWARD,
    "conv_input_gradient": DX,
    "conv_add_input_gradient": DX,
    "conv_weight_gradient": DW,
    "linear_forward": LINEAR,
    "linear_backward": LINEAR,
    "batchnorm_forward": NEURON,
    "batchnorm_backward": NEURON,
    "lif_forward": NEURON,
    "lif_backward": NEURON,
    "norm_neuron_forward": NEURON,
    "norm_neuron_backward": NEURON,
}
#: operation -> its direction as `conv_choice` names it
DIRECTIONS = {
    "conv_forward": "forward",
    "conv_input_gradient": "input_gradient",
    "conv_add_input_gradient": "input_gradient",
    "conv_weight_gradient": "weight_gradient",
}


class Convolution(NamedTuple):
    """The shape, direction and algorithm of a convolution or its gradient, which group calls."""

    shape: str
    direction: str
    choice: str


class Call(NamedTuple):
    name: str
    seconds: float  # without the operations that it called
    gflop: float  # operations of a direct convolution, in 10^9
    bytes: int  # size of the distinct arrays among arguments and results
    convolution: Convolution | None
    density: float  # fraction of the convolution's input that is not zero


class Watch:
    """Record the calls of operations; a caller's time excludes the calls that it makes.

    With `look`, also record algorithm and density, which takes time and evicts caches.
    """

    def __init__(self, ops: Ops, look: bool = False) -> None:
        self.calls: list[Call] = []
        self.inner: list[float] = []  # seconds of inner calls, for each call in progress
        self.aside = 0.0  # seconds spent on recording
        self.look = look
        self.choice = ops.conv_choice or (lambda *_: ops.name)
        wrapped: dict[str, Any] = {
            item.name: self.wrap(item.name, getattr(ops, item.name))
            for item in fields(ops)
            if callable(getattr(ops, item.name)) and item.name != "conv_choice"
        }
        self.ops = replace(ops, **wrapped)

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with timing around it."""

        def timed(*args: Any, **options: Any) -> Any:
            self.inner.append(0.0)
            start = perf_counter()
            result = function(*args, **options)
            end = perf_counter()
            own = end - start - self.inner.pop()
            self.calls.append(self.describe(name, own, args, options, result))
            done = perf_counter()
            self.aside += done - end
            if self.inner:
                self.inner[-1] += done - start
            return result

        return timed

    def describe(self, name: str, own: float, args: Any, options: Any, result: Any) -> Call:
        """Return the record of a call that took `own` seconds."""
        size = sum(distinct((args, options, result)).values()) if PARTS.get(name) == NEURON else 0
        if name.startswith("linear_"):
            (x, w), passes = (args[:2], 1) if name == "linear_forward" else (args[1], 2)
            return Call(name, own, 2e-9 * passes * len(x) * w.size, 0, None, 0.0)
        if not name.startswith("conv_"):
            return Call(name, own, 0.0, size, None, 0.0)
        y, cache = result if name == "conv_forward" else args[:2]
        x, w, p = cache.x, cache.w, cache.p
        gflop = 2e-9 * y.size * w.shape[0] * w.shape[1] * w.shape[2]
        choice, density = "", 0.0
        if self.look:
            choice = self.choice(DIRECTIONS[name], x, w, p)
            density = np.count_nonzero(x) / x.size
        kind = Convolution(shape_of(x, w, p), DIRECTIONS[name], choice)
        return Call(name, own, gflop, size, kind, density)


def shape_of(x: Any, w: Any, p: Any) -> str:
    """Return a convolution's shape in words, such as 128x32x32x16 3x3/1 -> 16."""
    images, height, width, c_in = x.shape
    kernel = f"{w.shape[0]}x{w.shape[1]}/{p.stride[0]}"
    return f"{images}x{height}x{width}x{c_in} {kernel} -> {w.shape[3]}"


def distinct(value: Any) -> dict[tuple[int, int], int]:
    """Return the bytes of each distinct array in nested tuples, lists and dicts."""
    if isinstance(value, np.ndarray):
        return {(value.__array_interface__["data"][0], value.nbytes): value.nbytes}
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return {}
    return {key: size for item in value for key, size in distinct(item).items()}


def watch(step: Callable[[Ops], None], ops: Ops, repeats: int) -> tuple[float, list[Call]]:
    """Return seconds and calls of the step with the median time among `repeats`.

    Algorithms and densities are taken from a separate step before.
    """
    seen = Watch(ops, look=True)
    step(seen.ops)
    runs = []
    for _ in range(repeats):
        timed = Watch(ops)
        start = perf_counter()
        step(timed.ops)
        runs.append((perf_counter() - start - timed.aside, timed.calls))
    runs.sort(key=lambda run: run[0])
    seconds, calls = runs[len(runs) // 2]
    return seconds, [
        call._replace(convolution=known.convolution, density=known.density)
        for call, known in zip(calls, seen.calls, strict=True)
    ]


def breakdown(
    seconds: float, calls: list[Call], gemm_gflops: float, copy_gib_s: float
) -> dict[str, Any]:
    """Return the parts of the step and its convolutions, relative to the machine's peaks."""
    parts: dict[str, list[Call]] = {}
    for call in calls:
        parts.setdefault(PARTS.get(call.name, REST), []).append(call)
    parts.setdefault(REST, [])
    rows = []
    for part in [*dict.fromkeys(PARTS.values()), REST]:
        if part not in parts:
            continue
        took = sum(call.seconds for call in parts[part])
        if part == REST:  # includes the time outside operations
            took = seconds - sum(c.seconds for name in parts if name != REST for c in parts[name])
        row: dict[str, Any] = {"part": part, "seconds": took, "share": took / seconds}
        if gflop := sum(call.gflop for call in parts[part]):
            row |= {"gflop": gflop, "gflops": gflop / took}
            row |= {"of_gemm_peak": gflop / took / gemm_gflops}
        if gib := sum(call.bytes for call in parts[part]) / 2**30:
            row |= {"gib": gib, "gib_s": gib / took, "of_copy_peak": gib / took / copy_gib_s}
        rows.append(row)
    convolutions = list(by_shape(calls, gemm_gflops))
    return {"seconds": seconds, "parts": rows, "convolutions": convolutions}


def by_shape(calls: list[Call], gemm_gflops: float) -> Iterator[dict[str, Any]]:
    """Yield the sums over equal convolutions, in order of their first call."""
    groups: dict[Convolution, list[Call]] = {}
    for call in calls:
        if call.convolution is not None:
            groups.setdefault(call.convolution, []).append(call)
    for kind, group in groups.items():
        took, gflop = sum(c.seconds for c in group), sum(c.gflop for c in group)
        yield {
            **kind._asdict(),
            "calls": len(group),
            "density": sum(c.density for c in group) / len(group),
            "seconds": took,
            "gflops": gflop / took,
            "of_gemm_peak": gflop / took / gemm_gflops,
        }
