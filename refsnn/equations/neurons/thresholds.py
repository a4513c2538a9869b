"""Neurons with a threshold per channel, which MPBN's are for inference."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refsnn.equations.batchnorm import Running
from refsnn.equations.lif import LIF, LIFCache, initial_potential, reset
from refsnn.equations.neurons.base import Arrays, Neuron, Shapes
from refsnn.equations.neurons.mpbn import NORM
from refsnn.equations.surrogate import Array


@dataclass(frozen=True)
class Thresholds(Neuron):
    """A LIF that fires above, or where `sign` is -1 below, a potential of each channel.

        u_pre[t] = tau u[t-1] + c[t]
        o[t] = 1 if sign u_pre[t] > threshold else 0

    `sign` is 1, -1, or 0 for channels that fire always or never. Not to be trained. Source: MPBN.
    """

    def shapes(self, channels: int, steps: int) -> Shapes:
        """Return the shapes of both parameters, (C,)."""
        return {"sign": (channels,), "threshold": (channels,)}

    def forward(
        self, c_seq: Array, params: Arrays, running: Running | None, p: LIF, training: bool
    ) -> tuple[Array, None, Any]:
        """Compute the spikes (T, N, ..., C), no statistics, and the cache of a LIF."""
        u = initial_potential(c_seq, None)
        u_pre_seq, o_seq = (np.empty(c_seq.shape, c_seq.dtype) for _ in range(2))
        for t in range(len(c_seq)):
            u_pre_seq[t] = p.tau * u + c_seq[t]  # Eq. (1)
            over = params["sign"] * u_pre_seq[t] - params["threshold"]
            o_seq[t] = over >= 0 if p.fire_at_threshold else over > 0  # D2
            u = reset(u_pre_seq[t], o_seq[t], p)
        return o_seq, None, LIFCache(u_pre_seq, o_seq, np.zeros_like(u), p)


def threshold_of_mpbn(params: Arrays, mean: Array, var: Array, p: LIF) -> Arrays:
    """Return sign and threshold of each channel, (C,), that MPBN is with running statistics.

        sign = sign(gamma)
        threshold = sign ((v_th - beta) sqrt(var + eps)/gamma + mean)

    Where gamma is 0 the normalised potential is beta, whatever the potential: the neuron fires
    always or never, by a threshold of -1 or 1 on 0. `params` are gamma (`weight`) and beta
    (`bias`). Source: MPBN.
    """
    gamma, beta = params["weight"], params["bias"]
    sign = np.sign(gamma)
    safe = np.where(sign == 0, 1, gamma)
    threshold = sign * ((p.v_th - beta) * np.sqrt(var + NORM.eps) / safe + mean)  # MPBN
    always = (beta >= p.v_th) if p.fire_at_threshold else (beta > p.v_th)
    return {"sign": sign, "threshold": np.where(sign == 0, np.where(always, -1, 1), threshold)}
