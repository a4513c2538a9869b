"""What the adapters share that run a library's plain default neuron, whatever a case asks for.

Each follows a profile (refsnn/oracle/profiles.toml), in float32 like most libraries' parameters.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refsnn.ops import Array

OUTPUTS = ("u_pre", "o", "u", "du_pre", "dc", "du0", "dtau", "dv_th")
Run = Callable[[Any], tuple[Any, Any]]  # takes currents (T, N); returns spikes and potentials


class DefaultNeuron:
    """Run a library's neuron with nothing set."""

    name = ""
    levels = ("neuron",)
    precision = "float32"
    shows: tuple[str, ...] = ("u",)  # the outputs that the library's potential is

    @property
    def omits(self) -> tuple[str, ...]:
        return tuple(name for name in OUTPUTS if name not in ("o", "dc", *self.shows))

    def compute(self, c: Array, do: Array) -> tuple[Array, Array, Array]:
        """Return spikes, dL/dc and potentials (T, N) of a new layer of neurons."""
        raise NotImplementedError

    def run(self, case: Any) -> Mapping[str, Array]:
        """Return spikes, dL/dc and what the library shows of the potentials."""
        c, do = (case.inputs[name].astype(np.float32) for name in ("c", "do"))
        o, dc, potentials = self.compute(c, do)
        return {"o": o, "dc": dc, **dict.fromkeys(self.shows, potentials)}


def by_torch(run: Run, c: Array, do: Array) -> tuple[Array, Array, Array]:
    """Return spikes, dL/dc and potentials of a neuron of PyTorch."""
    import torch

    currents = torch.tensor(c, requires_grad=True)
    o, potentials = run(currents)
    (dc,) = torch.autograd.grad(o, currents, torch.tensor(do, dtype=o.dtype))
    return o.detach().numpy(), dc.numpy(), potentials.detach().numpy()


def by_jax(run: Run, c: Array, do: Array) -> tuple[Array, Array, Array]:
    """Return spikes, dL/dc and potentials of a neuron of JAX."""
    import jax

    o, pull_back, potentials = jax.vjp(run, c, has_aux=True)
    (dc,) = pull_back(do)
    return np.asarray(o), np.asarray(dc), np.asarray(potentials)
