"""The neuron of Eq. 1-3 as SpikingJelly, snnTorch and a plain PyTorch loop have it.

Each is made of the number of steps T and the neuron's constants, and takes currents
(T N, ...), time major, to spikes of the same shape.
"""

from typing import Any

import torch
from torch import nn

from refsnn.ops import LIF


class Fire(torch.autograd.Function):
    """o = [x > 0]; backward by the slope (1 - tanh^2 x) / 2 (Eq. 4)."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, do: Any) -> Any:
        (x,) = ctx.saved_tensors
        return do * (0.5 * (1 - torch.tanh(x) ** 2))


class PlainNeuron(nn.Module):
    """Eq. 1 and 2, step by step."""

    def __init__(self, steps: int, lif: LIF) -> None:
        super().__init__()
        self.steps, self.tau, self.v_th = steps, lif.tau, lif.v_th

    def forward(self, c: Any) -> Any:
        spikes, u = [], 0.0
        for c_t in c.chunk(self.steps):
            u_pre = self.tau * u + c_t
            o = Fire.apply(u_pre - self.v_th)
            u = u_pre * (1 - o)
            spikes.append(o)
        return torch.cat(spikes)  # keeps the memory format, as stacking may not


class SnnTorchNeuron(nn.Module):
    """snn.Leaky as the neuron of Eq. 1-3.

    By default it resets one step late, and by a detached spike: the same spikes, but D3's
    other gradient. With reset_delay=False it resets in the step that fires, by
    mem - spk * mem = u_pre (1 - o), differentiated. Its late reset then never acts, as
    the potential that it looks at is below threshold already. Fire serves as its
    surrogate because its own ones return float32 whatever they get.
    """

    def __init__(self, steps: int, lif: LIF) -> None:
        import snntorch

        super().__init__()
        self.steps = steps
        self.leaky = snntorch.Leaky(
            beta=lif.tau,
            threshold=lif.v_th,
            spike_grad=Fire.apply,
            reset_mechanism="zero",
            reset_delay=False,
        )

    def forward(self, c: Any) -> Any:
        spikes, u = [], self.leaky.reset_mem()
        for c_t in c.chunk(self.steps):
            o, u = self.leaky(c_t, u)
            spikes.append(o)
        self.leaky.mem = u.detach()  # or the step's graph would live on in it
        return torch.cat(spikes)


class SpikingJellyNeuron(nn.Module):
    """LIFNode in multi-step mode, by its operator for all steps at once.

    It charges v - v / tau + x, so the leak 1/2 is its tau = 2. Sigmoid(2) has the
    slope 2 s (1 - s) with s = sigmoid(2x) = (1 + tanh x) / 2, so (1 - tanh^2 x) / 2;
    a surrogate of ours would shut out that operator. It fires at v_th too, which a float
    hardly ever meets: only a spike over an identity skip, beside a branch of exact zeros.
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
        return self.node(c.unflatten(0, (self.steps, -1))).flatten(0, 1)


NEURONS = {"spikingjelly": SpikingJellyNeuron, "snntorch": SnnTorchNeuron, "torch": PlainNeuron}
