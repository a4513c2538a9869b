"""What the adapters of PyTorch's spiking libraries share: everything but the neuron.

Convolution and batch norm are PyTorch's own. A library's adapter makes neurons; one is kept for
each setting, and used again from layer to layer and run to run, so that a kept state shows.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from refsnn.ops import validate
from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.conventions import CONVENTIONS, PAPER, Value

LEVELS = ("surrogate", "neuron", "layer", "block")
EQ4 = ("tanh", "tanh_literal", "rectangular", "triangular")
#: conventions that may have other values than the paper's
FREE = (
    "decay", "fire", "reset_gradient", "surrogate", "surrogate_edge",
    "norm_eps", "norm_statistics", "norm_scale",
)  # fmt: skip
FIXED = [n for n, c in CONVENTIONS.items() if c.level in LEVELS and n not in FREE]


class Settings(NamedTuple):
    """A neuron as a case wants it."""

    tau: float  # leak factor
    v_th: float
    decay: str
    inclusive: bool  # fires at v_th too
    detached: bool  # the reset's gradient
    surrogate: str
    shape: float  # k, a or gamma
    edge_inside: bool  # the rectangle's


class Trace(NamedTuple):
    """What a neuron shows of T steps from u = 0."""

    o: Any  # (T, N, ...), differentiable by c
    u_pre: Any  # (T, N, ...)
    u: Any  # (T, N, ...)
    gain: float = 1.0  # du_pre/dc


Neuron = Callable[[Any], Trace]  # of currents c (T, N, ...)
Tensors = dict[str, Any]


class TorchLayers:
    """An adapter of levels surrogate to block, by the neurons that `make` gives."""

    name = ""
    levels = LEVELS
    omits: tuple[str, ...] = ()
    #: conventions that it has whatever the case wants
    fixed: ClassVar[Mapping[str, Value]] = {}

    def __init__(self, precision: str = "float64") -> None:
        validate.one_of("precision", precision, ("float64", "float32"))
        self.precision = precision
        self.neurons: dict[Settings, Neuron] = {}

    def make(self, settings: Settings) -> Neuron:
        """Unsupported where the library has no such neuron."""
        raise NotImplementedError

    def run(self, case: Any) -> dict[str, np.ndarray]:
        """The case's outputs by name; Unsupported where the library can't express it."""
        if case.level not in LEVELS:
            raise Unsupported(f"{self.name} has neurons, and no level {case.level}")
        neuron = self.settings(case.conventions)
        if neuron not in self.neurons:
            self.neurons[neuron] = self.make(neuron)
        tensors = {name: self.tensor(array) for name, array in case.inputs.items()}
        layer = {**case.settings, **norm_settings(case.conventions)}
        found = RUNS[case.level](tensors, layer, self.neurons[neuron])
        return {name: t.detach().numpy() for name, t in found.items()}

    def tensor(self, array: Any) -> Any:
        import torch

        return torch.tensor(array, dtype=getattr(torch, self.precision))

    def settings(self, conventions: Mapping[str, Value]) -> Settings:
        for name in FIXED:
            if conventions[name] != PAPER[name]:
                raise Unsupported(f"{self.name} is run with {name} {PAPER[name]!r} only")
        if conventions["reset_gradient"] not in ("full", "detached"):
            raise Unsupported(f"{self.name}'s reset gradient is full or detached")
        if conventions["surrogate"] not in EQ4:
            raise Unsupported(f"{self.name} is run with Eq. 4's surrogates only")
        return Settings(
            float(conventions["tau"]),
            float(conventions["v_th"]),
            str(conventions["decay"]),
            conventions["fire"] == ">=",
            conventions["reset_gradient"] == "detached",
            str(conventions["surrogate"]),
            float(conventions["surrogate_shape"]),
            conventions["surrogate_edge"] == "inside",
        )

    def threshold(self, v_th: float, inclusive: bool, wanted: bool) -> float:
        """v_th, or its neighbour where the library's comparison is the other one.

        No float lies between: u >= the next above v_th is u > v_th.
        """
        if inclusive == wanted:
            return v_th
        dtype = np.dtype(self.precision).type
        return float(np.nextafter(dtype(v_th), dtype(np.inf if inclusive else -np.inf)))


def norm_settings(conventions: Mapping[str, Value]) -> dict[str, Any]:
    return {
        "eps": float(conventions["norm_eps"]),
        "per_step": conventions["norm_statistics"] == "per_step",
        "norm_scale": float(conventions["v_th"]) if conventions["norm_scale"] == "v_th" else 1.0,
    }


def run_surrogate(tensors: Tensors, settings: dict[str, Any], fire: Neuron) -> Tensors:
    """One step from u = 0, where u_pre = gain c and dL/do = 1."""
    import torch

    u_pre = tensors["u_pre"][None]
    gain = fire(torch.zeros_like(u_pre)).gain
    c = (u_pre / gain).requires_grad_()
    (dc,) = torch.autograd.grad(fire(c).o, c, torch.ones_like(c))
    return {"h": dc[0] / gain}


def run_neuron(tensors: Tensors, settings: dict[str, Any], fire: Neuron) -> Tensors:
    import torch

    c = tensors["c"].requires_grad_()
    o, u_pre, u, gain = fire(c)
    (dc,) = torch.autograd.grad(o, c, tensors["do"])
    return {"u_pre": u_pre, "o": o, "u": u, "du_pre": dc / gain, "dc": dc}


def run_layer(tensors: Tensors, settings: dict[str, Any], fire: Neuron) -> Tensors:
    import torch

    x, parameters, new = tensors["x"].requires_grad_(), with_gradients(tensors), Tensors()
    conv = convolve(x, tensors["conv.weight"], settings["stride"], settings["padding"])
    bn = normalise(conv, tensors, "bn", settings, new)
    o, u_pre, u, gain = fire(bn)
    dbn, dx, *grads = torch.autograd.grad(o, [bn, x, *parameters.values()], tensors["do"])
    return {
        "conv": conv, "bn": bn, "u_pre": u_pre, "o": o, "u": u, **new,
        "du_pre": dbn / gain, "dx": dx, **named_gradients(parameters, grads),
    }  # fmt: skip


def run_block(tensors: Tensors, settings: dict[str, Any], fire: Neuron) -> Tensors:
    """Eq. 5 with D9's order."""
    import torch

    x, parameters, new = tensors["x"].requires_grad_(), with_gradients(tensors), Tensors()

    def conv_bn(y: Any, conv: str, bn: str, stride: int) -> Any:
        weight = tensors[f"{conv}.weight"]
        y = convolve(y, weight, stride, padding=weight.shape[-1] // 2)
        return normalise(y, tensors, bn, settings, new)

    c1 = conv_bn(x, "conv1", "bn1", settings["stride"])
    lif1 = fire(c1)
    c2 = conv_bn(lif1.o, "conv2", "bn2", 1)
    if "skip.conv.weight" in tensors:
        c2 = c2 + conv_bn(x, "skip.conv", "skip.bn", settings["stride"])
    else:
        c2 = c2 + x
    lif2 = fire(c2)
    wanted = [c2, c1, x, *parameters.values()]
    dc2, dc1, dx, *grads = torch.autograd.grad(lif2.o, wanted, tensors["do"])
    return {
        "lif1.u_pre": lif1.u_pre, "lif1.o": lif1.o, "lif1.u": lif1.u,
        "lif2.u_pre": lif2.u_pre, "lif2.o": lif2.o, "lif2.u": lif2.u, **new,
        "lif2.du_pre": dc2 / lif2.gain, "lif1.du_pre": dc1 / lif1.gain,
        "dx": dx, **named_gradients(parameters, grads),
    }  # fmt: skip


RUNS = {
    "surrogate": run_surrogate, "neuron": run_neuron, "layer": run_layer, "block": run_block,
}  # fmt: skip


def with_gradients(tensors: Tensors) -> Tensors:
    """The parameters among the tensors, from here on differentiated by."""
    return {n: t.requires_grad_() for n, t in tensors.items() if n.endswith((".weight", ".bias"))}


def named_gradients(parameters: Tensors, grads: list[Any]) -> Tensors:
    return {f"grad.{name}": grad for name, grad in zip(parameters, grads, strict=True)}


def convolve(x: Any, weight: Any, stride: int, padding: int) -> Any:
    """x (T, N, C, H, W)."""
    import torch

    y = torch.nn.functional.conv2d(x.flatten(0, 1), weight, stride=stride, padding=padding)
    return y.unflatten(0, x.shape[:2])


def normalise(x: Any, tensors: Tensors, bn: str, settings: dict[str, Any], new: Tensors) -> Any:
    """Batch norm, pooled over T, N, H, W or a step at a time (D8), its running statistics (D25)."""
    import torch

    mean, var = (tensors[f"{bn}.running_{s}"].clone() for s in ("mean", "var"))
    weight, bias = settings["norm_scale"] * tensors[f"{bn}.weight"], tensors[f"{bn}.bias"]
    parts = x if settings["per_step"] else [x.flatten(0, 1)]
    y = [
        torch.nn.functional.batch_norm(
            part, mean, var, weight, bias, settings["training"], momentum=0.1, eps=settings["eps"]
        )
        for part in parts
    ]
    if settings["training"]:
        new |= {f"new.{bn}.running_mean": mean, f"new.{bn}.running_var": var}
    return torch.cat(y).unflatten(0, x.shape[:2])


def slope(x: Any, s: Settings) -> Any:
    """do/du_pre of Eq. 4 at the distance x = u_pre - v_th."""
    import torch

    if s.surrogate == "tanh":
        return s.shape * (1 - torch.tanh(x) ** 2)
    if s.surrogate == "tanh_literal":
        return s.shape * (1 - torch.tanh(x)) ** 2
    if s.surrogate == "rectangular":
        far = torch.abs(x)
        inside = far <= s.shape / 2 if s.edge_inside else far < s.shape / 2
        return inside.to(x.dtype) / s.shape
    if s.surrogate == "triangular":
        return s.shape * torch.relu(1 - torch.abs(x) / s.v_th)
    raise ValueError(f"surrogate: got {s.surrogate!r}, want one of Eq. 4")


def firing(s: Settings) -> Callable[[Any], Any]:
    """Spikes of x = u_pre - v_th, whose derivative is the slope.

    x - x.detach() is zero and has the derivative 1.
    """

    def fire(x: Any) -> Any:
        spikes = x >= 0 if s.inclusive else x > 0
        return spikes.to(x.dtype) + slope(x.detach(), s) * (x - x.detach())

    return fire


def before(u: Any) -> Any:
    """The potentials that each step starts from."""
    import torch

    return torch.cat([torch.zeros_like(u[:1]), u[:-1]])
