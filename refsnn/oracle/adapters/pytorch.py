"""The adapter of plain PyTorch, `PyTorch().run(case)`, which is also an example. Needs torch."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import cos, pi
from typing import Any

import numpy as np
import torch
from torch import nn

from refsnn.ops import RESETS, SURROGATES, validate
from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.conventions import FROM_SETTINGS, PAPER, PRECISIONS, Value
from refsnn.pytorch import LIF, BatchNorm, Block, Network, decay_groups, objective, side_coefficient

Tensors = dict[str, torch.Tensor]

#: conventions that are arguments of LIF
NEURON = (
    "tau",
    "v_th",
    "surrogate",
    "surrogate_shape",
    "surrogate_edge",
    "reset",
    "reset_amount",
    "reset_gradient",
    "fire_at_threshold",
)
ADAM = ("adam_beta1", "adam_beta2", "adam_eps")
#: conventions that may be any number
NUMERIC = (
    *("tau", "v_th", "reset_amount", "surrogate_shape", "norm_eps", "norm_momentum"),
    *ADAM,
    *FROM_SETTINGS,  # whose numbers the settings have
)
#: the supported values of each other convention: the paper's, or some more
SUPPORTED: dict[str, tuple[Value, ...]] = {
    name: (value,) for name, value in PAPER.items() if name not in NUMERIC
} | {
    "fire_at_threshold": (False, True),
    "reset_gradient": ("full", "detached"),
    "reset": RESETS,
    "surrogate": tuple(SURROGATES),
    "surrogate_edge": ("outside", "inside"),
    "norm_statistics": ("pooled", "per_step", "frozen"),
    "norm_scale": ("1", "v_th"),
    "readout": ("mean", "sum"),
    "branch_sum": ("logits", "losses"),
    "lam_clock": ("iteration", "epoch"),
    "nesterov": (False, True),
    "decay_on": ("all", "weights"),
}
STEM = {"convs": 1, "kernel": 3, "stride": 1, "pool": None}


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: on a busy machine, more make small cases ten times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def iterations(settings: Mapping[str, Any]) -> int:
    """Return the number of iterations in the whole training."""
    return int(settings["epochs"] * settings["batches"])


class PyTorch:
    """Run cases of all levels by `refsnn.pytorch`, in one of PRECISIONS."""

    name = "PyTorch"
    levels: tuple[str, ...] = ("surrogate", "neuron", "layer", "block", "network", "training")
    forced: Mapping[str, Any] = {}  # conventions that override the case's

    def __init__(self, precision: str = "float64") -> None:
        validate.one_of("precision", precision, PRECISIONS)
        self.precision = precision

    def run(self, case: Any) -> dict[str, np.ndarray]:
        """Return the case's outputs by name.

        Unsupported for a level or a convention that this adapter does not know.
        """
        self.check(case)
        self.conventions = {**PAPER, **case.conventions, **self.forced}
        self.case = case
        inputs = {name: self.tensor(value) for name, value in case.inputs.items()}
        with one_thread():
            outputs = getattr(self, f"run_{case.level}")(inputs, case.settings)
        return {name: plain(torch.as_tensor(value)) for name, value in outputs.items()}

    def check(self, case: Any) -> None:
        """Raise Unsupported for a level or a convention that this adapter does not know."""
        if case.level not in self.levels:
            raise Unsupported(f"level {case.level}")
        for name, values in SUPPORTED.items():
            value = case.conventions.get(name, PAPER[name])
            if value not in values:
                raise Unsupported(f"{name}: {value}")

    def tensor(self, value: np.ndarray) -> torch.Tensor:
        """Copy an input; all but whole numbers get the adapter's precision."""
        dtype = getattr(torch, self.precision) if value.dtype.kind == "f" else None
        return torch.tensor(value, dtype=dtype)

    def neuron(self, steps: int) -> nn.Module:
        """Make a layer of neurons that follows the case's conventions."""
        conventions = self.conventions
        return LIF(steps, **{name: conventions[name] for name in NEURON})

    def norm(self) -> dict[str, Any]:
        """Return the arguments of BatchNorm that follow the case's conventions."""
        conventions = self.conventions
        return {
            "statistics": conventions["norm_statistics"],
            "scale": conventions["v_th"] if conventions["norm_scale"] == "v_th" else 1.0,
            "eps": conventions["norm_eps"],
            "momentum": conventions["norm_momentum"],
        }

    def build(self, module: nn.Module, inputs: Tensors, training: bool = True) -> nn.Module:
        """Give a module the case's parameters and running statistics, and let it record states."""
        module = module.to(getattr(torch, self.precision)).train(training)
        wanted = (name for name in module.state_dict() if not name.endswith("batches_tracked"))
        module.load_state_dict({name: inputs[name] for name in wanted})
        if self.conventions["norm_statistics"] == "frozen":
            for part in module.modules():
                part.train(training and not isinstance(part, nn.BatchNorm2d))
        for layer in layers(module).values():
            layer.record = True
        return module

    def run_surrogate(self, inputs: Tensors, settings: Any) -> Tensors:
        """Return the slope at u_pre."""
        neuron, u_pre = self.build(self.neuron(1), inputs), inputs["u_pre"].requires_grad_()
        (h,) = torch.autograd.grad(neuron.fire(u_pre - neuron.v_th).sum(), u_pre)
        return {"h": h}

    def run_neuron(self, inputs: Tensors, settings: Any) -> Tensors:
        """Return the states of neurons, and the gradients for `do`."""
        c = inputs["c"].requires_grad_()
        neuron = self.build(self.neuron(len(c)), inputs)
        loss = (neuron(c.flatten(0, 1)) * inputs["do"].flatten(0, 1)).sum()
        return {**self.states(neuron), **self.gradients(loss, neuron, {"dc": c})}

    def run_layer(self, inputs: Tensors, settings: Any) -> Tensors:
        """Return what conv-BN-LIF computes, and the gradients for `do`."""
        weight, seen, steps = inputs["conv.weight"], {}, len(inputs["x"])
        (c_out, c_in), place = weight.shape[:2], (settings["stride"], settings["padding"])
        conv = nn.Conv2d(c_in, c_out, weight.shape[2:], *place, bias=False)
        bn = BatchNorm(c_out, steps, **self.norm())
        parts = OrderedDict(conv=conv, bn=bn, lif=self.neuron(steps))

        def see(part: nn.Module, _: Any, y: torch.Tensor) -> None:
            seen["conv" if part is conv else "bn"] = y.unflatten(0, (steps, -1))

        conv.register_forward_hook(see)
        bn.register_forward_hook(see)
        outputs = self.pass_through(nn.Sequential(parts), inputs, settings["training"])
        return {**seen, **outputs}

    def run_block(self, inputs: Tensors, settings: Any) -> Tensors:
        """Return what a residual block computes, and the gradients for `do`."""
        steps, (c_out, c_in) = len(inputs["x"]), inputs["conv1.weight"].shape[:2]
        norm = partial(BatchNorm, steps=steps, **self.norm())
        block = Block(c_in, c_out, settings["stride"], norm, partial(self.neuron, steps))
        return self.pass_through(block, inputs, settings["training"])

    def pass_through(self, module: nn.Module, inputs: Tensors, training: bool) -> Tensors:
        """Return states, new statistics and gradients of a module of (T N, C, H, W)."""
        module, x = self.build(module, inputs, training), inputs["x"].requires_grad_()
        loss = (module(x.flatten(0, 1)) * inputs["do"].flatten(0, 1)).sum()
        new = statistics(module) if training else {}
        return {**self.states(module), **new, **self.gradients(loss, module, {"dx": x})}

    def network(self, inputs: Tensors, settings: Any, training: bool) -> nn.Module:
        """Build the case's network; without side branches where it is not trained."""
        net = {
            "in_channels": inputs["images"].shape[-3],
            "num_classes": len(inputs["head.fc.bias"]),
            "stem": STEM | {"width": settings["stem_width"]},
            "depths": settings["depths"],
            "widths": settings["widths"],
            "hidden": 0,
            "branches": settings["branches"] if training else "none",
            "downsample": "conv",
            "readout": self.conventions["readout"],
            "norm": self.norm(),
        }
        return self.build(Network(net, settings["steps"], self.neuron), inputs, training)

    def run_network(self, inputs: Tensors, settings: Any) -> Tensors:
        """Return what a network computes, and all gradients of its loss where it is trained."""
        training = settings["training"]
        network = self.network(inputs, settings, training)
        logits = network(encode(inputs["images"], settings))
        shown = {f"{branch}.logits": value for branch, value in logits.items()}
        shown = {**self.states(network), **shown}
        if not training:
            return shown
        loss = self.loss(list(logits.values()), inputs["labels"], settings["side"])
        new = {"loss": loss, **statistics(network)}
        return {**shown, **new, **self.gradients(loss, network, {})}

    def run_training(self, inputs: Tensors, settings: Any) -> Tensors:
        """Return what some iterations of Algorithm 1 compute."""
        network = self.network(inputs, settings, training=True)
        params = dict(network.named_parameters())
        optimizer = self.optimizer(params, settings)
        rows: dict[str, list[float]] = {"side": [], "lr": [], "loss": []}
        first: Tensors = {}
        for i, (images, labels) in enumerate(zip(inputs["images"], inputs["labels"], strict=True)):
            side, lr = self.side(i + 1, settings), self.learning_rate(i + 1, settings)
            loss = self.loss(list(network(encode(images, settings)).values()), labels, side)
            self.forget(params)
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            for name, value in zip(rows, (side, lr, loss.item()), strict=True):
                rows[name].append(value)
            first = first or {f"first.{name}": p.detach().clone() for name, p in params.items()}
        series = {name: torch.tensor(row, dtype=torch.float64) for name, row in rows.items()}
        last = {f"last.{name}": p for name, p in params.items()}
        return {**series, **first, **last, **statistics(network)}

    def loss(self, logits: list[torch.Tensor], labels: torch.Tensor, side: float) -> torch.Tensor:
        """Return the loss of all branches' logits, the main branch last (Eq. 10, D13)."""
        return objective(logits, labels, side, self.conventions["branch_sum"])

    def forget(self, params: Tensors) -> None:
        """Set all gradients to zero.

        To None, as zero_grad does, would exempt a parameter without a path to the loss from
        weight decay.
        """
        for p in params.values():
            p.grad = torch.zeros_like(p)

    def side(self, i: int, settings: Mapping[str, Any]) -> float:
        """Return the side branches' coefficient at iteration i = 1, 2, ... (D15, D16)."""
        weights = settings["lam"], settings["shortcut_weight"]
        return float(side_coefficient(settings["method"], self.progress(i, settings), *weights))

    def progress(self, i: int, settings: Mapping[str, Any]) -> float:
        """Return the fraction of the training that is over at iteration i."""
        if self.conventions["lam_clock"] == "epoch":
            epoch = (i - 1) // settings["batches"] + 1
            return float(epoch / settings["epochs"])
        return i / iterations(settings)

    def learning_rate(self, i: int, settings: Mapping[str, Any]) -> float:
        """Return the learning rate at iteration i (R3)."""
        return float(settings["lr"]) / 2 * (1 + cos(pi * (i - 1) / iterations(settings)))

    def optimizer(self, params: Tensors, settings: Mapping[str, Any]) -> Any:
        """Make the optimiser."""
        decay, decay_on = settings["weight_decay"], str(self.conventions["decay_on"])
        groups = decay_groups(params.values(), decay, decay_on)
        if settings["optimizer"] == "sgd":
            momentum = settings["momentum"]
            # PyTorch refuses Nesterov's momentum of 0, which is none
            nesterov = bool(self.conventions["nesterov"]) and momentum > 0
            return torch.optim.SGD(groups, lr=settings["lr"], momentum=momentum, nesterov=nesterov)
        return self.adam(groups, settings["lr"])

    def adam(self, groups: list[dict[str, Any]], lr: float) -> Any:
        """Make AdamW."""
        beta1, beta2, eps = (float(self.conventions[name]) for name in ADAM)
        return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), eps=eps)

    def states(self, module: nn.Module) -> Tensors:
        """Return u_pre, o and u (T, N, ...) of each layer of neurons by name."""
        return {
            prefix(name) + field: torch.stack([getattr(state, field) for state in layer.states])
            for name, layer in layers(module).items()
            for field in ("u_pre", "o", "u")
        }

    def gradients(self, loss: torch.Tensor, module: nn.Module, inputs: Tensors) -> Tensors:
        """Return dL/du_pre (T, N, ...) of each layer, last first, then by inputs and parameters."""
        wanted = inputs | {f"grad.{name}": p for name, p in module.named_parameters()}
        potentials = {name: self.leaves(layer) for name, layer in reversed(layers(module).items())}
        leaves = [
            *(leaf for layer_leaves in potentials.values() for leaf in layer_leaves),
            *wanted.values(),
        ]
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        got = iter(
            torch.zeros_like(leaf) if g is None else g
            for leaf, g in zip(leaves, found, strict=True)
        )
        deltas = {
            f"{prefix(name)}du_pre": self.delta(
                layers(module)[name], [next(got) for _ in layer_leaves]
            )
            for name, layer_leaves in potentials.items()
        }
        return {**deltas, **dict(zip(wanted, got, strict=True))}

    def leaves(self, layer: Any) -> list[torch.Tensor]:
        """Return the tensors from whose gradients `delta` makes dL/du_pre.

        Each step's u_pre is a tensor of its own in the graph, so its gradient is all of Eq. 3:
        through the spike of this step and through the potential of the next one.
        """
        return [state.u_pre for state in layer.states]

    def delta(self, layer: Any, gradients: list[torch.Tensor]) -> torch.Tensor:
        """Return dL/du_pre (T, N, ...) of a layer from the gradients of its leaves."""
        return torch.stack(gradients)


def plain(value: torch.Tensor) -> np.ndarray:
    """Copy a tensor into an array, of float32 where NumPy lacks the tensor's dtype."""
    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy().copy()


def layers(module: nn.Module) -> dict[str, Any]:
    """Return the layers of neurons that record their states, by name, in order of computing."""
    return {name: part for name, part in module.named_modules() if hasattr(part, "record")}


def prefix(name: str) -> str:
    """Return what precedes the names of a layer's outputs; a case with one layer has nothing."""
    return "" if name in ("", "lif") else f"{name}."


def encode(images: torch.Tensor, settings: Mapping[str, Any]) -> torch.Tensor:
    """Return the images (N, C, H, W) at every step, (T, N, C, H, W) (D7)."""
    return images.expand(settings["steps"], *images.shape)


def statistics(module: nn.Module) -> Tensors:
    """Return the running statistics after the last pass."""
    return {
        f"new.{name}": value
        for name, value in module.named_buffers()
        if name.endswith((".running_mean", ".running_var"))
    }
