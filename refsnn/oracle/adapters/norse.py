"""The adapter of Norse: LIFBoxCell and IAFCell.

Its LIFCell is another neuron, with a synaptic current before the potential; `NorseLIFCell` runs
that one as it is.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import norse.torch as norse
import torch
from norse.torch.functional import reset as norse_reset

from refsnn.ops import Array
from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.default_neurons import DefaultNeuron, by_torch
from refsnn.oracle.adapters.torch_layers import Run, TorchLayers, Trace, before
from refsnn.pytorch import LIF


def neuron(
    make: Callable[[Any], Any], start: Any, v_th: Any, to_v: float, scale: float, gain: float
) -> Run:
    """Make a neuron that runs a cell step by step from a zero state, so that none is kept.

    `make` returns the cell with a threshold; with an infinite one, a step shows u_pre. The cell's
    potentials are v = scale u, and its currents to_v c.
    """
    cell, silent = make(v_th), make(torch.full_like(v_th, math.inf))

    def run(c: Any) -> Trace:
        spikes, potentials, state = [], [], start(v=torch.zeros_like(c[0]))
        for i_t in c * to_v:
            o, state = cell(i_t, state)
            spikes.append(o)
            potentials.append(state.v)
        v = torch.stack(potentials).detach()
        _, after = silent(c.detach() * to_v, start(v=before(v)))
        return Trace(torch.stack(spikes), after.v / scale, v / scale, gain)

    return run


def surrogate(s: LIF) -> tuple[str, float, float]:
    """Return Norse's method and alpha, and the scale of potentials that gives the wanted slope.

    The slope of its tanh is 1 - tanh²(alpha x), without a factor in front. With v = k u, the
    derivative with respect to u is k (1 - tanh²(alpha k x)). The triangle alpha max(0, 1 - |x|)
    gets its width in the same way.
    """
    if s.surrogate == "tanh":
        return "tanh", 1 / s.surrogate_shape, s.surrogate_shape
    if s.surrogate == "triangular":
        return "triangle", s.surrogate_shape * s.v_th, 1 / s.v_th
    raise Unsupported(f"Norse has no surrogate {s.surrogate}, and takes none from outside")


class Norse(TorchLayers):
    """Express the paper's neuron by parameters; the surrogate decides the scale of potentials.

    LIFBoxCell integrates v + dt tau_mem_inv (i - v): a leak factor tau is dt tau_mem_inv =
    1 - tau, and a current of weight 1 is i = c / (1 - tau). A leak factor of 1 is IAFCell. The
    reset is a parameter too, so it can be detached.
    """

    name = "Norse"

    def make(self, s: LIF, leak: str) -> Run:
        if leak not in ("tau*u + c", "tau*u + (1-tau)*c"):
            raise Unsupported(f"Norse has no decay {leak}")
        method, alpha, scale = surrogate(s)
        parameters: dict[str, Any] = {"method": method, "alpha": alpha}
        v_th = self.number(self.threshold(s.v_th * scale, False, s.fire_at_threshold))
        if s.tau == 1:
            if s.reset_gradient == "detached" or leak != "tau*u + c":
                raise Unsupported("Norse's IAFCell takes the whole input and differentiates")

            def iaf(v_th: Any) -> Any:
                return norse.IAFCell(norse.IAFParameters(v_th=v_th, **parameters))

            return neuron(iaf, norse.IAFFeedForwardState, v_th, scale, scale, 1.0)

        parameters["tau_mem_inv"] = self.number(1 - s.tau)
        if s.reset_gradient == "detached":
            parameters["reset_method"] = detached

        def box(v_th: Any) -> Any:
            return norse.LIFBoxCell(norse.LIFBoxParameters(v_th=v_th, **parameters), dt=1.0)

        gain, to_v = 1 - s.tau, scale
        if leak == "tau*u + c":
            gain, to_v = 1.0, scale / (1 - s.tau)
        return neuron(box, norse.LIFBoxFeedForwardState, v_th, to_v, scale, gain)


def detached(z: Any, v: Any, reset: Any, v_th: Any) -> Any:
    """Reset as Norse does by default, with the spikes detached."""
    return norse_reset.reset_value(z.detach(), v, reset, v_th)


class NorseDefaults(TorchLayers):
    """Run LIFBoxCell with nothing set but tau_mem_inv and v_th."""

    name = "Norse's defaults"
    forced: Mapping[str, Any] = {
        "leak": "tau*u + (1-tau)*c",
        "fire_at_threshold": False,
        "reset_gradient": "full",
        "surrogate": "fast_sigmoid",
        "surrogate_shape": 1.0,  # method "super" leaves its alpha = 100 out
    }

    def make(self, s: LIF, leak: str) -> Run:
        if s.tau == 1:
            raise Unsupported("LIFBoxCell with a leak factor 1 takes no input")
        dt = 0.001  # s, LIFBoxCell's default

        def box(v_th: Any) -> Any:
            tau_mem_inv = self.number((1 - s.tau) / dt)
            return norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=tau_mem_inv, v_th=v_th))

        v_th = self.number(s.v_th)
        gain = 1 - s.tau
        return neuron(box, norse.LIFBoxFeedForwardState, v_th, 1.0, 1.0, gain)


class NorseLIFCell(DefaultNeuron):
    """Run LIFCell with nothing set."""

    name = "Norse's LIFCell"

    def compute(self, c: Array, do: Array) -> tuple[Array, Array, Array]:
        cell = norse.LIFCell()

        def run(c: Any) -> Any:
            spikes, potentials, state = [], [], None
            for c_t in c:
                o, state = cell(c_t, state)
                spikes.append(o)
                potentials.append(state.v)
            return torch.stack(spikes), torch.stack(potentials)

        return by_torch(run, c, do)
