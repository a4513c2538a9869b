"""The neuron of MPBN (Guo et al., 2023), with a batch norm between potential and threshold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from refsnn.equations.batchnorm import (
    BatchNorm,
    Running,
    batchnorm_backward,
    batchnorm_forward,
)
from refsnn.equations.lif import LIF, fire, initial_potential, reset, reset_slopes
from refsnn.equations.neurons.base import Arrays, Neuron, Shapes
from refsnn.equations.surrogate import Array, slopes
from refsnn.equations.validate import like

NORM = BatchNorm()


class MPBNCache(NamedTuple):
    """The values that the backward pass needs."""

    u_pre_seq: Array  # (T, N, ..., C) membrane potential before it is normalised
    v_seq: Array  # (T, N, ..., C) and after
    o_seq: Array  # (T, N, ..., C)
    norms: list[Any]  # each step's cache of its batch norm
    p: LIF

    @property
    def relative_seq(self) -> Array:
        """Return the normalised potentials over the threshold, (T, N, ..., C)."""
        return self.v_seq / self.p.v_th


@dataclass(frozen=True)
class MPBN(Neuron):
    """A LIF that fires by its normalised potential, and keeps the potential as it is.

    gamma (`weight`) starts at 1, beta (`bias`) at 0. Source: MPBN, M6.
    """

    has_statistics: ClassVar[bool] = True

    def shapes(self, channels: int, steps: int) -> Shapes:
        """Return the shapes of gamma and beta, (C,) both."""
        return {"weight": (channels,), "bias": (channels,)}

    def initial(self, p: LIF, channels: int, steps: int) -> Arrays:
        """Return gamma = 1 and beta = 0."""
        return {"weight": np.ones(channels), "bias": np.zeros(channels)}

    def forward(
        self, c_seq: Array, params: Arrays, running: Running | None, p: LIF, training: bool
    ) -> tuple[Array, Running | None, MPBNCache]:
        """Compute the spikes (T, N, ..., C), the running statistics after them, and the cache."""
        return mpbn_forward(c_seq, params, running, p, training)

    def backward(self, dy_seq: Array, cache: MPBNCache) -> tuple[Array, Arrays]:
        """Compute dL/dc, (T, N, ..., C), and the gradients of gamma and beta."""
        return mpbn_backward(dy_seq, cache)


def mpbn_forward(
    c_seq: Array,
    params: Arrays,
    running: Running | None,
    p: LIF,
    training: bool,
    norm_forward: Callable[..., Any] = batchnorm_forward,
) -> tuple[Array, Running | None, MPBNCache]:
    """Compute the spikes (T, N, ..., C), the running statistics after them, and the cache.

        u_pre[t] = tau u[t-1] + c[t]
        v[t] = gamma x_hat[t] + beta
        o[t] = 1 if v[t] > v_th else 0
        u[t] = u_pre[t] (1 - o[t])

    x_hat is the potential, normalised over each step's images and pixels (by `norm_forward`); one
    pair of running statistics moves at every step. Source: MPBN, M6.
    """
    u = initial_potential(c_seq, None)
    assert running is not None
    u_pre_seq, v_seq, o_seq = (np.empty(c_seq.shape, c_seq.dtype) for _ in range(3))
    norms = []
    for t in range(len(c_seq)):
        u_pre_seq[t] = p.tau * u + c_seq[t]  # Eq. (1)
        v, running, norm = norm_forward(
            as_images(u_pre_seq[t]), params["weight"], params["bias"], running, NORM, training
        )
        norms.append(norm)
        v_seq[t] = v.reshape(u.shape)  # MPBN
        o_seq[t] = fire(v_seq[t], p)
        u = reset(u_pre_seq[t], o_seq[t], p)  # M6
    return o_seq, running, MPBNCache(u_pre_seq, v_seq, o_seq, norms, p)


def mpbn_backward(
    dy_seq: Array,
    cache: MPBNCache,
    norm_backward: Callable[..., Any] = batchnorm_backward,
    slopes_of: Callable[..., Array] | None = None,
) -> tuple[Array, Arrays]:
    """Compute dL/dc, (T, N, ..., C), and the gradients of gamma and beta.

        e[t] = tau delta[t+1]
        G[t] = g_o[t] - u_pre[t] e[t]
        delta[t] = e[t] (1 - o[t]) + BN'(G[t] h(v[t] - v_th))

    BN' is the batch norm's vector-Jacobian product; where the reset is detached, G[t] = g_o[t].
    forward: the spike is a function of v[t], and u[t] of u_pre[t]. Source: MPBN, D3.
    """
    u_pre_seq, v_seq, o_seq, norms, p = cache
    like("dy_seq", dy_seq, u_pre_seq.shape, u_pre_seq.dtype, "u_pre_seq")
    if slopes_of is None:
        h_seq = slopes(p.surrogate, v_seq - p.v_th, p.v_th)
    else:
        h_seq = slopes_of(v_seq, p, p.v_th)
    delta_seq = np.empty(dy_seq.shape, dy_seq.dtype)
    du = np.zeros_like(dy_seq[0])  # dL/du[t] by way of step t+1
    through = []
    for t in reversed(range(len(dy_seq))):
        by_u, by_o = reset_slopes(u_pre_seq[t], o_seq[t], p)
        total = dy_seq[t] + du * by_o if p.reset_gradient == "full" else dy_seq[t]  # D3
        d = norm_backward(as_images(total * h_seq[t]), norms[t])
        through.append(d)
        delta_seq[t] = du * by_u + d.dx_seq.reshape(du.shape)
        du = p.tau * delta_seq[t]
    dgamma = np.add.reduce([d.dgamma for d in through])
    dbeta = np.add.reduce([d.dbeta for d in through])
    return delta_seq, {"weight": dgamma, "bias": dbeta}


def as_images(x: Array) -> Array:
    """Reshape one step (N, ..., C) to (1, N, pixels, 1, C), as batch norm takes it."""
    return x.reshape(1, len(x), -1, 1, x.shape[-1])
