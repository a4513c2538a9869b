"""Numba twin of `equations.neurons.gated`, bit for bit but for the slopes, as `kernels.lif` is.

Each task is a range of pixels over all steps; the inner loops run over a pixel's channels.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy import empty

from refsnn.equations.batchnorm import Running
from refsnn.equations.lif import LIF
from refsnn.equations.neurons import MPBN, Neuron, gated, mpbn
from refsnn.equations.neurons.gated import Constants, is_gated
from refsnn.equations.surrogate import Array
from refsnn.kernels.batchnorm import batchnorm_backward, batchnorm_forward
from refsnn.kernels.lif import slopes_of
from refsnn.kernels.simd import contiguous
from refsnn.kernels.threads import begin, share, take

BLOCK = 1024  # neurons per task, about: u stays in the first-level cache


@njit(nogil=True, cache=True, error_model="numpy")
def forward_loop(tasks, own, block, c_seq, k, inclusive, u_pre_seq, o_seq):  # type: ignore[no-untyped-def]
    """Write u_pre and o (T, pixels, C)."""
    steps, pixels, channels = c_seq.shape
    one, zero = c_seq.dtype.type(1), c_seq.dtype.type(0)
    yes, no = o_seq.dtype.type(1), o_seq.dtype.type(0)
    task = begin(tasks, own)
    while task >= 0:
        first, last = task * block, min((task + 1) * block, pixels)
        u = np.zeros((last - first, channels), c_seq.dtype)  # D6
        for t in range(steps):
            for m in range(first, last):
                for c in range(channels):
                    u_pre = u[m - first, c] - k.drop[c] + k.gain[t, c] * c_seq[t, m, c]
                    fired = u_pre >= k.v_th[c] if inclusive else u_pre > k.v_th[c]
                    o = one if fired else zero
                    u_pre_seq[t, m, c] = u_pre
                    o_seq[t, m, c] = yes if fired else no
                    left = k.leak[c] * u_pre * (one - k.clear[c] * o)
                    u[m - first, c] = left - k.amount[c] * o
        task = take(tasks, own)


@njit(nogil=True, cache=True, error_model="numpy")
def backward_loop(  # type: ignore[no-untyped-def]
    tasks, own, block, do_seq, h_seq, u_pre_seq, o_seq, k, detached, delta_seq, total_seq
):
    """Write delta and G (T, pixels, C)."""
    steps, pixels, channels = do_seq.shape
    one = do_seq.dtype.type(1)
    task = begin(tasks, own)
    while task >= 0:
        first, last = task * block, min((task + 1) * block, pixels)
        later = np.zeros((last - first, channels), do_seq.dtype)
        for t in range(steps - 1, -1, -1):
            for m in range(first, last):
                for c in range(channels):
                    delta, total = later[m - first, c], do_seq[t, m, c]
                    if not detached:
                        total -= delta * (k.leak[c] * k.clear[c] * u_pre_seq[t, m, c] + k.amount[c])
                    passed = delta * (k.leak[c] * (one - k.clear[c] * o_seq[t, m, c]))
                    delta = total * h_seq[t, m, c] + passed
                    later[m - first, c] = delta
                    delta_seq[t, m, c] = delta
                    total_seq[t, m, c] = total
        task = take(tasks, own)


def neuron_forward(
    neuron: Neuron,
    c_seq: Array,
    params: dict[str, Array],
    running: Running | None,
    p: LIF,
    training: bool,
) -> tuple[Array, Running | None, Any]:
    """Do as the neuron's `forward`, which is called for neurons other than `Gated` and MPBN.

    In float32, spikes of 0 and 1 are uint8, as convolutions take them fast.
    """
    if is_gated(neuron):
        passed, gates = gated.gated_forward(neuron, c_seq, params, p, gated_steps)
        return passed, running, gates
    if type(neuron) is MPBN:
        y_seq, running, cache = mpbn.mpbn_forward(
            c_seq, params, running, p, training, batchnorm_forward
        )
    else:
        y_seq, running, cache = neuron.forward(c_seq, params, running, p, training)
    dtype = spikes_dtype(c_seq, p) if neuron.binary else c_seq.dtype
    return y_seq.astype(dtype, copy=False), running, cache


def neuron_backward(neuron: Neuron, dy_seq: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
    """Do as the neuron's `backward`."""
    if type(neuron) is MPBN:
        return mpbn.mpbn_backward(dy_seq, cache, batchnorm_backward, slopes_of)
    if not is_gated(neuron):
        return neuron.backward(dy_seq, cache)
    return gated.gated_backward(neuron, dy_seq, cache, gated_steps_backward, channel_slopes)


def gated_steps(c_seq: Array, k: Constants, p: LIF) -> tuple[Array, Array]:
    """Do as `equations.neurons.gated.gated_steps`, which is called for smooth neurons."""
    if p.smooth:
        return gated.gated_steps(c_seq, k, p)
    u_pre_seq = empty(c_seq.shape, c_seq.dtype)
    o_seq = empty(c_seq.shape, spikes_dtype(c_seq, p))
    arrays = pixels_of(c_seq), k, p.fire_at_threshold, pixels_of(u_pre_seq), pixels_of(o_seq)
    share(forward_loop, *tasks_of(arrays[0]), *arrays)
    return u_pre_seq, o_seq


def gated_steps_backward(
    do_seq: Array, h_seq: Array, u_pre_seq: Array, o_seq: Array, k: Constants, p: LIF
) -> tuple[Array, Array]:
    """Do as `equations.neurons.gated.gated_steps_backward`."""
    delta_seq, total_seq = empty(do_seq.shape, do_seq.dtype), empty(do_seq.shape, do_seq.dtype)
    given = [pixels_of(x) for x in (do_seq, h_seq, u_pre_seq, o_seq)]
    made = [pixels_of(x) for x in (delta_seq, total_seq)]
    share(backward_loop, *tasks_of(given[0]), *given, k, p.reset_gradient == "detached", *made)
    return delta_seq, total_seq


def spikes_dtype(c_seq: Array, p: LIF) -> Any:
    """Return the dtype of spikes: uint8 in float32, but where a smooth neuron's are numbers."""
    return np.uint8 if c_seq.dtype == np.float32 and not p.smooth else c_seq.dtype


def channel_slopes(u_pre_seq: Array, v_th: Array, p: LIF) -> Array:
    """Return the surrogate's slopes, by `kernels.lif` where all channels have one threshold."""
    if p.smooth or (v_th != v_th[0]).any():
        return gated.channel_slopes(u_pre_seq, v_th, p)
    return slopes_of(u_pre_seq, p, float(v_th[0]))


def pixels_of(x_seq: Array) -> Array:
    """Return x_seq as (T, pixels, C), a view if it is contiguous."""
    return contiguous(x_seq).reshape(len(x_seq), -1, x_seq.shape[-1])


def tasks_of(x_seq: Array) -> tuple[int, int]:
    """Return the number of tasks, and of pixels in each."""
    block = max(1, BLOCK // x_seq.shape[2])
    return -(-x_seq.shape[1] // block), block
