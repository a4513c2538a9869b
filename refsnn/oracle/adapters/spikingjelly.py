"""The adapter of SpikingJelly: LIFNode, IFNode and ParametricLIFNode."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from spikingjelly.activation_based import functional, surrogate
from spikingjelly.activation_based import neuron as nodes

from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.pytorch import NEURON, Tensors
from refsnn.oracle.adapters.torch_layers import Run, TorchLayers, Trace, before
from refsnn.oracle.conventions import PAPER
from refsnn.pytorch import LIF


def neuron(kind: Any, charge: dict[str, Any], rest: dict[str, Any], gain: float) -> Run:
    """Make a neuron that runs a node in multi-step mode.

    A node does not show u_pre; another node with the same charge and an infinite threshold has it
    after one step from the same potential.
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


def built_in(s: LIF) -> Any:
    """Return SpikingJelly's own surrogate with the wanted slope, None where it has none."""
    if s.surrogate == "tanh" and s.surrogate_shape == 0.5:
        return surrogate.Sigmoid(alpha=2.0)  # 2 s (1 - s) with s = (1 + tanh x) / 2
    if s.surrogate == "triangular" and s.surrogate_shape * s.v_th == 1:
        return surrogate.PiecewiseQuadratic(alpha=s.surrogate_shape)
    if s.surrogate == "rectangular" and s.fire_at_threshold and s.surrogate_edge == "outside":
        return surrogate.Rect(alpha=1 / s.surrogate_shape)
    return None


class SpikingJelly(TorchLayers):
    """Express the paper's neuron by constructor arguments.

    LIFNode charges v - v / tau + x when its input does not decay, so its tau is 1 / (1 - tau),
    and a leak factor of 1 is IFNode. It fires at v_threshold too, so that firing above v_th takes
    the next float as its threshold. Where it lacks the surrogate a function takes its place; so
    for the rectangle, whose edge that next float would move.
    """

    name = "SpikingJelly"

    def make(self, s: LIF, leak: str) -> Run:
        rest = self.rest(s)
        if s.tau == 1 and leak == "tau*u + c":
            return neuron(nodes.IFNode, {}, rest, 1.0)
        if s.tau == 1 or leak not in ("tau*u + c", "tau*u + (1-tau)*c"):
            raise Unsupported(f"SpikingJelly has no decay {leak} with tau = {s.tau:g}")
        scaled = leak == "tau*u + (1-tau)*c"
        charge = {"tau": 1 / (1 - s.tau), "decay_input": scaled}
        return neuron(nodes.LIFNode, charge, rest, 1 - s.tau if scaled else 1.0)

    def rest(self, s: LIF) -> dict[str, Any]:
        """Return a node's arguments for threshold, reset and surrogate."""
        own = built_in(s)
        return {
            "v_threshold": self.threshold(s.v_th, True, s.fire_at_threshold) if own else s.v_th,
            "v_reset": 0.0,
            "surrogate_function": own or s.fire,
            "detach_reset": s.reset_gradient == "detached",
        }

    def check(self, case: Any) -> None:
        """Raise Unsupported for what SpikingJelly is not run with; PLIF it has."""
        own_levels = ("surrogate", "neuron")
        if case.level in own_levels and case.conventions.get("neuron_model") == "plif":
            own = ("neuron_model", "plif_input_decay")
            lif = case.conventions | {name: PAPER[name] for name in own}
            case = SimpleNamespace(level=case.level, conventions=lif)
        super().check(case)

    def run_neuron(self, inputs: Tensors, settings: Any) -> Tensors:
        """Return what the neurons of a case compute."""
        if self.conventions["neuron_model"] == "plif":
            return self.run_plif(inputs)
        return super().run_neuron(inputs, settings)

    def run_plif(self, inputs: Tensors) -> Tensors:
        """Return what ParametricLIFNode computes; u_pre is that of `neuron`'s silent node."""
        scaled = bool(self.conventions["plif_input_decay"])
        c, w = inputs["c"].requires_grad_(), inputs["w"]
        rest = self.rest(LIF(1, **{name: self.conventions[name] for name in NEURON}))
        node = nodes.ParametricLIFNode(decay_input=scaled, **rest, step_mode="m", store_v_seq=True)
        silent = nodes.ParametricLIFNode(decay_input=scaled, v_threshold=math.inf)
        for made in (node, silent):
            made.w.data = w.reshape(())
        o = node(c)
        dc, dw = torch.autograd.grad((o * inputs["do"]).sum(), [c, node.w])
        silent.v = before(node.v_seq.detach())
        silent(c.detach())
        return {"u_pre": silent.v, "o": o, "dc": dc, "grad.w": dw.reshape(1)}


class SpikingJellyDefaults(TorchLayers):
    """Run LIFNode with nothing set but tau and v_threshold."""

    name = "SpikingJelly's defaults"
    forced: Mapping[str, Any] = {
        "leak": "tau*u + (1-tau)*c",
        "fire_at_threshold": True,
        "surrogate": "sigmoid",
        "surrogate_shape": 4.0,
        "reset_gradient": "full",
    }

    def make(self, s: LIF, leak: str) -> Run:
        if s.tau == 1:
            raise Unsupported("LIFNode has no leak factor 1, which is IFNode")
        charge = {"tau": 1 / (1 - s.tau)}
        rest = {"v_threshold": s.v_th}
        return neuron(nodes.LIFNode, charge, rest, 1 - s.tau)
