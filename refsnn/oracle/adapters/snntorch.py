"""The adapter of snnTorch: Leaky, in float32, which its surrogates return for any input."""

from collections.abc import Mapping
from typing import Any

import snntorch
import torch
from snntorch import surrogate

from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.torch_layers import Run, TorchLayers, Trace, before
from refsnn.pytorch import LIF


def run_leaky(leaky: Any, c: Any) -> tuple[Any, Any]:
    """Return the spikes and what Leaky calls mem, both (T, N, ...)."""
    spikes, mems, mem = [], [], leaky.reset_mem()
    for c_t in c:
        o, mem = leaky(c_t, mem)
        spikes.append(o)
        mems.append(mem)
    return torch.stack(spikes), torch.stack(mems)


def spike_grad(s: LIF) -> Any:
    """Return snnTorch's surrogate with the wanted slope."""
    if s.surrogate == "tanh" and s.surrogate_shape == 0.5:
        return surrogate.sigmoid(slope=2)  # 2 s (1 - s) with s = (1 + tanh x) / 2
    return surrogate.custom_surrogate(lambda x, grad, spikes: grad * s.slope(x))


class SnnTorch(TorchLayers):
    """Express the paper's neuron by constructor arguments.

    With reset_delay=False Leaky resets in the step that fires, by mem - spk mem = u_pre (1 - o),
    differentiated; its late reset then does nothing, as mem is below the threshold already. With
    reset_delay=True the potentials are the same and the reset is detached: mem is u_pre, and the
    next step starts from (1 - reset) mem.
    """

    name = "snnTorch"

    def __init__(self) -> None:
        super().__init__("float32")

    def make(self, s: LIF, leak: str) -> Run:
        if leak != "tau*u + c":
            raise Unsupported(f"snnTorch has no decay {leak}")
        if s.fire_at_threshold and s.surrogate == "rectangular":
            raise Unsupported("the next float below v_th, to fire there, would move the edge")
        threshold = self.threshold(s.v_th, False, s.fire_at_threshold)
        leaky = snntorch.Leaky(
            beta=s.tau,
            threshold=threshold,
            spike_grad=spike_grad(s),
            reset_mechanism="zero",
            reset_delay=s.reset_gradient == "detached",
        )
        silent = snntorch.Leaky(beta=s.tau, reset_mechanism="none")

        def run(c: Any) -> Trace:
            o, mem = run_leaky(leaky, c)
            mem = mem.detach()
            if s.reset_gradient == "detached":
                return Trace(o, mem, mem - leaky.mem_reset(mem) * mem)
            return Trace(o, silent(c.detach(), before(mem))[1], mem)

        return run


class SnnTorchDefaults(TorchLayers):
    """Run Leaky with nothing set but beta and threshold."""

    name = "snnTorch's defaults"
    forced: Mapping[str, Any] = {
        "leak": "tau*u + c",
        "fire_at_threshold": False,
        "reset": "subtract, next step",
        "surrogate": "atan",
        "surrogate_shape": 2.0,
        "reset_gradient": "detached",
    }

    def __init__(self) -> None:
        super().__init__("float32")

    def make(self, s: LIF, leak: str) -> Run:
        leaky = snntorch.Leaky(beta=s.tau, threshold=s.v_th)

        def run(c: Any) -> Trace:
            o, mem = run_leaky(leaky, c)
            return Trace(o, mem, mem)  # the reset comes with the next step

        return run
