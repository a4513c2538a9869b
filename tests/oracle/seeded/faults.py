"""Seeded faults: the PyTorch adapter gone wrong in one place, or in two or three. Needs torch.

A comparison must reject each of them, and a diagnosis name the `conventions` that describe it,
or say, where there are none, that nothing fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from deviants import DEVIANTS, adapter, replaced
from torch import nn
from torch.nn import functional as F

from refsnn.oracle.adapters.pytorch import NUMERIC, SUPPORTED, PyTorch
from refsnn.pytorch import LIF, BatchNorm, State


class OneBlockSummed(BatchNorm):
    """A bias's gradient is summed over one GPU block, so it is wrong only in larger layers."""

    def normalise(self, x: Any) -> Any:
        y = super().normalise(x)
        images, _, height, width = x.shape
        within = torch.arange(images * height * width).reshape(images, 1, height, width) < 1024
        bias = self.bias[:, None, None]
        return y - bias + torch.where(within, bias, bias.detach())


class WeightGradientTransposed(PyTorch):
    def gradients(self, loss: Any, module: Any, inputs: Any) -> Any:
        return {
            name: g.mT if name.startswith("grad.") and g.ndim == 4 else g
            for name, g in super().gradients(loss, module, inputs).items()
        }


class ForgetsLastStep(nn.Conv2d):
    steps: int

    def _conv_forward(self, x: Any, weight: Any, bias: Any) -> Any:
        *others, last = x.chunk(self.steps)
        y = super()._conv_forward(last, weight.detach(), bias)
        return torch.cat([super()._conv_forward(torch.cat(others), weight, bias), y])


class LastStepForgotten(PyTorch):
    """A convolution's weight gradient stops one step early."""

    def build(self, module: Any, inputs: Any, training: bool = True) -> Any:
        steps = len(inputs["x"]) if "x" in inputs else self.case.settings.get("steps")
        if steps != 1:
            for part in replaced(module, (ForgetsLastStep,)).modules():
                if isinstance(part, ForgetsLastStep):
                    part.steps = steps
        return super().build(module, inputs, training)


class NaNInOneElement(PyTorch):
    def run(self, case: Any) -> dict[str, np.ndarray]:
        outputs = super().run(case)
        next(reversed(outputs.values())).flat[-1] = np.nan
        return outputs


class PaddingOffByOne(nn.Conv2d):
    """All padding of a row and column on one side."""

    def _conv_forward(self, x: Any, weight: Any, bias: Any) -> Any:
        both = 2 * self.padding[0]
        return F.conv2d(F.pad(x, (both, 0, both, 0)), weight, bias, self.stride)


class StrideOffByOne(nn.Conv2d):
    """Strided convolutions begin at the second row and column."""

    def _conv_forward(self, x: Any, weight: Any, bias: Any) -> Any:
        back = 1 - self.stride[0]
        return super()._conv_forward(x.roll((back, back), (-2, -1)), weight, bias)


class TruncatedInTime(LIF):
    """No back-propagation through time: each step by itself."""

    def step(self, last: State, c: Any) -> State:
        u = last.u.detach() if torch.is_tensor(last.u) else last.u
        return super().step(last._replace(u=u), c)


class LeakTwiceBackward(LIF):
    """Backward tau^2 where forward has tau."""

    def charge(self, u: Any, c: Any) -> Any:
        value, wrong = super().charge(u, c), self.tau**2 * u + c
        return wrong + (value - wrong).detach()


class DeltaOfLastStepOnly(PyTorch):
    """dL/du_pre is kept for the last step alone; every other gradient is right."""

    def gradients(self, loss: Any, module: Any, inputs: Any) -> Any:
        found = super().gradients(loss, module, inputs)
        for name in [name for name in found if name.endswith("du_pre")]:
            found[name] = torch.cat([torch.zeros_like(found[name][:-1]), found[name][-1:]])
        return found


class FirstStepSkipped(LIF):
    """The neurons' loop begins at the second step."""

    def forward(self, c: Any) -> Any:
        first, *others = c.chunk(self.steps)
        return super().forward(torch.cat([0 * first, *others]))


class StaleGradients(PyTorch):
    """Gradients are never set to zero, so they add up over iterations."""

    def forget(self, params: Any) -> None:
        pass


@dataclass(frozen=True)
class Fault:
    """A fault, the conventions that describe it, and levels at which it shows."""

    name: str
    conventions: Mapping[str, Any]
    levels: tuple[str, ...]
    deviants: tuple[type, ...]  # of modules or of the adapter

    def make(self, precision: str = "float64") -> PyTorch:
        """A new adapter that has the fault."""
        told = {
            name: value
            for name, value in self.conventions.items()
            if name in NUMERIC or value in SUPPORTED[name]
        }
        made = adapter(*self.deviants)(precision)
        made.forced, made.name = told, self.name
        return made


def described(level: str, **conventions: Any) -> Fault:
    """The fault of following these conventions whatever a case says."""
    wanted = [DEVIANTS.get(name, {}).get(value) for name, value in conventions.items()]
    deviants = tuple(deviant for deviant in wanted if deviant)
    name = ", ".join(f"{name}: {value}" for name, value in conventions.items())
    return Fault(name, conventions, (level,), deviants)


def undescribed(deviant: type, *levels: str) -> Fault:
    return Fault(deviant.__name__, {}, levels, (deviant,))


