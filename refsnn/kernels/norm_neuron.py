"""Batch norm, residual sum and LIF in one pass over memory, in float32.

The forward pass computes y = x_hat (gamma scale) + beta, the skip's addition and Eq. 1, 2 by the
same operations as `equations.batchnorm` and `equations.lif`, so that with the same statistics the
spikes are the same to the bit. It keeps only the convolutions' output and one byte per spike; the
backward pass computes the potentials again.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import empty

from refsnn.equations.batchnorm import BatchNorm, NormGrads, NormInput, Running, check_input
from refsnn.equations.lif import LIF, LIFCache
from refsnn.equations.lif import lif_forward as reference_lif
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import like
from refsnn.kernels.fused_backward import Sums, backward_tasks, norm_gradients
from refsnn.kernels.fused_forward import forward_tasks, skip_of
from refsnn.kernels.neuron import neuron_of
from refsnn.kernels.norm_blocks import (
    Affine,
    constants_of,
    flat,
    normalise,
    sequence,
    sizes_of,
    tasks_of,
    unflat,
)
from refsnn.kernels.norm_statistics import make_affine
from refsnn.kernels.simd import aligned
from refsnn.kernels.slopes import slope_of
from refsnn.kernels.threads import share


class FusedCache(NamedTuple):
    """The values that the backward pass needs."""

    norm_input: NormInput
    affine: Affine
    skip: Array | NormInput | None  # (T, N, H, W, C)
    skip_affine: Affine | None
    o_seq: Array  # (T, N, H, W, C), uint8
    norm: BatchNorm
    p: LIF
    training: bool

    @property
    def lif(self) -> LIFCache:
        """Return the neurons' cache as `equations.lif` makes it, computed again."""
        y_seq = sum_of(self.norm_input, self.affine, self.skip, self.skip_affine)
        return reference_lif(y_seq, None, self.p)[1]


def sum_of(
    norm_input: NormInput,
    affine: Affine,
    skip: Array | NormInput | None,
    skip_affine: Affine | None,
) -> Array:
    """Return the neurons' currents (T, N, H, W, C): the batch norm plus the skip."""
    y_seq = normalise(norm_input.x_seq, affine)
    if isinstance(skip, NormInput):
        assert skip_affine is not None
        return y_seq + normalise(skip.x_seq, skip_affine)
    return y_seq if skip is None else y_seq + skip


def check_layer(norm_input: NormInput, skip: Any, norm: BatchNorm, p: LIF) -> None:
    """Check that the loops compute the same as the equations; TypeError or ValueError if not."""
    check_input(norm_input)
    x_seq = norm_input.x_seq
    if x_seq.dtype != np.float32:
        raise TypeError(f"x_seq: got dtype {x_seq.dtype}, want float32")
    if not (len(x_seq) and x_seq.shape[-1]):
        raise ValueError(f"x_seq: got shape {x_seq.shape}, want at least one step and one channel")
    for name, value, kind in (("p", p, LIF), ("norm", norm, BatchNorm)):
        if type(value) is not kind:
            raise TypeError(f"{name}: got {type(value).__name__}, want exactly {kind.__name__}")
    if p.smooth:
        raise ValueError("p: got a smooth neuron, want one that fires")
    slope_of(p)
    if isinstance(skip, NormInput):
        like("skip", skip.x_seq, x_seq.shape, x_seq.dtype, "x_seq")
        check_input(skip)
    elif isinstance(skip, np.ndarray) and skip.dtype == np.uint8:
        if skip.shape != x_seq.shape:
            raise ValueError(f"skip: got shape {skip.shape}, want {x_seq.shape} like x_seq")
    elif skip is not None:
        like("skip", skip, x_seq.shape, x_seq.dtype, "x_seq")


def norm_neuron_forward(
    norm_input: NormInput, skip: Array | NormInput | None, norm: BatchNorm, p: LIF, training: bool
) -> tuple[Array, list[Running], FusedCache]:
    """Return the spikes (T, N, H, W, C), uint8, of LIF(batch norm of `norm_input` + skip), and the
    running statistics after this batch.

    The skip is None, an array, or another batch norm's input. Arrays are float32 (a skip may be
    spikes), and the neuron fires (not `smooth`) and has one of refsnn's surrogates. A reset to
    zero resets an infinite potential too, where the equations have NaN.
    """
    check_layer(norm_input, skip, norm, p)
    c_seq = norm_input.x_seq
    affine, moved = make_affine(norm_input, norm, training)
    running, skip_affine = [moved], None
    if isinstance(skip, NormInput):
        skip_affine, moved = make_affine(skip, norm, training)
        running.append(moved)
    sizes = sizes_of(c_seq)
    o_seq = empty(sizes.steps * sizes.width, np.uint8)
    share(
        forward_tasks,
        tasks_of(sizes),
        sequence(c_seq, sizes.width),
        skip_of(skip, sizes),
        constants_of(affine),
        constants_of(skip_affine),
        sizes,
        neuron_of(p, np.float32),
        o_seq,
    )
    o_seq = unflat(o_seq, c_seq.shape)
    return (
        o_seq,
        running,
        FusedCache(norm_input, affine, skip, skip_affine, o_seq, norm, p, training),
    )


def norm_neuron_backward(
    do_seq: Array, cache: FusedCache, overwrite: bool = False
) -> tuple[NormGrads, Array | NormGrads | None]:
    """Return the gradients at the batch norm's input and at the skip.

    With `overwrite`, do_seq is overwritten: one of them is computed in place.
    """
    norm_input, affine, skip, skip_affine, _, norm, p, training = cache
    x_seq = norm_input.x_seq
    like("do_seq", do_seq, x_seq.shape, x_seq.dtype, "o_seq")
    sizes = sizes_of(x_seq)
    tasks, steps, channels = tasks_of(sizes), sizes.steps, sizes.channels
    given = flat(do_seq, sizes.width)
    in_place = overwrite and do_seq.flags.writeable
    delta_seq = given if in_place else aligned(steps * sizes.width)
    sums = empty((tasks, 3 * steps * sizes.period))
    share(
        backward_tasks,
        tasks,
        given,
        sequence(x_seq, sizes.width),
        skip_of(skip, sizes),
        constants_of(affine),
        constants_of(skip_affine),
        sizes,
        neuron_of(p, np.float32),
        slope_of(p),
        delta_seq,
        sums,
    )
    over_tasks = sums.sum(axis=0).reshape(3, steps, -1, channels)
    delta, product, skip_product = over_tasks.sum(axis=2)  # (T, C) each
    groups = 0 if not training else 1 if norm.statistics == "pooled" else steps

    def gradients(at: NormInput, constants: Affine, product: Array, out: Array) -> NormGrads:
        both = Sums(delta, product)
        return norm_gradients(delta_seq, at, constants, both, groups, sizes, norm.scale, out)

    dskip: Array | NormGrads | None = None
    if isinstance(skip, NormInput):
        assert skip_affine is not None
        dskip = gradients(skip, skip_affine, skip_product, aligned(delta_seq.size))
    elif skip is not None:
        dskip = unflat(delta_seq, x_seq.shape)
    out = aligned(delta_seq.size) if isinstance(dskip, np.ndarray) else delta_seq
    return gradients(norm_input, affine, product, out), dskip
