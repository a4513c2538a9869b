"""The PyTorch adapter with each convention that it can't be told to follow. Needs torch.

A deviant is a subclass of the module that it replaces, or of the adapter.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from refsnn.oracle.adapters.pytorch import PyTorch, iterations
from refsnn.pytorch import LIF, BatchNorm, Block, Head, State

MODULES = (LIF, nn.Conv2d, BatchNorm, Block, Head)


def module_class(deviant: type) -> type | None:
    """The class of modules that it is or replaces."""
    return next((base for base in deviant.__mro__ if base in MODULES), None)


def replaced(module: nn.Module, deviants: tuple[type, ...]) -> nn.Module:
    """The module, whose parts have become deviants of their class."""
    for part in module.modules():
        own = module_class(type(part))
        found = tuple(deviant for deviant in deviants if module_class(deviant) is own)
        if own and found:
            part.__class__ = type(own.__name__, (*found, type(part)), {})
    return module


def adapter(*deviants: type) -> type[PyTorch]:
    """The adapter that has all these deviants."""
    modules = tuple(d for d in deviants if not issubclass(d, PyTorch))

    class Deviant(*(d for d in deviants if issubclass(d, PyTorch)), PyTorch):  # type: ignore[misc]
        def build(self, module: Any, inputs: Any, training: bool = True) -> Any:
            return super().build(replaced(module, modules), inputs, training)

    return Deviant


class InputScaled(LIF):
    def charge(self, u: Any, c: Any) -> Any:
        return self.tau * u + (1 - self.tau) * c


class TauIsLost(LIF):
    def charge(self, u: Any, c: Any) -> Any:
        return (1 - self.tau) * u + c


class TauIsLostAndScales(LIF):
    def charge(self, u: Any, c: Any) -> Any:
        return (1 - self.tau) * u + self.tau * c


class InputLeaks(LIF):
    def charge(self, u: Any, c: Any) -> Any:
        return self.tau * (u + c)


def seen(neuron: LIF, o: Any) -> Any:
    """Spikes as the reset differentiates them."""
    return o.detach() if neuron.reset_gradient == "detached" and torch.is_tensor(o) else o


class ResetSubtracts(LIF):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre - self.v_th * seen(self, o)


class NoReset(LIF):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre


class ResetNextStep(LIF):
    """snnTorch's order, with its reset to zero."""

    def step(self, last: State, c: Any) -> State:
        u_pre = self.charge(last.u, c) * (1 - seen(self, last.o))
        return State(u_pre, self.fire(u_pre - self.v_th), u_pre)


class SubtractNextStep(LIF):
    """snnTorch's order, with its default reset."""

    def step(self, last: State, c: Any) -> State:
        u_pre = self.charge(last.u, c) - self.v_th * seen(self, last.o)
        return State(u_pre, self.fire(u_pre - self.v_th), u_pre)


class OneStepLate(LIF):
    def forward(self, c: Any) -> Any:
        spikes = super().forward(c).chunk(self.steps)
        late = [0 * spikes[0], *spikes[:-1]]
        self.states = [state._replace(o=o) for state, o in zip(self.states, late, strict=True)]
        return torch.cat(late)


class KeepsState(LIF):
    last: State | None = None

    def step(self, last: State, c: Any) -> State:
        start, self.last = self.last or last, None
        return super().step(start, c)

    def forward(self, c: Any) -> Any:
        o = super().forward(c)
        self.last = State(*(x.detach() for x in self.states[-1]))
        return o


class StateKept(PyTorch):
    """As when a library's reset is forgotten between batches."""

    def __init__(self, precision: str = "float64") -> None:
        super().__init__(precision)
        self.kept: dict[str, list[Any]] = {}

    def build(self, module: Any, inputs: Any, training: bool = True) -> Any:
        module = super().build(replaced(module, (KeepsState,)), inputs, training)
        now = [part for part in module.modules() if isinstance(part, KeepsState)]
        for part, before in zip(now, self.kept.get(self.case.id, now), strict=True):
            part.last = before.last
        self.kept[self.case.id] = now
        return module


