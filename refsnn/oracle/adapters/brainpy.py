"""The adapter of BrainPy's default neuron, brainpy.state.LIF."""

from typing import Any

import brainstate
import brainunit as unit
import jax.numpy as jnp
from brainpy.state import LIF

from refsnn.ops import Array
from refsnn.oracle.adapters.default_neurons import DefaultNeuron, by_jax


class BrainPyDefaults(DefaultNeuron):
    """Run LIF with nothing set, in steps of 0.1 ms, with currents in mA and potentials in mV."""

    name = "BrainPy's defaults"
    shows = ("u_pre",)  # the reset is at the beginning of the next step

    def compute(self, c: Array, do: Array) -> tuple[Array, Array, Array]:
        def run(c: Any) -> Any:
            neuron, spikes, potentials = LIF(c.shape[1:]), [], []
            neuron.init_state()
            for c_t in c:
                spikes.append(neuron.update(c_t * unit.mA))
                potentials.append(neuron.V.value / unit.mV)
            return jnp.stack(spikes), jnp.stack(potentials)

        with brainstate.environ.context(dt=0.1 * unit.ms):
            return by_jax(run, c, do)
