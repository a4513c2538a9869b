"""The steps of a neuron with gates: its constants may be parameters, or computed from them.

Shapes: sequences are (T, N, ..., C); constants are (C,), the gain (T, C).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeGuard

import numpy as np

from refsnn.equations.batchnorm import Running, grouped_sum
from refsnn.equations.lif import LIF, amount_of, initial_potential
from refsnn.equations.neurons.base import Arrays, Neuron
from refsnn.equations.surrogate import Array, slopes
from refsnn.equations.validate import like


class Constants(NamedTuple):
    """The constants of a layer's neurons, or the gradients with respect to them."""

    leak: Array  # (C,)
    clear: Array  # (C,) the share of the potential that the reset clears
    amount: Array  # (C,) what the reset takes off
    drop: Array  # (C,) what every step takes off
    gain: Array  # (T, C) factor on the currents
    v_th: Array  # (C,)
    amplitude: Array  # (C,) factor on the spikes that are passed on


class GatedCache(NamedTuple):
    """The values that the backward pass needs."""

    u_pre_seq: Array  # (T, N, ..., C) membrane potential before firing
    o_seq: Array  # (T, N, ..., C) spikes, 0 or 1 (any real number where p.smooth)
    c_seq: Array  # (T, N, ..., C) currents
    constants: Constants
    params: Arrays
    p: LIF

    @property
    def relative_seq(self) -> Array:
        """Return the potentials before firing over the threshold, (T, N, ..., C)."""
        return self.u_pre_seq / self.constants.v_th


@dataclass(frozen=True)
class Gated(Neuron):
    """A neuron that is a map from its parameters to `Constants`; subclasses have the map."""

    #: whether all channels of a layer have the same threshold
    one_threshold: ClassVar[bool] = True

    def constants(self, params: Arrays, p: LIF, channels: int, steps: int) -> Constants:
        """Return the constants that the parameters stand for."""
        raise NotImplementedError

    def gradients(self, d: Constants, params: Arrays, p: LIF) -> Arrays:
        """Return the parameters' gradients from those of the constants."""
        raise NotImplementedError

    def forward(
        self, c_seq: Array, params: Arrays, running: Running | None, p: LIF, training: bool
    ) -> tuple[Array, Running | None, GatedCache]:
        """Compute what the layer passes on, and the cache; it keeps no statistics."""
        y_seq, cache = gated_forward(self, c_seq, params, p)
        return y_seq, running, cache

    def backward(self, dy_seq: Array, cache: GatedCache) -> tuple[Array, Arrays]:
        """Compute dL/dc, (T, N, ..., C), and the parameters' gradients by name."""
        return gated_backward(self, dy_seq, cache)


def is_gated(neuron: Neuron | None) -> TypeGuard[Gated]:
    """Tell whether the neuron computes what `gated_forward` and `gated_backward` do.

    A class of the user's may compute otherwise, in methods of its own.
    """
    if not isinstance(neuron, Gated):
        return False
    kind = type(neuron)
    return kind.forward is Gated.forward and kind.backward is Gated.backward


def from_lif(p: LIF, leak: Array, channels: int, steps: int) -> Constants:
    """Return the constants of a LIF with this leak, which is one number, or (C,).

    A reset to zero has clear = 1 and amount = 0; one that subtracts R has clear = 0 and
    amount = leak R, since LIF takes R off before the leak, and `gated_steps` after it.
    Source: Eq. 1 and 2, R6.
    """
    one = np.ones(channels, leak.dtype)
    subtract = p.reset == "subtract"
    return Constants(
        leak=leak * one,
        clear=0 * one if subtract else one,
        amount=amount_of(p) * leak * one if subtract else 0 * one,
        drop=0 * one,
        gain=np.ones((steps, channels), leak.dtype),
        v_th=p.v_th * one,
        amplitude=one,
    )


def leak_gradient(d: Constants, p: LIF) -> Array:
    """Return the gradient (C,) with respect to `from_lif`'s leak, which is in the amount too."""
    return d.leak + amount_of(p) * d.amount if p.reset == "subtract" else d.leak


def fire(u_pre: Array, v_th: Array, p: LIF) -> Array:
    """Return the spikes as `lif.fire` does, with a threshold for each channel (C,)."""
    if p.smooth:
        return p.surrogate.primitive(u_pre - v_th, v_th)  # type: ignore[arg-type]
    fired = u_pre >= v_th if p.fire_at_threshold else u_pre > v_th  # D2
    return fired.astype(u_pre.dtype)


