"""The adapter of Sinabs's default neuron, LIF."""

from typing import Any

from sinabs.layers import LIF

from refsnn.ops import Array
from refsnn.oracle.adapters.default_neurons import DefaultNeuron, by_torch


class SinabsDefaults(DefaultNeuron):
    """Run LIF with nothing set but tau_mem, which has no default."""

    name = "Sinabs's defaults"

    def compute(self, c: Array, do: Array) -> tuple[Array, Array, Array]:
        layer = LIF(tau_mem=20.0, record_states=True)

        def run(c: Any) -> Any:
            o = layer(c[None])[0]
            return o, layer.recordings["v_mem"][0]

        return by_torch(run, c, do)
