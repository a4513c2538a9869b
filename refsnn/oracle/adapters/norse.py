"""Norse's LIFBoxCell (LIFCell has a synaptic current before the potential) and IAFCell."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import norse.torch as norse
import torch
from norse.torch.functional import reset as norse_reset

from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.torch_layers import Run, TorchLayers, Trace, Wanted, before


def neuron(
    make: Callable[[Any], Any], start: Any, v_th: Any, to_v: float, scale: float, gain: float
) -> Run:
    """A cell, step by step, from a state that is given, so that nothing is kept.

    `make` gives the cell of a threshold; with one that nothing reaches, a step shows u_pre.
    Potentials of the cell are v = scale u, its currents to_v c.
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


def surrogate(s: Wanted) -> tuple[str, float, float]:
    """Norse's method and alpha, and the unit of potential in which its slope is the wanted one.

    Its tanh has the slope 1 - tanh²(alpha x), without a factor before it. With v = k u it is
    k (1 - tanh²(alpha k x)) by u. So the triangle, alpha max(0, 1 - |x|), gets its width.
    """
    if s.surrogate == "tanh":
        return "tanh", 1 / s.shape, s.shape
    if s.surrogate == "triangular":
        return "triangle", s.shape * s.v_th, 1 / s.v_th
    raise Unsupported(f"Norse has no surrogate {s.surrogate}, and takes none from outside")


class Norse(TorchLayers):
    """The paper's neuron by parameters, in a unit of potential that the surrogate decides.

    LIFBoxCell integrates v + dt tau_mem_inv (i - v): a leak factor tau is dt tau_mem_inv =
    1 - tau, and a current of weight 1 is i = c / (1 - tau). A leak factor 1 is IAFCell. The
    reset is a function that can be given, so it can be detached.
    """

    name = "Norse"

    def make(self, s: Wanted) -> Run:
        if s.decay not in ("tau*u + c", "tau*u + (1-tau)*c"):
            raise Unsupported(f"Norse has no decay {s.decay}")
        method, alpha, scale = surrogate(s)
        parameters: dict[str, Any] = {"method": method, "alpha": alpha}
        v_th = self.number(self.threshold(s.v_th * scale, False, s.inclusive))
        if s.tau == 1:
            if s.detached or s.decay != "tau*u + c":
                raise Unsupported("Norse's IAFCell takes the whole input and differentiates")

            def iaf(v_th: Any) -> Any:
                return norse.IAFCell(norse.IAFParameters(v_th=v_th, **parameters))

            return neuron(iaf, norse.IAFFeedForwardState, v_th, scale, scale, 1.0)

        parameters["tau_mem_inv"] = self.number(1 - s.tau)
        if s.detached:
            parameters["reset_method"] = detached

        def box(v_th: Any) -> Any:
            return norse.LIFBoxCell(norse.LIFBoxParameters(v_th=v_th, **parameters), dt=1.0)

        gain, to_v = 1 - s.tau, scale
        if s.decay == "tau*u + c":
            gain, to_v = 1.0, scale / (1 - s.tau)
        return neuron(box, norse.LIFBoxFeedForwardState, v_th, to_v, scale, gain)


def detached(z: Any, v: Any, reset: Any, v_th: Any) -> Any:
    return norse_reset.reset_value(z.detach(), v, reset, v_th)


class NorseDefaults(TorchLayers):
    """LIFBoxCell as it is when only tau_mem_inv and v_th are set."""

    name = "Norse's defaults"
    forced: Mapping[str, Any] = {
        "leak": "tau*u + (1-tau)*c",
        "fire_at_threshold": False,
        "reset_gradient": "full",
        "surrogate": "superspike, alpha 1",  # method "super" leaves its alpha = 100 out
    }

    def make(self, s: Wanted) -> Run:
        if s.tau == 1:
            raise Unsupported("LIFBoxCell with a leak factor 1 takes no input")
        dt = 0.001  # s, LIFBoxCell's default

        def box(v_th: Any) -> Any:
            tau_mem_inv = self.number((1 - s.tau) / dt)
            return norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=tau_mem_inv, v_th=v_th))

        v_th = self.number(s.v_th)
        gain = 1 - s.tau
        return neuron(box, norse.LIFBoxFeedForwardState, v_th, 1.0, 1.0, gain)
