"""The PyTorch adapter with each convention that it can't be told to follow. Needs torch.

A deviant is a subclass of the module that it replaces, or of the adapter.
"""

import itertools
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


class SubtractsOneLessThreshold(LIF):
    """v_th added where o v_th should be subtracted: a product that became a difference."""

    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre - (seen(self, o) - self.v_th)


class SubtractsOneLessThresholdLate(LIF):
    def step(self, last: State, c: Any) -> State:
        u_pre = self.charge(last.u, c) - (seen(self, last.o) - self.v_th)
        return State(u_pre, self.fire(u_pre - self.v_th), u_pre)


class ResetToQuarter(LIF):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return super().reset(u_pre, o) + 0.25 * seen(self, o)


class SubtractsHalf(LIF):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre - 0.5 * seen(self, o)


class SynapseNeverDecays(LIF):
    def forward(self, c: Any, u0: Any = 0.0) -> Any:
        return super().forward(torch.cat([*itertools.accumulate(c.chunk(self.steps))]), u0)


class SynapseOfHalf(LIF):
    def forward(self, c: Any, u0: Any = 0.0) -> Any:
        filtered = itertools.accumulate(c.chunk(self.steps), lambda i, c_t: 0.5 * i + c_t)
        return super().forward(torch.cat([*filtered]), u0)


class InputHalved(LIF):
    def charge(self, u: Any, c: Any) -> Any:
        return super().charge(u, c / 2)


class InputLate(LIF):
    def forward(self, c: Any, u0: Any = 0.0) -> Any:
        first, *others = c.chunk(self.steps)
        return super().forward(torch.cat([0 * first, first, *others][: self.steps]), u0)


class SeveralSpikes(LIF):
    """As Sinabs and Rockpool have them."""

    def fire(self, x: Any) -> Any:
        one, ratio = super().fire(x), x.detach() / self.v_th + 1
        passed = torch.floor(ratio) if self.fire_at_threshold else torch.ceil(ratio) - 1
        return one + (passed.clamp(min=0) - one).detach()

    def reset(self, u_pre: Any, o: Any) -> Any:
        return super().reset(u_pre, o - (o - o.clamp(max=1)).detach())


class Refractory(LIF):
    def step(self, last: State, c: Any) -> State:
        u_pre = self.charge(last.u, c)
        o = self.fire(u_pre - self.v_th) * (1 - torch.as_tensor(last.o).detach())
        return State(u_pre, o, self.reset(u_pre, o))


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
        s = torch.sigmoid(self.surrogate_shape * x)
        return self.surrogate_shape * s * (1 - s)


class Arctan(LIF):
    def slope(self, x: Any) -> Any:
        alpha = self.surrogate_shape
        return alpha / 2 / (1 + (torch.pi / 2 * alpha * x) ** 2)


class FastSigmoid(LIF):
    def slope(self, x: Any) -> Any:
        return 1 / (1 + self.surrogate_shape * torch.abs(x)) ** 2


class PiecewiseQuadratic(LIF):
    def slope(self, x: Any) -> Any:
        alpha = self.surrogate_shape
        return alpha * torch.relu(1 - alpha * torch.abs(x))


class Exponential(LIF):
    def slope(self, x: Any) -> Any:
        alpha = self.surrogate_shape
        return alpha / 2 * torch.exp(-alpha * torch.abs(x))


class Gaussian(LIF):
    def slope(self, x: Any) -> Any:
        sigma = self.surrogate_shape
        return torch.exp(-((x / sigma) ** 2) / 2) / (sigma * (2 * torch.pi) ** 0.5)


class StepSlope(LIF):
    def slope(self, x: Any) -> Any:
        return (x >= -self.surrogate_shape).to(x.dtype) / self.v_th


class StraightThrough(LIF):
    def slope(self, x: Any) -> Any:
        return torch.ones_like(x)


class NoSlope(LIF):
    def slope(self, x: Any) -> Any:
        return torch.zeros_like(x)


class SlopeInUnitsOfThreshold(LIF):
    def slope(self, x: Any) -> Any:
        unit = 1 if self.surrogate == "triangular" else self.v_th  # which has that unit already
        return super().slope(x / unit) / self.v_th


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


class NoBiasCorrection(PyTorch):
    """Adam's moments as they are: it takes each step for one of the millionth and later."""

    def adam(self, groups: list[dict[str, Any]], lr: float) -> Any:
        optimizer = super().adam(groups, lr)
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[p] = {"step": torch.tensor(1e6), **moments}
        return optimizer


class LossAtEachStep(PyTorch):
    """The mean over time of each step's loss."""

    def loss(self, logits: list[Any], labels: Any, side: float) -> Any:
        at_steps = zip(*(branch.stepwise for branch in logits), strict=True)
        losses = [super(LossAtEachStep, self).loss(list(b), labels, side) for b in at_steps]
        return sum(losses) / len(losses)

    def build(self, module: Any, inputs: Any, training: bool = True) -> Any:
        return super().build(replaced(module, (ShowsSteps,)), inputs, training)


class ShowsSteps(Head):
    def forward(self, x: Any) -> Any:
        y = self.fc(self.pool(x)).unflatten(0, (self.steps, -1))
        logits = y.sum(0) if self.readout == "sum" else y.mean(0)
        logits.stepwise = y
        return logits


#: convention -> value -> who has it, where the adapter can't simply be told
DEVIANTS: dict[str, dict[str | bool, type]] = {
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
        "subtract o - v_th": SubtractsOneLessThreshold,
        "subtract o - v_th, next step": SubtractsOneLessThresholdLate,
    },
    "reset_potential": {0.25: ResetToQuarter},
    "reset_amount": {0.5: SubtractsHalf},
    "input_gain": {0.5: InputHalved},
    "synapse": {1.0: SynapseNeverDecays, 0.5: SynapseOfHalf},
    "input_delay": {1: InputLate},
    "spikes": {"several": SeveralSpikes},
    "refractory": {1: Refractory},
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
        "piecewise_quadratic": PiecewiseQuadratic,
        "exponential": Exponential,
        "gaussian": Gaussian,
        "step": StepSlope,
        "straight_through": StraightThrough,
    },
    "surrogate_scale": {
        "without 1/a": RectangleUnscaled,
        "without k": OthersUnscaled,
        "without any": AllUnscaled,
        0.0: NoSlope,
    },
    "surrogate_unit": {"v_th": SlopeInUnitsOfThreshold},
    "surrogate_at": {"u_pre": SlopeUnshifted, "u": SlopeAfterReset},
    "convolution": {"flipped": KernelsFlipped},
    "norm_variance": {"unbiased": VarianceUnbiased},
    "norm_gradient": {"statistics detached": StatisticsDetached},
    "norm_running": {"biased": RunningBiased},
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
    "loss_at": {"each step": LossAtEachStep},
    "optimizer_bias_correction": {False: NoBiasCorrection},
    "decay_form": {"in the gradient": DecayInGradient},
}
