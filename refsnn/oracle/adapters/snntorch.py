"""snnTorch's Leaky. Its surrogates return float32 whatever they get, so float32 it is."""

from collections.abc import Mapping
from typing import Any

import snntorch
import torch
from snntorch import surrogate

from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.torch_layers import Run, TorchLayers, Trace, Wanted, before


def run_leaky(leaky: Any, c: Any) -> tuple[Any, Any]:
    """Spikes and what Leaky calls mem, both (T, N, ...)."""
    spikes, mems, mem = [], [], leaky.reset_mem()
    for c_t in c:
        o, mem = leaky(c_t, mem)
        spikes.append(o)
        mems.append(mem)
    return torch.stack(spikes), torch.stack(mems)


def spike_grad(s: Wanted) -> Any:
    if s.surrogate == "tanh" and s.shape == 0.5:
        return surrogate.sigmoid(slope=2)  # 2 s (1 - s) with s = (1 + tanh x) / 2
    return surrogate.custom_surrogate(lambda x, grad, spikes: grad * s.slope(x))


class SnnTorch(TorchLayers):
    """The paper's neuron by constructor arguments.

    With reset_delay=False Leaky resets in the step that fires, by mem - spk mem = u_pre (1 - o),
    differentiated; its late reset then never acts, as mem is below the threshold already. With
    reset_delay=True the same potentials come about, and the reset is detached: mem is u_pre, and
    the next step starts from (1 - reset) mem.
    """

    name = "snnTorch"

    def __init__(self) -> None:
        super().__init__("float32")

    def make(self, s: Wanted) -> Run:
        if s.decay != "tau*u + c":
            raise Unsupported(f"snnTorch has no decay {s.decay}")
        if s.inclusive and s.surrogate == "rectangular":
            raise Unsupported("the next float below v_th, to fire there, would move the edge")
        threshold = self.threshold(s.v_th, False, s.inclusive)
        leaky = snntorch.Leaky(
            beta=s.tau,
            threshold=threshold,
            spike_grad=spike_grad(s),
            reset_mechanism="zero",
            reset_delay=s.detached,
        )
        silent = snntorch.Leaky(beta=s.tau, reset_mechanism="none")

        def run(c: Any) -> Trace:
            o, mem = run_leaky(leaky, c)
            mem = mem.detach()
            if s.detached:
                return Trace(o, mem, mem - leaky.mem_reset(mem) * mem)
            return Trace(o, silent(c.detach(), before(mem))[1], mem)

        return run


class SnnTorchDefaults(TorchLayers):
    """Leaky as it is when only beta and threshold are set."""

    name = "snnTorch's defaults"
    forced: Mapping[str, Any] = {
        "leak": "tau*u + c",
        "fire_at_threshold": False,
        "reset": "subtract, next step",
        "surrogate": "atan",
        "reset_gradient": "detached",
    }

    def __init__(self) -> None:
        super().__init__("float32")

    def make(self, s: Wanted) -> Run:
        leaky = snntorch.Leaky(beta=s.tau, threshold=s.v_th)

        def run(c: Any) -> Trace:
            o, mem = run_leaky(leaky, c)
            return Trace(o, mem, mem)  # the reset comes with the next step

        return run
