"""Stopped gradients: values in a forward pass that its gradient takes for constants.

A call of forward at the inputs records what `stop_gradient` is given, call by call. A call at moved
inputs gets these values back, so that finite differences see constants too.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np


class Tape:
    """The values of one forward call: those that it records, or those that it gets back."""

    def __init__(self, values: list[Any], replays: bool) -> None:
        self.values, self.replays, self.calls = values, replays, 0

    def take(self, x: Any) -> Any:
        """Record a value, or return the one that was recorded in its place."""
        self.calls += 1
        if not self.replays:
            self.values.append(copy.deepcopy(x))
            return x
        if self.calls > len(self.values):
            raise ValueError(f"{OTHERWISE} {self.calls} or more, want {len(self.values)}")
        kept = self.values[self.calls - 1]
        if np.shape(x) != np.shape(kept):
            raise ValueError(
                f"stop_gradient: call {self.calls} got shape {tuple(np.shape(x))} at moved inputs, "
                f"want {tuple(np.shape(kept))} as at the inputs themselves"
            )
        return copy.deepcopy(kept)


OTHERWISE = "stop_gradient: the number of calls depends on the inputs: got"
TAPE: ContextVar[Tape | None] = ContextVar("tape", default=None)


@contextmanager
def taped(values: list[Any], replays: bool) -> Iterator[None]:
    """Let calls of `stop_gradient` record into `values`, or replay them in order."""
    if not replays:
        values.clear()
    tape = Tape(values, replays)
    token = TAPE.set(tape)
    try:
        yield
    finally:
        TAPE.reset(token)
    if tape.calls < len(values):
        raise ValueError(f"{OTHERWISE} {tape.calls}, want {len(values)}")


def stop_gradient(x: Any) -> Any:
    """Return x, which the gradient takes for a constant.

    While `gradcheck` moves the inputs of a layer, it is the value at the inputs themselves. For a
    tensor of PyTorch it is `x.detach()`.
    """
    x = x.detach() if hasattr(x, "detach") else x
    tape = TAPE.get()
    return x if tape is None else tape.take(x)