def gated_steps(c_seq: Array, k: Constants, p: LIF) -> tuple[Array, Array]:
    """Compute the potentials before firing and the spikes, (T, N, ..., C) both.

        u_pre[t] = u[t-1] - drop + gain[t] c[t]
        u[t] = leak u_pre[t] (1 - clear o[t]) - amount o[t]

    with o[t] as in Eq. 2, and u[0] = 0. Source: GLIF, D6.
    """
    u_pre_seq, o_seq = np.empty(c_seq.shape, c_seq.dtype), np.empty(c_seq.shape, c_seq.dtype)
    u = np.zeros_like(c_seq[0])  # D6
    for t in range(len(c_seq)):
        u_pre_seq[t] = u - k.drop + k.gain[t] * c_seq[t]
        o_seq[t] = fire(u_pre_seq[t], k.v_th, p)
        u = k.leak * u_pre_seq[t] * (1 - k.clear * o_seq[t]) - k.amount * o_seq[t]
    return u_pre_seq, o_seq


def gated_steps_backward(
    do_seq: Array, h_seq: Array, u_pre_seq: Array, o_seq: Array, k: Constants, p: LIF
) -> tuple[Array, Array]:
    """Compute delta = dL/du_pre and G, the whole gradient at the spikes, (T, N, ..., C) both.

        G[t] = g_o[t] - delta[t+1] (leak clear u_pre[t] + amount)
        delta[t] = G[t] h[t] + delta[t+1] leak (1 - clear o[t])

    `do_seq` is g_o, h the surrogate slope, delta[T+1] = 0; where the reset is detached, G is g_o.
    forward: `gated_steps`. Source: GLIF, D3.
    """
    delta_seq, total_seq = np.empty(do_seq.shape, do_seq.dtype), do_seq.copy(order="C")
    later = np.zeros_like(do_seq[0])  # delta[t+1]
    for t in reversed(range(len(do_seq))):
        if p.reset_gradient == "full":  # D3
            total_seq[t] -= later * (k.leak * k.clear * u_pre_seq[t] + k.amount)
        later = total_seq[t] * h_seq[t] + later * (k.leak * (1 - k.clear * o_seq[t]))
        delta_seq[t] = later
    return delta_seq, total_seq


def channel_slopes(u_pre_seq: Array, v_th: Array, p: LIF) -> Array:
    """Return the surrogate's slopes, in the shape of `u_pre_seq`, by each channel's threshold."""
    return slopes(p.surrogate, u_pre_seq - v_th, v_th)  # type: ignore[arg-type]


def gated_forward(
    neuron: Gated,
    c_seq: Array,
    params: Arrays,
    p: LIF,
    steps: Callable[..., tuple[Array, Array]] = gated_steps,
) -> tuple[Array, GatedCache]:
    """Compute what a layer passes on, amplitude o[t], (T, N, ..., C), and the cache."""
    initial_potential(c_seq, None)  # checks c_seq
    k = neuron.constants(params, p, c_seq.shape[-1], len(c_seq))
    u_pre_seq, o_seq = steps(c_seq, k, p)
    y_seq = o_seq if neuron.binary else k.amplitude * o_seq
    return y_seq, GatedCache(u_pre_seq, o_seq, c_seq, k, params, p)


def gated_backward(
    neuron: Gated,
    dy_seq: Array,
    cache: GatedCache,
    steps: Callable[..., tuple[Array, Array]] = gated_steps_backward,
    slopes_of: Callable[..., Array] = channel_slopes,
) -> tuple[Array, Arrays]:
    """Compute dL/dc, (T, N, ..., C), and the gradients of the layer's parameters by name.

        dL/dc[t] = gain[t] delta[t]
        dL/dleak = sum delta[t+1] u_pre[t] (1 - clear o[t])
        dL/dclear = -sum delta[t+1] leak u_pre[t] o[t]
        dL/damount = -sum delta[t+1] o[t]
        dL/ddrop = -sum delta[t]
        dL/dgain[t] = sum delta[t] c[t]
        dL/dv_th = -sum G[t] h[t]
        dL/damplitude = sum dL/dy[t] o[t]

    A sum runs over a channel's neurons, images and steps (the gain's not over steps); the neuron's
    `gradients` takes it from there. forward: `gated_steps`, then y[t] = amplitude o[t].
    """
    u_pre_seq, o_seq, c_seq, k, params, p = cache
    like("dy_seq", dy_seq, u_pre_seq.shape, u_pre_seq.dtype, "u_pre_seq")
    do_seq = dy_seq if neuron.binary else k.amplitude * dy_seq
    h_seq = slopes_of(u_pre_seq, k.v_th, p)
    delta_seq, total_seq = steps(do_seq, h_seq, u_pre_seq, o_seq, k, p)
    later, held, fired = delta_seq[1:], u_pre_seq[:-1], o_seq[:-1]
    d = Constants(
        leak=grouped_sum(later * held * (1 - k.clear * fired)),
        clear=-grouped_sum(later * k.leak * held * fired),
        amount=-grouped_sum(later * fired),
        drop=-grouped_sum(delta_seq),
        gain=np.stack([grouped_sum(step) for step in delta_seq * c_seq]),
        v_th=-grouped_sum(total_seq * h_seq),  # R1
        amplitude=grouped_sum(dy_seq * o_seq),
    )
    gain = k.gain.reshape(len(c_seq), *[1] * (c_seq.ndim - 2), -1)
    return gain * delta_seq, neuron.gradients(d, params, p)
