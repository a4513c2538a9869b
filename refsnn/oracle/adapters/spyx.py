"""The adapter of Spyx's default neuron, LIF."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from spyx.nn import LIF

from refsnn.ops import Array
from refsnn.oracle.adapters.default_neurons import DefaultNeuron, by_jax


class SpyxDefaults(DefaultNeuron):
    """Run LIF with nothing set but beta, which is random by default."""

    name = "Spyx's defaults"
    shows = ("u_pre", "u")  # the reset comes with the next step

    def compute(self, c: Array, do: Array) -> tuple[Array, Array, Array]:
        neuron = LIF(c.shape[1:], beta=0.8, rngs=nnx.Rngs(0))

        def run(c: Any) -> Any:
            spikes, potentials, v = [], [], neuron.initial_state(1)[0]
            for c_t in c:
                o, v = neuron(c_t, v)
                spikes.append(o)
                potentials.append(v)
            return jnp.stack(spikes), jnp.stack(potentials)

        return by_jax(run, c, do)
