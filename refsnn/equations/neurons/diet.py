"""The neuron of Diet-SNN (Rathi and Roy, 2020), which learns a leak and a threshold per layer."""

from dataclasses import dataclass

import numpy as np

from refsnn.equations.lif import LIF
from refsnn.equations.neurons.base import Arrays, Shapes
from refsnn.equations.neurons.gated import Constants, Gated
from refsnn.equations.validate import flag


@dataclass(frozen=True)
class Diet(Gated):
    """A neuron that subtracts its threshold at a spike, with `leak` and `v_th` for each layer.

        u_pre[t] = leak u[t-1] + c[t]
        u[t] = u_pre[t] - v_th o[t]

    Unless `reset_leaks`, u_pre[t] = leak u_pre[t-1] - v_th o[t-1] + c[t] (M8). The surrogate is a
    function of u_pre/v_th - 1. Potentials are computed, and kept, in units of v_th: then v_th is a
    factor 1/v_th on the currents, and all else is as with a threshold of 1. Source: Diet-SNN, M8.
    """

    reset_leaks: bool = True  # M8

    def __post_init__(self) -> None:
        flag("reset_leaks", self.reset_leaks)

    def check(self, p: LIF) -> None:
        """Check that the reset is the method's, which subtracts v_th."""
        if p.reset != "subtract" or p.reset_amount is not None:
            raise ValueError(
                f"reset: got {p.reset}{'' if p.reset_amount is None else ' with an amount'}, want "
                "subtract, of v_th, for diet"
            )

    def shapes(self, channels: int, steps: int) -> Shapes:
        """Return the shapes of leak and v_th, (1,) both."""
        return {"leak": (1,), "v_th": (1,)}

    def initial(self, p: LIF, channels: int, steps: int) -> Arrays:
        """Return the LIF's tau and v_th."""
        return {"leak": np.full(1, p.tau), "v_th": np.full(1, p.v_th)}

    def limited(self, params: Arrays) -> Arrays:
        """Return the parameters with a leak of at most 1, as the authors' code limits it."""
        return {
            name: np.minimum(x, x.dtype.type(1)) if name == "leak" else x
            for name, x in params.items()
        }

    def constants(self, params: Arrays, p: LIF, channels: int, steps: int) -> Constants:
        """Return the constants in units of v_th."""
        one = np.ones(channels, params["leak"].dtype)
        leak = params["leak"] * one
        return Constants(
            leak=leak,
            clear=0 * one,
            amount=leak if self.reset_leaks else one,  # M8
            drop=0 * one,
            gain=np.ones((steps, 1), one.dtype) / (params["v_th"] * one),  # DIET
            v_th=one,
            amplitude=one,
        )

    def gradients(self, d: Constants, params: Arrays, p: LIF) -> Arrays:
        """Return dL/dleak, and dL/dv_th = -sum dL/dgain/v_th^2.

        The threshold in the reset has its gradient whether the reset is detached or not: that
        drops the spike's derivative alone.
        """
        dleak = d.leak + d.amount if self.reset_leaks else d.leak  # M8
        dv_th = -d.gain.sum() / params["v_th"] ** 2
        return {"leak": dleak.sum(keepdims=True), "v_th": dv_th}
