"""The adapter of PyTorch with a spiking library's neurons in it. Needs torch.

A library's adapter makes neurons; one is kept for each kind that cases want, and used again from
layer to layer and run to run, so that a kept state shows.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.pytorch import PyTorch
from refsnn.oracle.adapters.pytorch_network import Neuron, Spike, State, Tensors
from refsnn.oracle.conventions import CONVENTIONS, PAPER, Value

LEVELS = ("surrogate", "neuron", "layer", "block")
EQ4 = ("tanh", "tanh_literal", "rectangular", "triangular")
#: conventions that may have other values than the paper's
FREE = (
    "leak",
    "fire_at_threshold",
    "reset_gradient",
    "surrogate",
    "surrogate_edge",
    "norm_eps",
    "norm_statistics",
    "norm_scale",
)
FIXED = [n for n, c in CONVENTIONS.items() if c.level in LEVELS and n not in FREE]


class Wanted(Neuron):
    """The neuron of a case, by the names that libraries have for its choices."""

    def __init__(self, conventions: Mapping[str, Value]) -> None:
        self.conventions = conventions
        self.tau, self.v_th = float(conventions["tau"]), float(conventions["v_th"])
        self.decay, self.surrogate = str(conventions["leak"]), str(conventions["surrogate"])
        self.shape = float(conventions["surrogate_shape"])  # k, a or gamma
        self.inclusive = bool(conventions["fire_at_threshold"])
        self.detached = conventions["reset_gradient"] == "detached"
        self.edge_inside = conventions["surrogate_edge"] == "inside"

    def fire(self, x: torch.Tensor) -> torch.Tensor:
        """Spikes of x = u_pre - v_th; dL/dx is by the slope."""
        spikes = x >= 0 if self.inclusive else x > 0
        return Spike.apply(x, spikes.to(x.dtype), self.slope(x.detach()))


class Trace(NamedTuple):
    """What a neuron shows of T steps from u = 0."""

    o: torch.Tensor  # (T, N, ...), differentiable by c
    u_pre: torch.Tensor  # (T, N, ...)
    u: torch.Tensor  # (T, N, ...)
    gain: float = 1.0  # du_pre/dc


Run = Callable[[torch.Tensor], Trace]  # of currents c (T, N, ...)


class TorchLayers(PyTorch):
    """Levels surrogate to block, by the neurons that `make` gives."""

    levels = LEVELS

    def __init__(self, precision: str = "float64") -> None:
        super().__init__(precision)
        self.neurons: dict[tuple[Value, ...], Run] = {}
        self.currents: dict[str, tuple[torch.Tensor, float]] = {}

    def make(self, s: Wanted) -> Run:
        """Unsupported where the library has no such neuron."""
        raise NotImplementedError

    def check(self, case: Any) -> None:
        if case.level not in LEVELS:
            raise Unsupported(f"{self.name} has neurons, and no level {case.level}")
        for name in FIXED:
            if case.conventions[name] != PAPER[name]:
                raise Unsupported(f"{self.name} is run with {name} {PAPER[name]!r} only")
        if case.conventions["reset_gradient"] not in ("full", "detached"):
            raise Unsupported(f"{self.name}'s reset gradient is full or detached")
        if case.conventions["surrogate"] not in EQ4:
            raise Unsupported(f"{self.name} is run with Eq. 4's surrogates only")

    @property
    def neuron(self) -> Run:
        kind = tuple(self.conventions.values())
        if kind not in self.neurons:
            self.neurons[kind] = self.make(Wanted(self.conventions))
        return self.neurons[kind]

    def lif(self, c: torch.Tensor, at: str) -> torch.Tensor:
        o_seq, u_pre_seq, u_seq, gain = self.neuron(c)
        self.seen[at] = [State(*each) for each in zip(u_pre_seq, o_seq, u_seq, strict=True)]
        self.currents[at] = c, gain
        return o_seq

    def leaves(self, at: str) -> list[torch.Tensor]:
        """What a library calls its potential may not be u_pre, and be hidden: dL/dc is not."""
        return [self.currents[at][0]]

    def delta(self, at: str, gradients: list[torch.Tensor]) -> torch.Tensor:
        return gradients[0] / self.currents[at][1]

    def run_surrogate(self, inputs: Tensors, settings: Any) -> Tensors:
        """One step from u = 0, where u_pre = gain c and dL/do = 1."""
        u_pre = inputs["u_pre"].detach()[None]
        gain = self.neuron(torch.zeros_like(u_pre)).gain
        c = (u_pre / gain).requires_grad_()
        (dc,) = torch.autograd.grad(self.neuron(c).o, c, torch.ones_like(c))
        return {"h": dc[0] / gain}

    def number(self, value: float) -> torch.Tensor:
        return torch.tensor(value, dtype=getattr(torch, self.precision))

    def threshold(self, v_th: float, inclusive: bool, wanted: bool) -> float:
        """v_th, or its neighbour where the library's comparison is the other one.

        No float lies between: u >= the next above v_th is u > v_th.
        """
        if inclusive == wanted:
            return v_th
        dtype = np.dtype(self.precision).type
        return float(np.nextafter(dtype(v_th), dtype(np.inf if inclusive else -np.inf)))


def before(u: torch.Tensor) -> torch.Tensor:
    """The potentials that each step starts from."""
    return torch.cat([torch.zeros_like(u[:1]), u[:-1]])