class ResetGradientIgnored(LIF):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre + (super().reset(u_pre, o) - u_pre).detach()


class SpikePathOnly(LIF):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre.detach() * (1 - o)


class SubtractsBackward(LIF):
    """Forward a reset to zero, its gradient that of a reset by subtraction."""

    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre * (1 - o.detach()) - self.v_th * (o - o.detach())


class ResetSignFlipped(LIF):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre * (1 - o.detach()) + u_pre.detach() * (o - o.detach())


class Sigmoid(LIF):
    def slope(self, x: Any) -> Any:
        s = torch.sigmoid(4 * x)
        return 4 * s * (1 - s)


class Arctan(LIF):
    def slope(self, x: Any) -> Any:
        return 1 / (1 + (torch.pi * x) ** 2)


class FastSigmoid(LIF):
    def slope(self, x: Any) -> Any:
        return 1 / (1 + 25 * torch.abs(x)) ** 2


class SuperSpike(LIF):
    def slope(self, x: Any) -> Any:
        return 1 / (1 + 100 * torch.abs(x)) ** 2


class SuperSpikeOfOne(LIF):
    def slope(self, x: Any) -> Any:
        return 1 / (1 + torch.abs(x)) ** 2


class RectangleUnscaled(LIF):
    def slope(self, x: Any) -> Any:
        return super().slope(x) * (self.surrogate_shape if self.surrogate == "rectangular" else 1)


class OthersUnscaled(LIF):
    def slope(self, x: Any) -> Any:
        return super().slope(x) / (self.surrogate_shape if self.surrogate != "rectangular" else 1)


class AllUnscaled(RectangleUnscaled, OthersUnscaled):
    pass


class SlopeUnshifted(LIF):
    def slope(self, x: Any) -> Any:
        return super().slope(x + self.v_th)


class SlopeAfterReset(LIF):
    def slope(self, x: Any) -> Any:
        fired = x >= 0 if self.fire_at_threshold else x > 0
        return super().slope(torch.where(fired, -self.v_th, x))


class KernelsFlipped(nn.Conv2d):
    def _conv_forward(self, x: Any, weight: Any, bias: Any) -> Any:
        return super()._conv_forward(x, weight.flip(-2, -1), bias)


class OtherNormaliser(BatchNorm):
    """Batch norm written out; its statistics move as they should."""

    unbiased = detached = False

    def normalise(self, x: Any) -> Any:
        y = super().normalise(x)
        if not self.training:
            return y
        m = x.mean((0, 2, 3), keepdim=True)
        v = x.var((0, 2, 3), unbiased=self.unbiased, keepdim=True)
        if self.detached:
            m, v = m.detach(), v.detach()
        x_hat = (x - m) / torch.sqrt(v + self.eps)
        return x_hat * (self.weight * self.scale)[:, None, None] + self.bias[:, None, None]


class VarianceUnbiased(OtherNormaliser):
    unbiased = True


class StatisticsDetached(OtherNormaliser):
    detached = True


class RunningBiased(BatchNorm):
    def normalise(self, x: Any) -> Any:
        if not self.training:
            return super().normalise(x)
        now = x.detach()
        self.running_mean.lerp_(now.mean((0, 2, 3)), self.momentum)
        self.running_var.lerp_(now.var((0, 2, 3), unbiased=False), self.momentum)
        return F.batch_norm(x, None, None, self.weight * self.scale, self.bias, True, eps=self.eps)


class MomentumSwapped(BatchNorm):
    momentum = property(lambda self: 0.9, lambda self, value: None)


class SkipAfterFiring(Block):
    def join(self, f: Any, skip: Any) -> Any:
        return self.lif2(f) + skip


class SkipMissing(Block):
    def join(self, f: Any, skip: Any) -> Any:
        return self.lif2(f)


class SumPooling(Head):
    def pool(self, x: Any) -> Any:
        return x.sum((-2, -1))


