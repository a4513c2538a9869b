"""The PyTorch adapter with a spiking library's neurons in place of its own. Needs torch.

A library's adapter makes one neuron for each set of conventions and uses it for all layers and
runs, so that state kept between them becomes visible.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.pytorch import NUMERIC, PyTorch, Tensors
from refsnn.oracle.conventions import CONVENTIONS, PAPER, Value
from refsnn.oracle.slopes import EQ4
from refsnn.pytorch import LIF, State

LEVELS = ("surrogate", "neuron", "layer", "block")
#: conventions that may have another value than the paper's
FREE = (
    *NUMERIC,
    "leak",
    "fire_at_threshold",
    "reset_gradient",
    "surrogate",
    "surrogate_edge",
    "norm_statistics",
    "norm_scale",
)
FIXED = [n for n, c in CONVENTIONS.items() if c.level in LEVELS and n not in FREE]


class Trace(NamedTuple):
    """The states of a neuron over T steps from u = 0; o, u_pre and u are (T, N, ...)."""

    o: torch.Tensor  # differentiable with respect to c
    u_pre: torch.Tensor
    u: torch.Tensor
    gain: float = 1.0  # du_pre/dc


Run = Callable[[torch.Tensor], Trace]  # takes currents c (T, N, ...)


class LibraryNeuron(nn.Module):
    """A layer of a library's neurons, which keeps their last states.

    `run` is outside the module tree: several layers share it, and it has no parameters.
    """

    record = True

    def __init__(self, steps: int, run: Run) -> None:
        super().__init__()
        self.steps, self.run = steps, (run,)

    def forward(self, c: torch.Tensor) -> torch.Tensor:
        """Return the spikes of currents (T N, ...)."""
        self.c = c
        (run,) = self.run
        o, u_pre, u, self.gain = run(c.unflatten(0, (self.steps, -1)))
        self.states = [State(*state) for state in zip(u_pre, o, u, strict=True)]
        return o.flatten(0, 1)


class TorchLayers(PyTorch):
    """Run cases of the levels surrogate to block with the neurons that `make` returns."""

    levels = LEVELS

    def __init__(self, precision: str = "float64") -> None:
        super().__init__(precision)
        self.neurons: dict[tuple[Value, ...], Run] = {}

    def make(self, wanted: LIF, leak: str) -> Run:
        """Make the library's neuron that computes what `wanted` does, with this form of Eq. 1.

        Unsupported where the library has none.
        """
        raise NotImplementedError

    def check(self, case: Any) -> None:
        """Raise Unsupported for a case that no library is run with."""
        if case.level not in LEVELS:
            raise Unsupported(f"{self.name} has neurons, and no level {case.level}")
        asked = {n: v for n, v in case.conventions.items() if n not in self.forced}
        for name in FIXED:
            if asked.get(name, PAPER[name]) != PAPER[name]:
                raise Unsupported(f"{self.name} is run with {name} {PAPER[name]!r} only")
        if asked.get("reset_gradient", "full") not in ("full", "detached"):
            raise Unsupported(f"{self.name}'s reset gradient is full or detached")
        if asked.get("surrogate", "tanh") not in EQ4:
            raise Unsupported(f"{self.name} is run with Eq. 4's surrogates only")

    def kept(self) -> Run:
        """Return the library's neuron for the case's conventions, the same one every time."""
        kind = tuple(self.conventions.values())
        if kind not in self.neurons:
            self.neurons[kind] = self.make(super().neuron(1), str(self.conventions["leak"]))
        return self.neurons[kind]

    def neuron(self, steps: int) -> LibraryNeuron:
        """Make a layer of the library's neurons."""
        return LibraryNeuron(steps, self.kept())

    def leaves(self, layer: Any) -> list[torch.Tensor]:
        """Return the currents: a library may hide u_pre, and give the name to another potential."""
        return [layer.c]

    def delta(self, layer: Any, gradients: list[torch.Tensor]) -> torch.Tensor:
        """Return dL/du_pre (T, N, ...) of a layer from dL/dc."""
        return gradients[0].unflatten(0, (layer.steps, -1)) / layer.gain

    def run_surrogate(self, inputs: Tensors, settings: Any) -> Tensors:
        """Return the slope at u_pre, from one step with c = u_pre / gain and dL/do = 1."""
        run, u_pre = self.kept(), inputs["u_pre"][None]
        gain = run(torch.zeros_like(u_pre)).gain
        c = (u_pre / gain).requires_grad_()
        (dc,) = torch.autograd.grad(run(c).o, c, torch.ones_like(c))
        return {"h": dc[0] / gain}

    def number(self, value: float) -> torch.Tensor:
        """Return the value as a tensor of the adapter's precision."""
        return torch.tensor(value, dtype=getattr(torch, self.precision))

    def threshold(self, v_th: float, at_threshold: bool, wanted: bool) -> float:
        """Return v_th, or the float next to it where the library's comparison is the other one.

        `at_threshold` says whether the library fires at its threshold, `wanted` whether it should.
        No float lies between: u >= the next float above v_th means u > v_th.
        """
        if at_threshold == wanted:
            return v_th
        dtype = np.dtype(self.precision).type
        return float(np.nextafter(dtype(v_th), dtype(np.inf if at_threshold else -np.inf)))


def before(u: torch.Tensor) -> torch.Tensor:
    """Return the potentials that the steps start from, given those after them."""
    return torch.cat([torch.zeros_like(u[:1]), u[:-1]])
