"""Layers in PyTorch with faults that public reports found in autograd. Needs torch."""

import math

import torch
from layers import slope


class Spike(torch.autograd.Function):
    """Fires above zero; the gradient is multiplied by h."""

    @staticmethod
    def forward(ctx, x, h, o):
        ctx.save_for_backward(h)
        return o

    @staticmethod
    def backward(ctx, do):
        (h,) = ctx.saved_tensors
        return do * h, None, None


class Right:
    levels = ("neuron",)
    dtype = torch.float64

    def run(self, case):
        p = case.conventions
        c = torch.tensor(case.inputs["c"], dtype=self.dtype, requires_grad=True)
        u, steps = torch.zeros_like(c[0]), []
        for c_t in c:
            u_pre = p["tau"] * u + c_t
            o = self.fire(u_pre - p["v_th"], p)
            u = u_pre * (1 - (o.detach() if p["reset_gradient"] == "detached" else o))
            steps.append((u_pre, o, u))
        u_pre, o, u = (torch.stack(xs) for xs in zip(*steps, strict=True))
        o.backward(torch.tensor(case.inputs["do"], dtype=self.dtype))
        return {"u_pre": u_pre.detach(), "o": o.detach(), "u": u.detach(), "dc": c.grad}

    def fire(self, x, p):
        o = (x >= 0 if p["fire_at_threshold"] else x > 0).to(x.dtype)
        h = slope(x.detach().double().numpy(), p)
        return Spike.apply(x, torch.tensor(h, dtype=x.dtype), o)


class UndefinedName(Right):
    def fire(self, x, p):
        return Forgetful.apply(x)


class Forgetful(torch.autograd.Function):
    @staticmethod
    def forward(ctx, potential):
        ctx.save_for_backward(potential)
        return (potential > 0).to(potential.dtype)

    @staticmethod
    def backward(ctx, do):
        (_fired,) = ctx.saved_tensors
        return do / (1 + (math.pi * potential) ** 2)  # noqa: F821  # that is the fault


class NoGraph(Right):
    def fire(self, x, p):
        return (x > 0).to(x.dtype)


class Half(Right):
    dtype = torch.float16


class BFloat16(Right):
    dtype = torch.bfloat16


class BFloat16AsFloat32(BFloat16):
    def run(self, case):
        return {name: x.float() for name, x in super().run(case).items()}


class Declared(BFloat16AsFloat32):
    precision = "bfloat16"


class SpikingJellyAsItComes:
    """SpikingJelly's LIFNode with nothing set; it shows spikes and gradients alone."""

    levels = ("neuron",)

    def run(self, case):
        from spikingjelly.activation_based import neuron

        c = torch.tensor(case.inputs["c"], requires_grad=True)
        o = neuron.LIFNode(step_mode="m")(c)
        o.backward(torch.tensor(case.inputs["do"]))
        return {"o": o.detach(), "dc": c.grad}