#: each alternative by itself, the lowest level at which it shows first
SINGLE: dict[str, dict[str, tuple[Any, ...]]] = {
    "surrogate": {
        "surrogate": (
            *("tanh_literal", "softsign", "super_spike", "dspike", "rectifier"),
            *DEVIANTS["surrogate"],
        ),
        "surrogate_scale": ("without 1/a", "without k", "without any", 0.0),
        "surrogate_unit": ("v_th",),
        "surrogate_edge": ("inside",),
        "surrogate_at": ("u_pre",),
    },
    "neuron": {
        "surrogate_at": ("u",),
        "leak": tuple(DEVIANTS["leak"]),
        "fire_at_threshold": (True,),
        "tau": (0.0, 0.83),
        "input_gain": tuple(DEVIANTS["input_gain"]),
        "synapse": tuple(DEVIANTS["synapse"]),
        "input_delay": (1,),
        "spikes": ("several",),
        "refractory": (1,),
        "reset": tuple(DEVIANTS["reset"]),
        "reset_potential": tuple(DEVIANTS["reset_potential"]),
        "output": ("one step late",),
        "initial_potential": ("kept",),
        "reset_gradient": ("detached", *DEVIANTS["reset_gradient"]),
    },
    "layer": {
        "convolution": ("flipped",),
        "norm_statistics": ("per_step", "frozen"),
        "norm_variance": ("unbiased",),
        "norm_running": ("biased",),
        "norm_momentum": (0.9,),
        "norm_gradient": ("statistics detached",),
        "norm_eps": (1e-3,),
        "norm_scale": ("v_th",),
    },
    "block": {"skip": ("after firing", "missing")},
    "network": {
        "pooling": ("sum",),
        "readout": ("sum",),
        "loss_at": ("each step",),
        "branch_sum": ("losses",),
        "branches_counted": tuple(DEVIANTS["branches_counted"]),
        "loss": ("sum",),
    },
    "training": {
        "lam_clock": ("iteration from 0", "epoch", "constant"),
        "schedule": ("one iteration ahead", "constant"),
        "nesterov": (True,),
        "optimizer_bias_correction": (False,),
        "decay_form": ("in the gradient",),
        "decay_on": ("weights",),
    },
}
RECTANGLE = {"surrogate": "rectangular", "surrogate_shape": 1.0}
TRIANGLE = {"surrogate": "triangular", "surrogate_shape": 1.0}
#: several at once, as they meet in libraries and in public code
COMBINED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("surrogate", RECTANGLE),
    ("surrogate", TRIANGLE),
    ("surrogate", {**RECTANGLE, "surrogate_edge": "inside"}),
    ("surrogate", {**RECTANGLE, "surrogate_shape": 2.0, "surrogate_scale": "without 1/a"}),
    ("neuron", {"fire_at_threshold": True, "reset_gradient": "detached"}),
    ("neuron", {"fire_at_threshold": True, "reset": "subtract"}),
    ("neuron", {"reset_amount": 0.5, "reset": "subtract"}),
    (
        "neuron",
        {
            "fire_at_threshold": True,
            "leak": "tau*u + (1-tau)*c",
            "surrogate": "sigmoid",
            "surrogate_shape": 4.0,
        },
    ),
    (
        "neuron",
        {
            "reset": "subtract",
            "reset_gradient": "detached",
            "surrogate": "atan",
            "surrogate_shape": 2.0,
        },
    ),
    (
        "neuron",
        {"reset": "subtract, next step", "surrogate": "fast_sigmoid", "surrogate_shape": 25.0},
    ),
    ("neuron", {"output": "one step late", "reset_gradient": "ignored"}),
    ("layer", {"norm_statistics": "per_step", "norm_scale": "v_th"}),
    ("layer", {"norm_variance": "unbiased", "norm_running": "biased"}),
    ("block", {"skip": "after firing", "fire_at_threshold": True, "reset_gradient": "detached"}),
    ("network", {"readout": "sum", "loss": "sum"}),
    ("network", {"branch_sum": "losses", "branches_counted": "main twice"}),
    (
        "training",
        {
            **RECTANGLE,
            "surrogate_shape": 2.0,
            "surrogate_scale": "without 1/a",
            "lam_clock": "iteration from 0",
        },
    ),
    ("training", {"lam_clock": "epoch", "schedule": "constant"}),
    ("training", {"decay_form": "in the gradient", "decay_on": "weights"}),
)
UNDESCRIBED = (
    undescribed(OneBlockSummed, "layer"),
    undescribed(WeightGradientTransposed, "layer", "block", "network"),
    undescribed(LastStepForgotten, "layer", "block", "network", "training"),
    undescribed(NaNInOneElement, *PyTorch.levels),
    undescribed(PaddingOffByOne, "layer", "block", "network", "training"),
    undescribed(StrideOffByOne, "layer", "block", "network", "training"),
    undescribed(TruncatedInTime, "neuron", "layer", "block", "network", "training"),
    undescribed(LeakTwiceBackward, "neuron", "layer", "block", "network", "training"),
    undescribed(DeltaOfLastStepOnly, "neuron", "layer", "block", "network"),
    undescribed(FirstStepSkipped, "neuron", "layer", "block", "network", "training"),
    undescribed(StaleGradients, "training"),
)
FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *(
            described(level, **{name: value})
            for level, conventions in SINGLE.items()
            for name, values in conventions.items()
            for value in values
        ),
        *(described(level, **conventions) for level, conventions in COMBINED),
        *UNDESCRIBED,
    )
}
