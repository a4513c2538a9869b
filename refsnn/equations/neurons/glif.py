"""The gated LIF neuron (GLIF; Yao et al., 2022), which learns how it leaks, takes in and resets."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refsnn.equations.lif import LIF
from refsnn.equations.neurons.base import Arrays, Shapes
from refsnn.equations.neurons.gated import Constants, Gated
from refsnn.equations.neurons.sigmoid import logit, sigmoid

GATES = {"alpha": 0.55, "beta": 0.65, "gamma": 0.55}  # before training


@dataclass(frozen=True)
class GLIF(Gated):
    """A neuron between two kinds each of leak, input and reset, by gates for every channel.

        u_pre[t] = A u_pre[t-1] (1 - gamma o[t-1]) - R o[t-1] - D + B[t] c[t]
        A = 1 - alpha (1 - tau)
        R = (1 - gamma) r
        D = (1 - alpha) l
        B[t] = 1 - beta (1 - g[t])

    The gates alpha, beta and gamma, tau, v_th, the linear leak l, the reset amount r and the
    conductance g[t] are each the sigmoid of a parameter. Source: GLIF.
    """

    by_step: ClassVar[bool] = True
    one_threshold: ClassVar[bool] = False

    def check(self, p: LIF) -> None:
        """Check that tau and v_th are below 1, and that the reset is left to the gates."""
        for name, value in (("tau", p.tau), ("v_th", p.v_th)):
            if value >= 1:
                raise ValueError(
                    f"{name}: got {value!r}, want less than 1 for glif, which learns it as a "
                    "sigmoid"
                )
        if p.reset != "zero":
            raise ValueError(f"reset: got {p.reset}, but glif learns its reset; leave it at zero")

    def shapes(self, channels: int, steps: int) -> Shapes:
        """Return seven parameters for each channel, and one for each channel and step."""
        names = (*GATES, "tau", "v_th", "l", "r")
        return dict.fromkeys(names, (channels,)) | {"g": (steps, channels)}

    def initial(self, p: LIF, channels: int, steps: int) -> Arrays:
        """Return the parameters before training: tau and v_th of the LIF, r = v_th, l = v_th/2T."""
        values = GATES | {"tau": p.tau, "v_th": p.v_th}
        values |= {"l": p.v_th / (2 * steps), "r": p.v_th, "g": 0.5}
        shapes = self.shapes(channels, steps)
        return {name: np.full(shapes[name], logit(value)) for name, value in values.items()}

    def constants(self, params: Arrays, p: LIF, channels: int, steps: int) -> Constants:
        """Return the constants by the formulas above, which are the authors'."""
        v = {name: sigmoid(x) for name, x in params.items()}
        return Constants(
            leak=1 - v["alpha"] * (1 - v["tau"]),  # GLIF
            clear=v["gamma"],
            amount=(1 - v["gamma"]) * v["r"],
            drop=(1 - v["alpha"]) * v["l"],
            gain=1 - v["beta"] * (1 - v["g"]),
            v_th=v["v_th"],
            amplitude=np.ones_like(v["v_th"]),
        )

    def gradients(self, d: Constants, params: Arrays, p: LIF) -> Arrays:
        """Return each parameter's gradient: that of its sigmoid v, times v (1 - v)."""
        v = {name: sigmoid(x) for name, x in params.items()}
        dv = {
            "alpha": -(1 - v["tau"]) * d.leak - v["l"] * d.drop,
            "beta": -((1 - v["g"]) * d.gain).sum(axis=0),
            "gamma": d.clear - v["r"] * d.amount,
            "tau": v["alpha"] * d.leak,
            "v_th": d.v_th,
            "l": (1 - v["alpha"]) * d.drop,
            "r": (1 - v["gamma"]) * d.amount,
            "g": v["beta"] * d.gain,
        }
        return {name: dv[name] * v[name] * (1 - v[name]) for name in params}
