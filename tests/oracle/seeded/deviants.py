"""The PyTorch adapter with each convention that it can't be told to follow. Needs torch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from refsnn.oracle.adapters.pytorch import PyTorch, iterations
from refsnn.oracle.adapters.pytorch_network import State


class InputScaled(PyTorch):
    def charge(self, u: Any, c: Any) -> Any:
        tau = self.conventions["tau"]
        return tau * u + (1 - tau) * c


class TauIsLost(PyTorch):
    def charge(self, u: Any, c: Any) -> Any:
        return (1 - self.conventions["tau"]) * u + c


class TauIsLostAndScales(PyTorch):
    def charge(self, u: Any, c: Any) -> Any:
        tau = self.conventions["tau"]
        return (1 - tau) * u + tau * c


class InputLeaks(PyTorch):
    def charge(self, u: Any, c: Any) -> Any:
        return self.conventions["tau"] * (u + c)


class ResetSubtracts(PyTorch):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre - self.conventions["v_th"] * self.resetting(o)


class NoReset(PyTorch):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre


class ResetNextStep(PyTorch):
    """snnTorch's order, with its reset to zero."""

    def step(self, last: State, c: Any) -> State:
        u_pre = self.charge(last.u, c) * (1 - self.resetting(last.o))
        return State(u_pre, self.spike(u_pre), u_pre)


class SubtractNextStep(PyTorch):
    """snnTorch's order, with its default reset."""

    def step(self, last: State, c: Any) -> State:
        u_pre = self.charge(last.u, c) - self.conventions["v_th"] * self.resetting(last.o)
        return State(u_pre, self.spike(u_pre), u_pre)


class OneStepLate(PyTorch):
    def emit(self, o: Any) -> Any:
        return torch.cat([torch.zeros_like(o[:1]), o[:-1]])


class StateKept(PyTorch):
    """As when a library's reset is forgotten between batches."""

    def __init__(self, precision: str = "float64") -> None:
        super().__init__(precision)
        self.kept: dict[tuple[str, str], State] = {}

    def start(self, like: Any, at: str) -> State:
        return self.kept.get((self.case.id, at), super().start(like, at))

    def lif(self, c: Any, at: str) -> Any:
        o = super().lif(c, at)
        self.kept[self.case.id, at] = State(*(x.detach() for x in self.seen[at][-1]))
        return o


class ResetGradientIgnored(PyTorch):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre + (super().reset(u_pre, o) - u_pre).detach()


class SpikePathOnly(PyTorch):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre.detach() * (1 - o)


class SubtractsBackward(PyTorch):
    """Forward a reset to zero, its gradient that of a reset by subtraction."""

    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre * (1 - o.detach()) - self.conventions["v_th"] * (o - o.detach())


class ResetSignFlipped(PyTorch):
    def reset(self, u_pre: Any, o: Any) -> Any:
        return u_pre * (1 - o.detach()) + u_pre.detach() * (o - o.detach())


class Sigmoid(PyTorch):
    def slope(self, x: Any) -> Any:
        s = torch.sigmoid(4 * x)
        return 4 * s * (1 - s)


class Arctan(PyTorch):
    def slope(self, x: Any) -> Any:
        return 1 / (1 + (torch.pi * x) ** 2)


class FastSigmoid(PyTorch):
    def slope(self, x: Any) -> Any:
        return 1 / (1 + 25 * torch.abs(x)) ** 2


class SuperSpike(PyTorch):
    def slope(self, x: Any) -> Any:
        return 1 / (1 + 100 * torch.abs(x)) ** 2


class SuperSpikeOfOne(PyTorch):
    def slope(self, x: Any) -> Any:
        return 1 / (1 + torch.abs(x)) ** 2


class RectangleUnscaled(PyTorch):
    def slope_scale(self) -> float:
        return 1.0 if self.conventions["surrogate"] == "rectangular" else super().slope_scale()


class OthersUnscaled(PyTorch):
    def slope_scale(self) -> float:
        return super().slope_scale() if self.conventions["surrogate"] == "rectangular" else 1.0


class AllUnscaled(PyTorch):
    def slope_scale(self) -> float:
        return 1.0


class SlopeUnshifted(PyTorch):
    def slope_at(self, u_pre: Any, o: Any) -> Any:
        return u_pre


class SlopeAfterReset(PyTorch):
    def slope_at(self, u_pre: Any, o: Any) -> Any:
        return self.reset(u_pre, o) - self.conventions["v_th"]


class KernelsFlipped(PyTorch):
    def conv(self, x: Any, w: Any, stride: int, padding: int) -> Any:
        return super().conv(x, w.flip(-2, -1), stride, padding)


class OtherNormaliser(PyTorch):
    """Batch norm written out; its statistics move as they should."""

    unbiased = detached = False

    def normalise(self, x: Any, mean: Any, var: Any, weight: Any, bias: Any, training: bool) -> Any:
        y = super().normalise(x, mean, var, weight, bias, training)
        if not training:
            return y
        m = x.mean((0, 2, 3), keepdim=True)
        v = x.var((0, 2, 3), unbiased=self.unbiased, keepdim=True)
        if self.detached:
            m, v = m.detach(), v.detach()
        x_hat = (x - m) / torch.sqrt(v + self.conventions["norm_eps"])
        return x_hat * weight[:, None, None] + bias[:, None, None]


class VarianceUnbiased(OtherNormaliser):
    unbiased = True


class StatisticsDetached(OtherNormaliser):
    detached = True


class RunningBiased(PyTorch):
    def normalise(self, x: Any, mean: Any, var: Any, weight: Any, bias: Any, training: bool) -> Any:
        if training:
            m, v = x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3), unbiased=False)
            mean.lerp_(m, self.momentum)
            var.lerp_(v, self.momentum)
            mean, var = mean.clone(), var.clone()  # what moves below is thrown away
        return super().normalise(x, mean, var, weight, bias, training)


class MomentumSwapped(PyTorch):
    momentum = 0.9


class SkipAfterFiring(PyTorch):
    def join(self, f: Any, skip: Any, at: str) -> Any:
        return self.lif(f, at) + skip


class SkipMissing(PyTorch):
    def join(self, f: Any, skip: Any, at: str) -> Any:
        return self.lif(f, at)


class SumPooling(PyTorch):
    def pool(self, x: Any) -> Any:
        return x.sum((-2, -1))


class FirstBranchMissing(PyTorch):
    def counted(self, logits: list[Any]) -> list[Any]:
        return logits[1:] if len(logits) > 1 else logits


class LastSideMissing(PyTorch):
    def counted(self, logits: list[Any]) -> list[Any]:
        return [*logits[:-2], logits[-1]]


class MainTwice(PyTorch):
    def counted(self, logits: list[Any]) -> list[Any]:
        return [*logits, logits[-1]]


class BranchesDetached(PyTorch):
    def branch(self, x: Any, params: Any, at: str) -> Any:
        return super().branch(x.detach(), params, at)


class LossSummed(PyTorch):
    def loss(self, logits: Any, labels: Any) -> Any:
        return F.cross_entropy(logits, labels, reduction="sum")


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
DEVIANTS: dict[str, dict[str, type[PyTorch]]] = {
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
