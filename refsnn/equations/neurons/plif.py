"""The parametric LIF neuron (PLIF; Fang et al., 2021), which learns a leak for each layer."""

from dataclasses import dataclass

import numpy as np

from refsnn.equations.lif import LIF
from refsnn.equations.neurons.base import Arrays, Shapes
from refsnn.equations.neurons.gated import Constants, Gated, from_lif, leak_gradient
from refsnn.equations.neurons.sigmoid import logit, sigmoid
from refsnn.equations.validate import flag


@dataclass(frozen=True)
class PLIF(Gated):
    """A LIF whose leak is 1 - s, with a parameter w for each layer.

        s = 1/(1 + exp(-w))
        u_pre[t] = (1 - s) u[t-1] + s c[t]

    Without `input_decay`, the current is c[t] alone. w starts where 1 - s is the LIF's tau.
    Source: PLIF, M7.
    """

    input_decay: bool = True  # M7

    def __post_init__(self) -> None:
        flag("input_decay", self.input_decay)

    def check(self, p: LIF) -> None:
        """Check that tau is below 1, where w is finite."""
        if p.tau >= 1:
            raise ValueError(f"tau: got {p.tau!r}, want less than 1 for plif, which learns 1 - tau")

    def shapes(self, channels: int, steps: int) -> Shapes:
        """Return the shape of w, (1,)."""
        return {"w": (1,)}

    def initial(self, p: LIF, channels: int, steps: int) -> Arrays:
        """Return w = -ln(tau_m - 1), with tau_m = 1/(1 - tau)."""
        return {"w": np.full(1, logit(1 - p.tau))}

    def constants(self, params: Arrays, p: LIF, channels: int, steps: int) -> Constants:
        """Return the constants of a LIF with leak 1 - s, and s as the gain."""
        s = sigmoid(params["w"])
        k = from_lif(p, 1 - s, channels, steps)  # PLIF
        return k._replace(gain=s * k.gain) if self.input_decay else k  # M7

    def gradients(self, d: Constants, params: Arrays, p: LIF) -> Arrays:
        """Return dL/dw = dL/ds s (1 - s).

        dL/ds = sum dL/dgain - sum dL/dleak,  without input decay -sum dL/dleak
        """
        s = sigmoid(params["w"])
        ds = -leak_gradient(d, p).sum(keepdims=True)
        if self.input_decay:  # M7
            ds = ds + d.gain.sum()
        return {"w": ds * s * (1 - s)}
