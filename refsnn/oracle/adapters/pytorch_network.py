"""The paper's network in plain PyTorch: autograd does what refsnn derives by hand.

Sequences are (T, N, C, H, W), in the neuron any (T, ...); images (N, C, H, W); weights as
PyTorch has them. Each choice in which implementations differ is one small method, to be read or
overridden; those that the paper leaves open are read from `self.conventions`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

Tensors = dict[str, torch.Tensor]


class Spike(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped to mypy here
    """Forward the given spikes, backward the given slope in place of do/du_pre."""

    @staticmethod
    def forward(ctx: Any, u_pre: torch.Tensor, o: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(h)
        return o.clone()

    @staticmethod
    def backward(ctx: Any, do: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (h,) = ctx.saved_tensors
        return do * h, None, None


class State(NamedTuple):
    """A layer of neurons after one step; all (N, ...)."""

    u_pre: torch.Tensor
    o: torch.Tensor
    u: torch.Tensor


class Neuron:
    """The leaky integrate-and-fire neuron, Eq. 1 to 4."""

    conventions: Mapping[str, Any]
    seen: dict[str, list[State]]  # what each layer went through in the last forward

    def lif(self, c: torch.Tensor, at: str) -> torch.Tensor:
        """Currents (T, ...) of the layer called `at` to its spikes (T, ...)."""
        state = self.start(c[0], at)
        states = []
        for c_t in c:
            state = self.step(state, c_t)
            states.append(state)
        o_seq = self.emit(torch.stack([state.o for state in states]))
        self.seen[at] = [state._replace(o=o) for state, o in zip(states, o_seq, strict=True)]
        return o_seq

    def start(self, like: torch.Tensor, at: str) -> State:
        """The state before the first step: nothing is kept (D6)."""
        zero = torch.zeros_like(like)
        return State(zero, zero, zero)

    def step(self, last: State, c: torch.Tensor) -> State:
        u_pre = self.charge(last.u, c)
        o = self.spike(u_pre)
        return State(u_pre, o, self.reset(u_pre, o))

    def charge(self, u: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.conventions["tau"] * u + c  # Eq. 1

    def spike(self, u_pre: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            o = self.fires(u_pre).to(u_pre.dtype)
            h = self.slope(self.slope_at(u_pre, o))
        return Spike.apply(u_pre, o, h)

    def fires(self, u_pre: torch.Tensor) -> torch.Tensor:
        v_th = self.conventions["v_th"]
        return u_pre >= v_th if self.conventions["fire_at_threshold"] else u_pre > v_th  # Eq. 2, D2

    def reset(self, u_pre: torch.Tensor, o: torch.Tensor) -> torch.Tensor:
        return u_pre * (1 - self.resetting(o))  # Eq. 2

    def resetting(self, o: torch.Tensor) -> torch.Tensor:
        """Spikes as the reset sees them."""
        return o.detach() if self.conventions["reset_gradient"] == "detached" else o  # D3

    def emit(self, o: torch.Tensor) -> torch.Tensor:
        """Spikes (T, ...) as the next layer sees them."""
        return o

    def slope_at(self, u_pre: torch.Tensor, o: torch.Tensor) -> torch.Tensor:
        """x, where the slope is taken: the distance above threshold."""
        return u_pre - self.conventions["v_th"]

    def slope(self, x: torch.Tensor) -> torch.Tensor:
        """h = do/du_pre at distance x above threshold, Eq. 4 (D4, D5)."""
        shape, scale = self.conventions["surrogate_shape"], self.slope_scale()
        match self.conventions["surrogate"]:
            case "triangular":
                return scale * torch.clamp(1 - torch.abs(x) / self.conventions["v_th"], min=0)
            case "rectangular" if self.conventions["surrogate_edge"] == "inside":
                return scale * (torch.abs(x) <= shape / 2).to(x.dtype)
            case "rectangular":
                return scale * (torch.abs(x) < shape / 2).to(x.dtype)
            case "tanh_literal":
                return scale * (1 - torch.tanh(x)) ** 2
            case _:
                return scale * (1 - torch.tanh(x) ** 2)

    def slope_scale(self) -> float:
        """The slope's height: 1/a of the rectangle, else k or gamma."""
        shape = float(self.conventions["surrogate_shape"])
        return 1 / shape if self.conventions["surrogate"] == "rectangular" else shape


