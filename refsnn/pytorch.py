"""A spiking ResNet as PyTorch modules; autograd computes the gradients. Needs torch.

This module imports nothing else of refsnn, so that it can check the rest. Settings are plain
dicts, and a state_dict has refsnn's parameter names (`stage2.block0.conv1.weight`). A network
takes a sequence (T, N, C, H, W). Inside, both leading axes are one, time first, so that
convolutions are PyTorch's own; the neuron is an argument: any module that turns currents
(T N, ...) into spikes of the same shape.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

Tensor = Any  # torch is untyped to mypy here
MakeNeuron = Callable[[int], nn.Module]  # takes T

# The axes of a sequence of images, of a convolution's weight and of a linear layer's weight, by
# their number: refsnn has (T, N, H, W, C), (kh, kw, C_in, C_out) and (in, out).
TO_TORCH = {5: (0, 1, 4, 2, 3), 4: (3, 2, 0, 1), 2: (1, 0)}
TO_REFSNN = {5: (0, 1, 3, 4, 2), 4: (2, 3, 1, 0), 2: (1, 0)}


def to_torch(array: np.ndarray) -> Tensor:
    """Copy an array of refsnn's into a tensor with PyTorch's order of axes."""
    axes = TO_TORCH.get(array.ndim, range(array.ndim))
    return torch.from_numpy(np.array(array.transpose(*axes), order="C"))


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Copy a tensor into an array with refsnn's order of axes."""
    axes = TO_REFSNN.get(tensor.ndim, range(tensor.ndim))
    return np.array(tensor.detach().numpy().transpose(*axes), order="C")


class Fire(torch.autograd.Function):
    """Fire where x = u_pre - v_th is above 0 (Eq. 2, D2); backward, do/dx is `slope(x)` (Eq. 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Callable[[Tensor], Tensor], tie: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return (x >= 0 if tie else x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return do * ctx.slope(x), None, None


class State(NamedTuple):
    """A layer of neurons after one step; each field is (N, ...)."""

    u_pre: Tensor  # before firing
    o: Tensor  # spikes
    u: Tensor  # after the reset


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons for T = `steps` (Eq. 1-4); defaults are the paper's."""

    def __init__(
        self,
        steps: int,
        tau: float = 0.5,
        v_th: float = 1.0,
        surrogate: str = "tanh",
        surrogate_shape: float = 0.5,  # k of the tanh; a, gamma, alpha, sigma or b of the others
        surrogate_edge: str = "outside",  # of the rectangle, or "inside"
        reset_gradient: str = "full",  # or "detached"
        fire_at_threshold: bool = False,
        reset: str = "zero",  # or "subtract" (R6)
        reset_amount: float | str | None = "v_th",  # of a reset by subtraction; None: v_th too
    ) -> None:
        super().__init__()
        self.reset_kind, self.reset_amount = reset, reset_amount
        self.steps, self.tau, self.v_th = steps, tau, v_th
        self.surrogate, self.surrogate_shape = surrogate, surrogate_shape
        self.surrogate_edge, self.reset_gradient = surrogate_edge, reset_gradient
        self.fire_at_threshold = fire_at_threshold
        self.record = False  # keep the states of all steps
        self.states: list[State] = []

    def forward(self, c: Tensor, u0: Any = 0.0) -> Tensor:
        """Return the spikes of currents (T N, ...), from the potential `u0` (N, ...) (D6)."""
        spikes, state, self.states = [], State(u0, 0.0, u0), []
        for c_t in c.chunk(self.steps):
            state = self.step(state, c_t)
            spikes.append(state.o)
            if self.record:
                self.states.append(state)
        return torch.cat(spikes)  # keeps the memory format, which stack may not

    def step(self, last: State, c: Tensor) -> State:
        """Return the state after one more step, with the current `c`."""
        u_pre = self.charge(last.u, c)
        o = self.fire(u_pre - self.v_th)
        return State(u_pre, o, self.reset(u_pre, o))

    def charge(self, u: Tensor, c: Tensor) -> Tensor:
        """Return u_pre."""
        return self.tau * u + c  # Eq. (1)

    def fire(self, x: Tensor) -> Tensor:
        """Return the spikes at distance x = u_pre - v_th above the threshold."""
        return Fire.apply(x, self.slope, self.fire_at_threshold)

    def reset(self, u_pre: Tensor, o: Tensor) -> Tensor:
        """Return the potential after the spikes `o`."""
        kept = o.detach() if self.reset_gradient == "detached" else o  # D3
        match self.reset_kind:
            case "zero":
                return u_pre * (1 - kept)  # Eq. (2)
            case "subtract":
                own = self.reset_amount in (None, "v_th")
                return u_pre - (self.v_th if own else self.reset_amount) * kept
        raise ValueError(f"reset: got {self.reset_kind!r}, want one of zero, subtract")

    def slope(self, x: Tensor) -> Tensor:
        """Return h = do/du_pre at distance `x` above the threshold (Eq. 4, D4, D5, R5)."""
        shape = self.surrogate_shape
        match self.surrogate:
            case "tanh":
                return shape * (1 - torch.tanh(x) ** 2)
            case "tanh_literal":
                return shape * (1 - torch.tanh(x)) ** 2
            case "triangular":
                return shape * (1 - x.abs() / self.v_th).clamp(min=0)
            case "rectangular":
                inside = self.surrogate_edge == "inside"
                near = x.abs() <= shape / 2 if inside else x.abs() < shape / 2
                return near.to(x.dtype) / shape
            case "sigmoid":
                return shape * torch.sigmoid(shape * x) * torch.sigmoid(-shape * x)
            case "atan":
                return shape / 2 / (1 + (torch.pi / 2 * shape * x) ** 2)
            case "fast_sigmoid":
                return 1 / (1 + shape * x.abs()) ** 2
            case "softsign":
                return shape / 2 / (1 + shape * x.abs()) ** 2
            case "super_spike":
                return shape / (1 + x.abs()) ** 2
            case "piecewise_quadratic":
                return shape * (1 - shape * x.abs()).clamp(min=0)
            case "exponential":
                return shape / 2 * torch.exp(-shape * x.abs())
            case "gaussian":
                return torch.exp(-((x / shape) ** 2) / 2) / (shape * (2 * torch.pi) ** 0.5)
            case "dspike":
                height = shape / (2 * math.tanh(shape / 2))
                return height * (1 - torch.tanh(shape * x) ** 2) * (x.abs() <= 0.5)
            case "rectifier":
                z, end = x.abs(), math.tanh(1.5)
                half = math.atanh(shape * end) / 3 if shape < 1 else ((shape + 1) / 2) ** 3 - 0.5
                inner = 1.5 / end * (1 - torch.tanh(3 * z) ** 2)
                outer = (z + 0.5).clamp(min=1) ** (-2 / 3) / 3
                return torch.where(z <= 0.5, inner, outer) * (z <= half) / shape
        raise ValueError(f"surrogate: got {self.surrogate!r}")


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over T, N, H, W, or over N, H, W of every step (D8, D25)."""

    def __init__(
        self,
        channels: int,
        steps: int,
        statistics: str = "pooled",
        scale: float = 1.0,  # multiplies the weight
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(channels, eps, momentum)
        self.groups = steps if statistics == "per_step" else 1
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return (T N, C, H, W) normalised; training moves the running statistics."""
        if self.groups == 1:
            return self.normalise(x)
        return torch.cat([self.normalise(group) for group in x.chunk(self.groups)])

    def normalise(self, x: Tensor) -> Tensor:
        """Return one group normalised by its own statistics, or by the running ones."""
        weight = self.weight if self.scale == 1 else self.weight * self.scale
        running = self.running_mean, self.running_var
        return F.batch_norm(x, *running, weight, self.bias, self.training, self.momentum, self.eps)