class FirstBranchMissing(PyTorch):
    def loss(self, logits: list[Any], labels: Any, side: float) -> Any:
        return super().loss(logits[1:] if len(logits) > 1 else logits, labels, side)


class LastSideMissing(PyTorch):
    def loss(self, logits: list[Any], labels: Any, side: float) -> Any:
        return super().loss([*logits[:-2], logits[-1]], labels, side)


class MainTwice(PyTorch):
    def loss(self, logits: list[Any], labels: Any, side: float) -> Any:
        return super().loss([*logits, logits[-1]], labels, side)


class BranchDetached(Head):
    def forward(self, x: Any) -> Any:
        return super().forward(x.detach())


class BranchesDetached(PyTorch):
    def build(self, module: Any, inputs: Any, training: bool = True) -> Any:
        if hasattr(module, "branch"):
            replaced(module.branch, (BranchDetached,))
        return super().build(module, inputs, training)


class LossSummed(PyTorch):
    def loss(self, logits: list[Any], labels: Any, side: float) -> Any:
        return len(labels) * super().loss(logits, labels, side)


class LambdaFromZero(PyTorch):
    def progress(self, i: int, settings: Mapping[str, Any]) -> float:
        return (i - 1) / iterations(settings)


class LambdaConstant(PyTorch):
    def progress(self, i: int, settings: Mapping[str, Any]) -> float:
        return 0.0


class RateAhead(PyTorch):
    def learning_rate(self, i: int, settings: Mapping[str, Any]) -> float:
        return super().learning_rate(i + 1, settings)


class RateConstant(PyTorch):
    def learning_rate(self, i: int, settings: Mapping[str, Any]) -> float:
        return float(settings["lr"])


class DecayInGradient(PyTorch):
    def adam(self, groups: list[dict[str, Any]], lr: float) -> Any:
        return torch.optim.Adam(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)


#: convention -> value -> who has it, where the adapter can't simply be told
DEVIANTS: dict[str, dict[str, type]] = {
    "leak": {
        "tau*u + (1-tau)*c": InputScaled,
        "(1-tau)*u + c": TauIsLost,
        "(1-tau)*u + tau*c": TauIsLostAndScales,
        "tau*(u + c)": InputLeaks,
    },
    "reset": {
        "subtract": ResetSubtracts,
        "none": NoReset,
        "zero, next step": ResetNextStep,
        "subtract, next step": SubtractNextStep,
    },
    "output": {"one step late": OneStepLate},
    "initial_potential": {"kept": StateKept},
    "reset_gradient": {
        "ignored": ResetGradientIgnored,
        "spike path only": SpikePathOnly,
        "v_th for u_pre": SubtractsBackward,
        "sign flipped": ResetSignFlipped,
    },
    "surrogate": {
        "sigmoid": Sigmoid,
        "atan": Arctan,
        "fast_sigmoid": FastSigmoid,
        "superspike": SuperSpike,
        "superspike, alpha 1": SuperSpikeOfOne,
    },
    "surrogate_scale": {
        "without 1/a": RectangleUnscaled,
        "without k": OthersUnscaled,
        "without any": AllUnscaled,
    },
    "surrogate_at": {"u_pre": SlopeUnshifted, "u": SlopeAfterReset},
    "convolution": {"flipped": KernelsFlipped},
    "norm_variance": {"unbiased": VarianceUnbiased},
    "norm_gradient": {"statistics detached": StatisticsDetached},
    "norm_running": {"biased": RunningBiased, "momentum 0.9": MomentumSwapped},
    "skip": {"after firing": SkipAfterFiring, "missing": SkipMissing},
    "pooling": {"sum": SumPooling},
    "branches_counted": {
        "first missing": FirstBranchMissing,
        "last side missing": LastSideMissing,
        "main twice": MainTwice,
        "detached": BranchesDetached,
    },
    "loss": {"sum": LossSummed},
    "lam_clock": {"iteration from 0": LambdaFromZero, "constant": LambdaConstant},
    "schedule": {"one iteration ahead": RateAhead, "constant": RateConstant},
    "decay_form": {"in the gradient": DecayInGradient},
}