class Network(Neuron):
    """Layers, residual block (Eq. 5), branches (Eq. 6, 10) and loss.

    `params` holds parameters and running statistics by name. Training overwrites the statistics.
    """

    momentum = 0.1  # D25

    def conv(self, x: torch.Tensor, w: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        y = F.conv2d(x.flatten(0, 1), w, stride=stride, padding=padding)
        return y.unflatten(0, x.shape[:2])

    def norm(self, x: torch.Tensor, params: Tensors, at: str, training: bool) -> torch.Tensor:
        """Batch norm of (T, N, C, H, W) over T, N, H and W, or step by step (D8)."""
        by_step = self.conventions["norm_statistics"] == "per_step"
        parts = x if by_step else [x.flatten(0, 1)]
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (params[f"{at}.{name}"] for name in names)
        if self.conventions["norm_scale"] == "v_th":
            weight = weight * self.conventions["v_th"]
        y = [self.normalise(part, mean, var, weight, bias, training) for part in parts]
        return torch.stack(y) if by_step else y[0].unflatten(0, x.shape[:2])

    def normalise(
        self,
        x: torch.Tensor,
        mean: torch.Tensor,
        var: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        training: bool,
    ) -> torch.Tensor:
        """Of (N, C, H, W); in training the running statistics move, in place (D25)."""
        eps = self.conventions["norm_eps"]
        return F.batch_norm(x, mean, var, weight, bias, training, self.momentum, eps)

    def block(
        self, x: torch.Tensor, params: Tensors, at: str, stride: int, training: bool
    ) -> torch.Tensor:
        """conv-BN-LIF-conv-BN (+ skip) -LIF (D9); `at` is "" or ends in a dot."""
        f = self.conv(x, params[f"{at}conv1.weight"], stride, 1)
        f = self.lif(self.norm(f, params, f"{at}bn1", training), f"{at}lif1")
        f = self.conv(f, params[f"{at}conv2.weight"], 1, 1)
        f = self.norm(f, params, f"{at}bn2", training)
        if f"{at}skip.conv.weight" in params:
            x = self.conv(x, params[f"{at}skip.conv.weight"], stride, 0)
            x = self.norm(x, params, f"{at}skip.bn", training)
        return self.join(f, x, f"{at}lif2")

    def join(self, f: torch.Tensor, skip: torch.Tensor, at: str) -> torch.Tensor:
        return self.lif(f + skip, at)  # Eq. 5

    def forward(
        self, images: torch.Tensor, params: Tensors, settings: Mapping[str, Any]
    ) -> Tensors:
        """Logits (N, K) of every branch by name, the main one ("head") last."""
        training = settings["training"]
        kind = settings["branches"] if training else "none"
        x = images.expand(settings["steps"], *images.shape)  # D7
        x = self.norm(self.conv(x, params["stem.conv0.weight"], 1, 1), params, "stem.bn0", training)
        x = self.lif(x, "stem.lif0")
        places = [(s, b) for s, depth in enumerate(settings["depths"], 1) for b in range(depth)]
        logits = {}
        for (stage, number), after in zip(places, [*places[1:], None], strict=True):
            at = f"stage{stage}.block{number}"
            x = self.block(x, params, f"{at}.", 2 if stage > 1 and number == 0 else 1, training)
            if after and kind == "block":  # D11
                logits[f"branch.{at}"] = self.branch(x, params, f"branch.{at}")
            elif after and kind == "stage" and after[0] > stage:
                logits[f"branch.stage{stage}"] = self.branch(x, params, f"branch.stage{stage}")
        return {**logits, "head": self.head(x, params, "head")}

    def branch(self, x: torch.Tensor, params: Tensors, at: str) -> torch.Tensor:
        return self.head(x, params, at)  # D12

    def head(self, x: torch.Tensor, params: Tensors, at: str) -> torch.Tensor:
        fc = (params[f"{at}.fc.weight"], params[f"{at}.fc.bias"])
        return self.readout(F.linear(self.pool(x), *fc))  # D10

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((-2, -1))

    def readout(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sum(0) if self.conventions["readout"] == "sum" else logits.mean(0)

    def objective(
        self, logits: Sequence[torch.Tensor], labels: torch.Tensor, side: float
    ) -> torch.Tensor:
        """The loss of all branches' logits, the main one's last (Eq. 10, D13)."""
        *sides, main = self.counted(list(logits))
        if self.conventions["branch_sum"] == "losses":
            return self.loss(main, labels) + sum(side * self.loss(b, labels) for b in sides)
        return self.loss(main + sum(side * b for b in sides), labels)

    def counted(self, logits: list[torch.Tensor]) -> list[torch.Tensor]:
        """The branches in the sum, the main one last and once (D14)."""
        return logits

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels)
