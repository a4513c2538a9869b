"""Batch norm, residual sum and a neuron with gates in one pass over memory, in float32.

It does for a `Gated` neuron what `norm_neuron` does for LIF.
"""

from typing import NamedTuple

import numpy as np
from numpy import empty

from refsnn.equations.batchnorm import BatchNorm, NormGrads, NormInput, Running
from refsnn.equations.lif import LIF
from refsnn.equations.neurons.gated import Constants, Gated, GatedCache, gated_forward
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import like
from refsnn.kernels.fused_backward import Sums, norm_gradients
from refsnn.kernels.fused_forward import skip_of
from refsnn.kernels.fused_gated import (
    BY_STEP,
    OVERALL,
    backward_tasks,
    forward_tasks,
    gates_of,
    read_sums,
)
from refsnn.kernels.norm_blocks import (
    Affine,
    constants_of,
    flat,
    sequence,
    sizes_of,
    tasks_of,
    unflat,
)
from refsnn.kernels.norm_neuron import check_layer, sum_of
from refsnn.kernels.norm_statistics import make_affine
from refsnn.kernels.simd import aligned
from refsnn.kernels.slopes import slope_of
from refsnn.kernels.threads import share


class GatedFusedCache(NamedTuple):
    """The values that the backward pass needs."""

    norm_input: NormInput
    affine: Affine
    skip: Array | NormInput | None  # (T, N, H, W, C)
    skip_affine: Affine | None
    o_seq: Array  # (T, N, H, W, C), uint8
    norm: BatchNorm
    neuron: Gated
    params: dict[str, Array]
    p: LIF
    training: bool

    @property
    def constants(self) -> Constants:
        """Return the neurons' constants."""
        steps, channels = len(self.o_seq), self.o_seq.shape[-1]
        return self.neuron.constants(self.params, self.p, channels, steps)

    @property
    def lif(self) -> GatedCache:
        """Return the neurons' cache as `equations.neurons.gated` makes it, computed again."""
        y_seq = sum_of(self.norm_input, self.affine, self.skip, self.skip_affine)
        return gated_forward(self.neuron, y_seq, self.params, self.p)[1]


def norm_gated_forward(
    norm_input: NormInput,
    skip: Array | NormInput | None,
    norm: BatchNorm,
    neuron: Gated,
    params: dict[str, Array],
    p: LIF,
    training: bool,
) -> tuple[Array, list[Running], GatedFusedCache]:
    """Return what the neurons pass on, (T, N, H, W, C), and the running statistics after it.

    That is uint8 where it is spikes of 0 and 1, else float32. The arguments are as in
    `norm_neuron_forward`.
    """
    check_layer(norm_input, skip, norm, p)
    c_seq = norm_input.x_seq
    affine, moved = make_affine(norm_input, norm, training)
    running, skip_affine = [moved], None
    if isinstance(skip, NormInput):
        skip_affine, moved = make_affine(skip, norm, training)
        running.append(moved)
    sizes = sizes_of(c_seq)
    k = neuron.constants(params, p, sizes.channels, sizes.steps)
    spikes = empty(sizes.steps * sizes.width, np.uint8)
    share(
        forward_tasks,
        tasks_of(sizes),
        sequence(c_seq, sizes.width),
        skip_of(skip, sizes),
        constants_of(affine),
        constants_of(skip_affine),
        sizes,
        gates_of(k, p),
        spikes,
    )
    o_seq = unflat(spikes, c_seq.shape)
    cache = GatedFusedCache(
        norm_input, affine, skip, skip_affine, o_seq, norm, neuron, params, p, training
    )
    return o_seq if neuron.binary else k.amplitude * o_seq, running, cache


def norm_gated_backward(
    dy_seq: Array, cache: GatedFusedCache, overwrite: bool = False
) -> tuple[NormGrads, Array | NormGrads | None, dict[str, Array]]:
    """Return the gradients at the batch norm's input, at the skip, and of the neurons' parameters.

    With `overwrite`, dy_seq is overwritten: one of them is computed in place.
    """
    norm_input, affine, skip, skip_affine, _, norm, neuron, params, p, training = cache
    x_seq = norm_input.x_seq
    like("dy_seq", dy_seq, x_seq.shape, x_seq.dtype, "o_seq")
    sizes, k = sizes_of(x_seq), cache.constants
    tasks, steps = tasks_of(sizes), sizes.steps
    given = flat(dy_seq, sizes.width)
    in_place = overwrite and dy_seq.flags.writeable
    through_seq = given if in_place else aligned(steps * sizes.width)
    sums = empty((tasks, (BY_STEP * steps + OVERALL) * sizes.period))
    share(
        backward_tasks,
        tasks,
        given,
        sequence(x_seq, sizes.width),
        skip_of(skip, sizes),
        constants_of(affine),
        constants_of(skip_affine),
        sizes,
        gates_of(k, p),
        slope_of(p, float(k.v_th[0])),
        through_seq,
        sums,
    )
    found = read_sums(sums, steps, sizes.period, sizes.channels, x_seq.dtype)
    groups = 0 if not training else 1 if norm.statistics == "pooled" else steps

    def gradients(at: NormInput, constants: Affine, product: Array, out: Array) -> NormGrads:
        both = Sums(found.through, product)
        return norm_gradients(through_seq, at, constants, both, groups, sizes, norm.scale, out)

    dskip: Array | NormGrads | None = None
    if isinstance(skip, NormInput):
        assert skip_affine is not None
        dskip = gradients(skip, skip_affine, found.skip_product, aligned(through_seq.size))
    elif skip is not None:
        dskip = unflat(through_seq, x_seq.shape)
    out = aligned(through_seq.size) if isinstance(dskip, np.ndarray) else through_seq
    d = gradients(norm_input, affine, found.product, out)
    return d, dskip, neuron.gradients(found.constants, params, p)
