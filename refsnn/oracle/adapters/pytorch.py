"""Plain PyTorch as an adapter, and an example of one: `PyTorch().run(case)`. Needs torch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import cos, pi
from typing import Any

import numpy as np
import torch

from refsnn.ops import validate
from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.pytorch_network import Network, Tensors
from refsnn.oracle.conventions import PRECISIONS, Value

#: what can be chosen; a convention that is a number may have any value
SUPPORTED: dict[str, tuple[Value, ...]] = {
    "leak": ("tau*u + c",),
    "fire_at_threshold": (False, True),
    "reset": ("zero",),
    "output": ("same step",),
    "initial_potential": ("zero",),
    "reset_gradient": ("full", "detached"),
    "surrogate": ("tanh", "tanh_literal", "rectangular", "triangular"),
    "surrogate_scale": ("as given",),
    "surrogate_edge": ("outside", "inside"),
    "surrogate_at": ("u_pre - v_th",),
    "convolution": ("cross-correlation",),
    "norm_statistics": ("pooled", "per_step"),
    "norm_variance": ("biased",),
    "norm_running": ("unbiased",),
    "norm_gradient": ("full",),
    "norm_scale": ("1", "v_th"),
    "skip": ("before firing",),
    "pooling": ("mean",),
    "readout": ("mean", "sum"),
    "branch_sum": ("logits", "losses"),
    "branches_counted": ("all",),
    "loss": ("mean",),
    "lam_clock": ("iteration", "epoch"),
    "decay_form": ("decoupled",),
    "decay_on": ("all", "weights"),
    "schedule": ("from iteration 1",),
}
NUMERIC = ("tau", "v_th", "surrogate_shape", "norm_eps")
DATA = ("u_pre", "c", "x", "do", "images", "labels")  # inputs that are no parameters


def is_statistic(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var"))


def iterations(settings: Mapping[str, Any]) -> int:
    return int(settings["epochs"] * settings["batches"])


@contextmanager
def one_thread() -> Iterator[None]:
    """Cases are small, and threads that wait for each other ten times slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class PyTorch(Network):
    """All levels, in `precision` "float64" or "float32"."""

    name = "PyTorch"
    levels: tuple[str, ...] = ("surrogate", "neuron", "layer", "block", "network", "training")
    forced: Mapping[str, Any] = {}  # conventions followed whatever the case says

    def __init__(self, precision: str = "float64") -> None:
        validate.one_of("precision", precision, PRECISIONS)
        self.precision = precision

    def run(self, case: Any) -> dict[str, np.ndarray]:
        """The case's outputs by name; Unsupported for a convention or level not known here."""
        self.check(case)
        self.conventions = {**case.conventions, **self.forced}
        self.case = case
        self.seen = {}
        inputs = {name: self.tensor(name, value) for name, value in case.inputs.items()}
        with one_thread():
            outputs = getattr(self, f"run_{case.level}")(inputs, case.settings)
        return {
            name: torch.as_tensor(value).detach().numpy().copy() for name, value in outputs.items()
        }

    def check(self, case: Any) -> None:
        if case.level not in self.levels:
            raise Unsupported(f"level {case.level}")
        for name, value in case.conventions.items():
            if name not in NUMERIC and value not in SUPPORTED.get(name, ()):
                raise Unsupported(f"{name}: {value}")

    def tensor(self, name: str, value: np.ndarray) -> torch.Tensor:
        """An input of ours: a copy, with gradient unless it is a statistic, a label or `do`."""
        if name == "labels":
            return torch.tensor(value)
        wanted = not is_statistic(name) and name not in ("do", "images")
        return torch.tensor(value, dtype=getattr(torch, self.precision), requires_grad=wanted)

    def run_surrogate(self, inputs: Tensors, settings: Any) -> Tensors:
        u_pre = inputs["u_pre"]
        (h,) = torch.autograd.grad(self.spike(u_pre).sum(), u_pre)
        return {"h": h}

    def run_neuron(self, inputs: Tensors, settings: Any) -> Tensors:
        o = self.lif(inputs["c"], "")
        shown = self.show("")
        return {**shown, **self.gradients((o * inputs["do"]).sum(), {"dc": inputs["c"]})}

    def run_layer(self, inputs: Tensors, settings: Any) -> Tensors:
        w, place = inputs["conv.weight"], (settings["stride"], settings["padding"])
        conv = self.conv(inputs["x"], w, *place)
        bn = self.norm(conv, inputs, "bn", settings["training"])
        o = self.lif(bn, "")
        shown = {"conv": conv, "bn": bn, **self.show("")}
        return {**shown, **self.pull(o, inputs, settings)}

    def run_block(self, inputs: Tensors, settings: Any) -> Tensors:
        o = self.block(inputs["x"], inputs, "", settings["stride"], settings["training"])
        shown = {**self.show("lif1"), **self.show("lif2")}
        return {**shown, **self.pull(o, inputs, settings)}

    def pull(self, o: torch.Tensor, inputs: Tensors, settings: Any) -> Tensors:
        """New statistics and gradients of a layer or block that sent out `o` (T, N, C, H, W)."""
        new = self.statistics(inputs) if settings["training"] else {}
        wanted = {"dx": inputs["x"], **self.parameters(inputs, "grad.")}
        return {**new, **self.gradients((o * inputs["do"]).sum(), wanted)}

    def run_network(self, inputs: Tensors, settings: Any) -> Tensors:
        logits = self.forward(inputs["images"], inputs, settings)
        shown = self.show_network(logits)
        if not settings["training"]:
            return shown
        loss = self.objective(list(logits.values()), inputs["labels"], settings["side"])
        grads = self.gradients(loss, self.parameters(inputs, "grad."))
        return {**shown, "loss": loss, **self.statistics(inputs), **grads}

    def run_training(self, inputs: Tensors, settings: Any) -> Tensors:
        """Algorithm 1."""
        params = self.parameters(inputs)
        optimizer = self.optimizer(params, settings)
        network = {**settings, "training": True}
        rows: dict[str, list[float]] = {"side": [], "lr": [], "loss": []}
        first: Tensors = {}
        for i, (images, labels) in enumerate(zip(inputs["images"], inputs["labels"], strict=True)):
            side, lr = self.side(i + 1, settings), self.learning_rate(i + 1, settings)
            logits = self.forward(images, inputs, network)
            loss = self.objective(list(logits.values()), labels, side)
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
        return {**series, **first, **last, **self.statistics(inputs)}

    def forget(self, params: Tensors) -> None:
        """Of the last iteration's gradients. No path from the loss is a gradient of zero: with
        None, as zero_grad leaves it, the parameter would not decay either."""
        for p in params.values():
            p.grad = torch.zeros_like(p)

    def side(self, i: int, settings: Mapping[str, Any]) -> float:
        """Weight of the side branches at iteration i = 1 ... I (D15, D16)."""
        match settings["method"]:
            case "vanilla":
                return 0.0
            case "shortcut":
                return float(settings["shortcut_weight"])
        return float(settings["lam"]) * (1 - self.progress(i, settings))  # Eq. 10

    def progress(self, i: int, settings: Mapping[str, Any]) -> float:
        if self.conventions["lam_clock"] == "epoch":
            epoch = (i - 1) // settings["batches"] + 1
            return float(epoch / settings["epochs"])
        return i / iterations(settings)

    def learning_rate(self, i: int, settings: Mapping[str, Any]) -> float:
        return float(settings["lr"]) / 2 * (1 + cos(pi * (i - 1) / iterations(settings)))

    def optimizer(self, params: Tensors, settings: Mapping[str, Any]) -> Any:
        """With two groups: what weight decay shrinks, and what it leaves alone."""
        every = self.conventions["decay_on"] == "all"
        decayed = [p for p in params.values() if every or p.ndim > 1]
        spared = [p for p in params.values() if not every and p.ndim == 1]
        groups = [
            {"params": decayed, "weight_decay": settings["weight_decay"]},
            {"params": spared, "weight_decay": 0.0},
        ]
        if settings["optimizer"] == "sgd":
            return torch.optim.SGD(groups, lr=settings["lr"], momentum=settings["momentum"])
        return self.adam(groups, settings["lr"])

    def adam(self, groups: list[dict[str, Any]], lr: float) -> Any:
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)

    def show(self, at: str) -> Tensors:
        """`<at>.u_pre`, `.o`, `.u` (T, N, ...) of a layer."""
        states, dot = self.seen[at], f"{at}." if at else ""
        return {
            f"{dot}{k}": torch.stack([getattr(s, k) for s in states]) for k in states[0]._fields
        }

    def show_network(self, logits: Tensors) -> Tensors:
        shown: Tensors = {}
        for at in self.seen:
            shown |= self.show(at)
        return {**shown, **{f"{branch}.logits": value for branch, value in logits.items()}}

    def statistics(self, inputs: Tensors) -> Tensors:
        return {f"new.{name}": value for name, value in inputs.items() if is_statistic(name)}

    def parameters(self, inputs: Tensors, prefix: str = "") -> Tensors:
        names = (name for name in inputs if name not in DATA and not is_statistic(name))
        return {prefix + name: inputs[name] for name in names}

    def gradients(self, objective: torch.Tensor, wanted: Tensors) -> Tensors:
        """dL/du_pre (T, N, ...) of each layer seen, last first, then dL/d of those wanted."""
        by_layer = {at: self.leaves(at) for at in reversed(self.seen)}
        leaves = [*(leaf for of in by_layer.values() for leaf in of), *wanted.values()]
        found = torch.autograd.grad(objective, leaves, allow_unused=True)
        got = iter(
            torch.zeros_like(leaf) if g is None else g
            for leaf, g in zip(leaves, found, strict=True)
        )
        deltas = {
            f"{at}.du_pre" if at else "du_pre": self.delta(at, [next(got) for _ in of])
            for at, of in by_layer.items()
        }
        return {**deltas, **dict(zip(wanted, got, strict=True))}

    def leaves(self, at: str) -> list[torch.Tensor]:
        """Each step's u_pre is a tensor of its own in the graph, so its gradient is all of Eq. 3:
        by way of this step's spike and of the next step's potential."""
        return [state.u_pre for state in self.seen[at]]

    def delta(self, at: str, gradients: list[torch.Tensor]) -> torch.Tensor:
        """dL/du_pre (T, N, ...) by the gradients of the leaves."""
        return torch.stack(gradients)