def conv_bn(
    c_in: int, c_out: int, kernel: int, stride: int, norm: Callable[[int], nn.Module]
) -> tuple[nn.Module, nn.Module]:
    """Return a convolution without bias that keeps sizes but for its stride, and a batch norm."""
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), norm(c_out)


class Block(nn.Module):
    """The residual block o = LIF(f(x) + skip(x)), where f is conv-BN-LIF-conv-BN (Eq. 5, D9)."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        norm: Callable[[int], nn.Module],
        neuron: Callable[[], nn.Module],
        downsample: str = "conv",
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(c_in, c_out, 3, stride, norm)
        self.lif1 = neuron()
        self.conv2, self.bn2 = conv_bn(c_out, c_out, 3, 1, norm)
        self.lif2 = neuron()
        self.skip = nn.Sequential()
        if stride != 1 or c_in != c_out:
            if downsample == "avgpool" and stride != 1:
                self.skip.add_module("pool", nn.AvgPool2d(stride))
                stride = 1
            conv, bn = conv_bn(c_in, c_out, 1, stride, norm)
            self.skip.add_module("conv", conv)
            self.skip.add_module("bn", bn)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's spikes (T N, C_out, H, W)."""
        y = self.lif1(self.bn1(self.conv1(x)))
        return self.join(self.bn2(self.conv2(y)), self.skip(x))

    def join(self, f: Tensor, skip: Tensor) -> Tensor:
        """Return the spikes of both paths together."""
        if f.shape != skip.shape:  # average pooling of odd sizes; the sum might broadcast
            raise ValueError(f"skip: got shape {tuple(skip.shape)}, want {tuple(f.shape)}")
        return self.lif2(f + skip)  # Eq. (5)


