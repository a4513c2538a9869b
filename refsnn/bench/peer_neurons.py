"""The paper's neuron (Eq. 1-4) by SpikingJelly, by snnTorch and written out in PyTorch.

Each is a module that turns currents (T N, ...), time first, into spikes of the same shape.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from refsnn import pytorch
from refsnn.ops import LIF


class SnnTorchNeuron(nn.Module):
    """Run `snntorch.Leaky` step by step.

    By default it resets one step late and detaches the spike in the reset: the same spikes, but
    another gradient (D3). With reset_delay=False it resets in the step that fires, by
    mem - spk * mem = u_pre (1 - o), which is differentiated; the late reset then does nothing, as
    the potential is below the threshold already. The surrogate is ours, since snnTorch's own
    return float32 for any input.
    """

    def __init__(self, steps: int, lif: LIF) -> None:
        import snntorch

        super().__init__()
        self.steps = steps
        self.leaky = snntorch.Leaky(
            beta=lif.tau,
            threshold=lif.v_th,
            spike_grad=pytorch.LIF(steps).fire,
            reset_mechanism="zero",
            reset_delay=False,
        )

    def forward(self, c: Any) -> Any:
        """Return the spikes of currents (T N, ...)."""
        spikes, u = [], self.leaky.reset_mem()
        for c_t in c.chunk(self.steps):
            o, u = self.leaky(c_t, u)
            spikes.append(o)
        self.leaky.mem = u.detach()  # otherwise it would keep the graph of this step
        return torch.cat(spikes)


class SpikingJellyNeuron(nn.Module):
    """Run SpikingJelly's `LIFNode` in multi-step mode, which computes all steps in one operator.

    It charges v - v / tau + x, so our leak of 1/2 is its tau = 2. The slope of Sigmoid(2) is
    2 s (1 - s) with s = sigmoid(2x) = (1 + tanh x) / 2, which is (1 - tanh² x) / 2; with a
    surrogate of ours it could not use that operator. It also fires at v_th itself, which a
    potential in floating point hardly ever meets: only where an identity skip brings a spike and
    the other branch is exactly 0.
    """

    def __init__(self, steps: int, lif: LIF) -> None:
        from spikingjelly.activation_based import neuron, surrogate

        super().__init__()
        self.steps = steps
        self.node = neuron.LIFNode(
            tau=1 / (1 - lif.tau),
            decay_input=False,
            v_threshold=lif.v_th,
            v_reset=0.0,
            surrogate_function=surrogate.Sigmoid(2.0),
            detach_reset=False,
            step_mode="m",
        )

    def forward(self, c: Any) -> Any:
        """Return the spikes of currents (T N, ...)."""
        return self.node(c.unflatten(0, (self.steps, -1))).flatten(0, 1)


def plain(steps: int, lif: LIF) -> nn.Module:
    """Make the loop over time that `refsnn.pytorch` has."""
    return pytorch.LIF(steps, lif.tau, lif.v_th)


NEURONS: dict[str, Callable[[int, LIF], nn.Module]] = {
    "spikingjelly": SpikingJellyNeuron,
    "snntorch": SnnTorchNeuron,
    "torch": plain,
    "torch.compile": plain,
}
