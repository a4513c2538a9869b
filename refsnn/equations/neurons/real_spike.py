"""The neuron of Real Spike (Guo et al., 2022), whose spikes have a learnt size per channel."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refsnn.equations.lif import LIF
from refsnn.equations.neurons.base import Arrays, Shapes
from refsnn.equations.neurons.gated import Constants, Gated, from_lif


@dataclass(frozen=True)
class RealSpike(Gated):
    """A LIF that passes on its spikes times a, a parameter for each channel.

        y[t] = a o[t]

    The reset takes the spike o[t]; a starts at 1. Source: Real Spike, M13.
    """

    binary: ClassVar[bool] = False

    def shapes(self, channels: int, steps: int) -> Shapes:
        """Return the shape of a, (C,)."""
        return {"a": (channels,)}  # M13

    def initial(self, p: LIF, channels: int, steps: int) -> Arrays:
        """Return a = 1."""
        return {"a": np.ones(channels)}

    def constants(self, params: Arrays, p: LIF, channels: int, steps: int) -> Constants:
        """Return the constants of the LIF, with amplitude a."""
        a = params["a"]
        return from_lif(p, a.dtype.type(p.tau), channels, steps)._replace(
            amplitude=a  # REALSPIKE
        )

    def gradients(self, d: Constants, params: Arrays, p: LIF) -> Arrays:
        """Return dL/da, which is the amplitude's."""
        return {"a": d.amplitude}