class Head(nn.Module):
    """A branch: global average pooling, `hidden` neurons if any, a linear layer (D10, D12, D20)."""

    def __init__(
        self,
        c_in: int,
        classes: int,
        steps: int,
        readout: str = "mean",
        hidden: int = 0,
        neuron: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.steps, self.readout = steps, readout
        self.hidden: Any = nn.Linear(c_in, hidden) if hidden else None
        self.lif: Any = neuron() if hidden and neuron else None
        self.fc = nn.Linear(hidden or c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K) of spikes (T N, C, H, W)."""
        y = self.pool(x)
        if self.hidden is not None:
            y = self.lif(self.hidden(y))
        y = self.fc(y).unflatten(0, (self.steps, -1))
        return y.sum(0) if self.readout == "sum" else y.mean(0)

    def pool(self, x: Tensor) -> Tensor:
        """Return features (T N, C)."""
        return x.mean((2, 3))


class Network(nn.Module):
    """The network that `net` describes, for sequences of T = `steps`.

    The keys are in_channels, num_classes, stem (convs, kernel, stride, width, pool), depths,
    widths, hidden, branches, downsample, readout, norm (arguments of BatchNorm) and, where no
    other `neuron` is given, neuron (arguments of LIF).
    """

    def __init__(
        self, net: Mapping[str, Any], steps: int, neuron: MakeNeuron | None = None
    ) -> None:
        super().__init__()
        make = partial(neuron or partial(LIF, **net["neuron"]), steps)
        norm = partial(BatchNorm, steps=steps, **net["norm"])
        stem, width, self.stem = net["stem"], net["in_channels"], nn.Sequential()
        for i in range(stem["convs"]):
            stride, c_in, width = stem["stride"] if i == 0 else 1, width, stem["width"]
            conv, bn = conv_bn(c_in, width, stem["kernel"], stride, norm)
            for name, module in (("conv", conv), ("bn", bn), ("lif", make())):
                self.stem.add_module(f"{name}{i}", module)
        if stem["pool"]:
            self.stem.add_module("pool", nn.AvgPool2d(*stem["pool"]))  # padding counts (R4)
        self.path, widths = [], {}
        for name, c_out, stride, branch in blocks(net):
            add_module(self, name, Block(width, c_out, stride, norm, make, net["downsample"]))
            self.path.append((name, branch))
            width = widths[branch] = c_out
        head = partial(Head, classes=net["num_classes"], steps=steps, readout=net["readout"])
        self.head = head(width, hidden=net["hidden"], neuron=make)
        for branch, c_in in widths.items():
            if branch not in ("", "head"):
                add_module(self, branch, head(c_in))

    def forward(self, x_seq: Tensor) -> dict[str, Tensor]:
        """Return the logits (N, K) of every branch by its name, the main branch "head" last."""
        logits, x = {}, self.stem(x_seq.flatten(0, 1))
        for block, branch in self.path:
            x = self.get_submodule(block)(x)
            if branch:
                logits[branch] = self.get_submodule(branch)(x)
        return logits


def blocks(net: Mapping[str, Any]) -> Iterator[tuple[str, int, int, str]]:
    """Yield every block's name, width and stride, and the branch after it or "" (D11)."""
    for stage, (depth, width) in enumerate(zip(net["depths"], net["widths"], strict=True), 1):
        for index in range(depth):
            name, last, branch = f"stage{stage}.block{index}", index == depth - 1, ""
            if last and stage == len(net["depths"]):
                branch = "head"
            elif net["branches"] == "block":
                branch = f"branch.{name}"
            elif net["branches"] == "stage" and last:
                branch = f"branch.stage{stage}"
            yield name, width, 2 if stage > 1 and index == 0 else 1, branch


def add_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Add a module under a dotted name, with empty modules above it where there are none."""
    *above, last = name.split(".")
    for part in above:
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = getattr(root, part)
    root.add_module(last, module)


def objective(logits: Sequence[Tensor], labels: Tensor, side: float, branch_sum: str) -> Tensor:
    """Return the loss of all branches' logits, the main branch last (Eq. 6, Eq. 10, D13, D14)."""
    *sides, main = logits
    if branch_sum == "losses":
        return F.cross_entropy(main, labels) + side * sum(F.cross_entropy(b, labels) for b in sides)
    return F.cross_entropy(main + side * sum(sides), labels)


def side_coefficient(method: str, progress: float, lam: float, shortcut_weight: float) -> float:
    """Return the side branches' coefficient when the fraction `progress` of a training is over.

    Source: Eq. 6, 7, 10, D15, D16.
    """
    match method:
        case "vanilla":
            return 0.0
        case "shortcut":
            return shortcut_weight
        case "evolutionary":
            return lam * (1 - progress)  # Eq. (10)
    raise ValueError(f"method: got {method!r}")


def decay_groups(params: Iterable[Tensor], decay: float, decay_on: str) -> list[dict[str, Any]]:
    """Return an optimiser's groups of parameters: with weight decay, and without it (D17).

    If `decay_on` is "weights", batch norm's parameters and biases, which have one axis, do not
    decay.
    """
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for p in params:
        groups[decay_on == "weights" and p.ndim == 1]["params"].append(p)
    return groups
