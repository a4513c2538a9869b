"""SpikingJelly's LIFNode and IFNode."""

import math
from collections.abc import Mapping
from typing import Any

from spikingjelly.activation_based import functional, surrogate
from spikingjelly.activation_based import neuron as nodes

from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.torch_layers import (
    Run,
    TorchLayers,
    Trace,
    Wanted,
    before,
)


def neuron(kind: Any, charge: dict[str, Any], rest: dict[str, Any], gain: float) -> Run:
    """A node in multi-step mode.

    A node does not show u_pre: another with the same charge, and a threshold that nothing
    reaches, has it after a step from the same potential.
    """
    node = kind(**charge, **rest, step_mode="m", store_v_seq=True)
    silent = kind(**charge, v_threshold=math.inf)

    def run(c: Any) -> Trace:
        functional.reset_net(node)
        o = node(c)
        u = node.v_seq.detach()
        functional.reset_net(silent)
        silent.v = before(u)
        silent(c.detach())
        return Trace(o, silent.v, u, gain)

    return run


def built_in(s: Wanted) -> Any:
    """SpikingJelly's own surrogate with the slope that is wanted, None if it has none."""
    if s.surrogate == "tanh" and s.shape == 0.5:
        return surrogate.Sigmoid(alpha=2.0)  # 2 s (1 - s) with s = (1 + tanh x) / 2
    if s.surrogate == "triangular" and s.shape * s.v_th == 1:
        return surrogate.PiecewiseQuadratic(alpha=s.shape)
    if s.surrogate == "rectangular" and s.inclusive and not s.edge_inside:
        return surrogate.Rect(alpha=1 / s.shape)
    return None


class SpikingJelly(TorchLayers):
    """The paper's neuron by constructor arguments.

    LIFNode charges v - v / tau + x when its input does not decay, so a leak factor tau is its
    1 / (1 - tau), and 1 is IFNode. It fires at v_threshold too: above v_th is from the next
    float on. A surrogate that it has not is a function in its place; so is the rectangle where
    that next float would move its edge.
    """

    name = "SpikingJelly"

    def make(self, s: Wanted) -> Run:
        own = built_in(s)
        rest = {
            "v_threshold": self.threshold(s.v_th, True, s.inclusive) if own else s.v_th,
            "v_reset": 0.0,
            "surrogate_function": own or s.fire,
            "detach_reset": s.detached,
        }
        if s.tau == 1 and s.decay == "tau*u + c":
            return neuron(nodes.IFNode, {}, rest, 1.0)
        if s.tau == 1 or s.decay not in ("tau*u + c", "tau*u + (1-tau)*c"):
            raise Unsupported(f"SpikingJelly has no decay {s.decay} with tau = {s.tau:g}")
        scaled = s.decay == "tau*u + (1-tau)*c"
        charge = {"tau": 1 / (1 - s.tau), "decay_input": scaled}
        return neuron(nodes.LIFNode, charge, rest, 1 - s.tau if scaled else 1.0)


class SpikingJellyDefaults(TorchLayers):
    """LIFNode as it is when only tau and v_threshold are set."""

    name = "SpikingJelly's defaults"
    forced: Mapping[str, Any] = {
        "leak": "tau*u + (1-tau)*c",
        "fire_at_threshold": True,
        "surrogate": "sigmoid",
        "reset_gradient": "full",
    }

    def make(self, s: Wanted) -> Run:
        if s.tau == 1:
            raise Unsupported("LIFNode has no leak factor 1, which is IFNode")
        charge = {"tau": 1 / (1 - s.tau)}
        rest = {"v_threshold": s.v_th}
        return neuron(nodes.LIFNode, charge, rest, 1 - s.tau)
