"""The adapter of Rockpool's default neuron, LIFTorch."""

from typing import Any

from rockpool.nn.modules import LIFTorch

from refsnn.ops import Array
from refsnn.oracle.adapters.default_neurons import DefaultNeuron, by_torch


class RockpoolDefaults(DefaultNeuron):
    """Run LIFTorch with nothing set."""

    name = "Rockpool's defaults"

    def compute(self, c: Array, do: Array) -> tuple[Array, Array, Array]:
        layer = LIFTorch(1)  # each neuron is a batch: a layer of N has N x N recurrent weights

        def run(c: Any) -> Any:
            o, _, recorded = layer(c.T[..., None], record=True)
            return o[..., 0].T, recorded["vmem"][..., 0].T

        return by_torch(run, c, do)
