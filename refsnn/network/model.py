"""Forward and backward pass of the whole network: stem, segments of blocks, branches.

A segment is the blocks from one branch to the next. Sequences are (T, N, H, W, C).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refsnn.network.blocks import KINDS
from refsnn.network.head import HeadCache, head_backward, head_forward
from refsnn.network.kept import Kept, KeptNeurons, recomputed, unit_forward
from refsnn.network.layers import (
    Context,
    Grads,
    NeuronCache,
    SumCache,
    conv_backward,
    conv_forward,
    counts,
    neuron_backward,
    neuron_forward,
    norms_after,
    norms_of,
    pool_backward,
    pool_forward,
    sum_backward,
    sum_forward,
)
from refsnn.network.membrane import SumUnit
from refsnn.network.network import ALIGN, Block, Network, Params, check_buffers, check_params
from refsnn.network.packed import Packer
from refsnn.network.unit import Unit
from refsnn.ops import (
    Array,
    AvgPoolCache,
    LIFCache,
    Loss,
    Ops,
    PotentialLoss,
    Pullback,
    Running,
    is_per_step,
    validate,
)


class StemCache(NamedTuple):
    """The values that the stem's backward pass needs."""

    units: list[Unit | SumUnit | Kept]
    pool: AvgPoolCache | None


class Forward(NamedTuple):
    """The result of a forward pass: the branches' logits b_1 … b_n, and the caches.

    Where nothing was kept, the caches of the stem's and of the blocks' units are None.
    """

    branches: list[Array]  # each (N, K); the main branch last
    buffers: Params  # running statistics after this batch
    stem: StemCache
    segments: list[list[Any]]
    heads: list[HeadCache]
    context: Context
    rates: Array | None = None  # mean over time of the last block's output, where it is compared


def encode(images: Array, steps: int) -> Array:
    """Return the input sequence (T, N, H, W, C) of images or of recordings.

    Images (N, H, W, C) are repeated at all T = `steps` steps (D7); recordings (N, T, H, W, C) have
    one frame per step. ValueError for another number of frames.
    """
    validate.whole("steps", steps, 1)
    validate.floating("images", images)
    if images.ndim == 5:
        if images.shape[1] != steps:
            raise ValueError(f"images: got sequences of {images.shape[1]} frames, want {steps}")
        return images.swapaxes(0, 1)  # D23
    validate.ndim("images", images, 4, "(N, H, W, C) or (N, T, H, W, C)")
    return np.broadcast_to(images, (steps, *images.shape))  # D7


def forward(
    net: Network,
    params: Params,
    buffers: Params,
    x_seq: Array,
    ops: Ops,
    training: bool = True,
    keep: str = "all",
    potential_loss: PotentialLoss | None = None,
) -> Forward:
    """Compute all branches' logits b_l for the input sequence (T, N, H, W, C).

    If `training`, batch norm uses the batch's statistics and updates the running ones (in the
    result's `buffers`); otherwise it uses the running ones. Potentials start at 0 (D6). `keep`
    says what is kept for the backward pass: `all`, or `spikes` alone, from which it computes the
    rest again, to the same bits, or `nothing`, where no backward pass follows and nothing is
    trained. With a `potential_loss`, `backward` has its gradients too, and `potential_value` its
    value. ValueError names an argument that does not fit. Source: Eq. 7, D11.
    """
    validate.ndim("x_seq", x_seq, 5, "(T, N, H, W, C)")
    if x_seq.shape[4] != net.in_channels:
        first = x_seq.shape[2] == net.in_channels
        hint = f"; shape {x_seq.shape} looks channels-first, want (T, N, H, W, C)" if first else ""
        raise ValueError(f"x_seq: got {x_seq.shape[4]} channels, want {net.in_channels}{hint}")
    if net.by_step and len(x_seq) != net.steps:
        raise ValueError(
            f"x_seq: got {len(x_seq)} steps, want {net.steps}: it has parameters for each step"
        )
    if net.is_folded and training:
        raise ValueError("training: got True, but the network is folded, for inference alone")
    check_params(net, params)
    check_buffers(net, buffers)
    validate.one_of("keep", keep, ("all", "spikes") if training else ("all", "spikes", "nothing"))
    packer = Packer() if keep == "spikes" else None
    if potential_loss is not None and net.neuron_model is not None:
        name = type(net.neuron_model).__name__
        raise ValueError(f"potential_loss: want it for plain LIFs, and not for {name}")
    context = Context(net, params, buffers, ops, training, keep, packer, potential_loss)
    x_seq, stem = stem_forward(x_seq, context)
    branches, segments, heads = [], [], []
    for blocks in net.segments():
        x_seq, caches = segment_forward(x_seq, blocks, context)
        logits, head = head_forward(x_seq, str(blocks[-1].branch), context)  # Eq. (7)  # D11
        segments.append(caches)
        branches.append(logits)
        heads.append(head)
    rates = x_seq.mean(axis=0, dtype=branches[-1].dtype) if net.aligned else None  # KDSNN
    run = Forward(branches, {}, stem, segments, heads, context, rates)
    return run._replace(buffers=dict(buffers) | moved_buffers(run) if training else buffers)


def backward(
    run: Forward, db: Sequence[Array], drates: Array | None = None, dalign: Array | None = None
) -> Grads:
    """Compute dL/dW of every parameter by name from `db`, the list of dL/db_l.

    `drates` and `dalign` are the gradients of `feature_loss`, where the network has one.
    Source: Eq. 9, KDSNN.
    """
    if len(db) != len(run.heads):
        want = f"{len(run.heads)}, one for each branch"
        raise ValueError(f"db: got gradients of {len(db)} branches, want {want}")
    context = run.context

    def head(cache: HeadCache) -> Pullback:
        def pull(db_l: Array) -> tuple[Array, Grads]:
            do_seq, grads = head_backward(db_l, cache, context)
            if cache is run.heads[-1] and drates is not None:
                do_seq += drates / len(do_seq)  # forward: rates was the mean over time  # KDSNN
            return do_seq, grads

        return pull

    def segment(index: int) -> Pullback:
        def pull(do_seq: Array) -> tuple[Array, Grads]:
            dx_seq, grads = segment_backward(do_seq, run.segments[index], context)
            if index == 0:
                grads |= stem_backward(dx_seq, run.stem, context)  # may overwrite dx_seq
            return dx_seq, grads

        return pull

    blocks = [segment(index) for index in range(len(run.segments))]
    _, grads = context.ops.shortcut_backward(db, [head(cache) for cache in run.heads], blocks)
    if dalign is not None:
        grads[ALIGN] = dalign
    return {name: grads[name] for name in context.net.shapes()}


def stem_forward(x_seq: Array, context: Context) -> tuple[Array, StemCache]:
    """Compute the spikes of the input (D7): the stem's conv-BN-LIF units, then its pooling."""
    stem, units, pool = context.net.arch.stem, [], None
    for index in range(stem.convs):
        x_seq, unit = unit_forward(
            partial(stem_unit_forward, index=index, context=context), [x_seq], context
        )
        units.append(unit)
    if stem.pool is not None:
        x_seq, pool = pool_forward(x_seq, stem.pool, context)
    return x_seq, StemCache(units, pool)


def stem_unit_forward(x_seq: Array, index: int, context: Context) -> tuple[Array, Unit | SumUnit]:
    """Compute one of the stem's units: conv-BN-LIF, or conv-BN where blocks take its currents."""
    conv = context.net.arch.stem.conv(index)
    f, layer = conv_forward(x_seq, f"stem.conv{index}", f"stem.bn{index}", conv, context)
    if index >= context.net.fired_in_stem:
        z_seq, total = sum_forward(f, None, norms_after(layer), context)
        return z_seq, SumUnit(layer, total)
    o_seq, neuron = neuron_forward(f, None, f"stem.lif{index}", norms_after(layer), context)
    return o_seq, Unit(layer, neuron)


def stem_backward(do_seq: Array, cache: StemCache, context: Context) -> Grads:
    """Compute the gradients of the stem's weights; the data needs none."""
    if cache.pool is not None:
        do_seq = pool_backward(do_seq, cache.pool, context)
    grads: Grads = {}
    for index, unit in reversed(list(enumerate(cache.units))):
        layer, after, _, _ = recomputed(unit)
        neuron_grads: Grads = {}
        if isinstance(after, SumCache):
            df, _ = sum_backward(do_seq, after, context)
        else:
            df, _, neuron_grads = neuron_backward(do_seq, after, context)
        dx_seq, unit_grads = conv_backward(df, layer, context, need_dx=index > 0)
        grads |= unit_grads | neuron_grads
        if dx_seq is not None:
            do_seq = dx_seq
    return grads


def segment_forward(x_seq: Array, blocks: list[Block], context: Context) -> tuple[Array, list[Any]]:
    """Compute blocks one after the other."""
    caches = []
    for block in blocks:
        x_seq, cache = KINDS[context.net.block].forward(x_seq, block, context)
        caches.append(cache)
    return x_seq, caches


def outputs(run: Forward, loss: Loss) -> list[Array]:
    """Return what a loss takes of every branch: logits (N, K), or those of each step (T, N, K)."""
    return [head.y_seq for head in run.heads] if is_per_step(loss) else run.branches


def potential_value(run: Forward) -> float:
    """Return the loss of the potentials of all layers that count, 0 without such a loss."""
    loss, lif = run.context.potential_loss, run.context.net.lif
    if loss is None:
        return 0.0
    layers = (neuron for neuron in recomputed_neurons(run) if counts(neuron.name, run.context))
    moments = run.context.ops.channel_moments
    return sum(loss.value(neuron.cache.lif.u_pre_seq, lif, moments) for neuron in layers)


def segment_backward(do_seq: Array, caches: list[Any], context: Context) -> tuple[Array, Grads]:
    """Compute the gradients at the segment's input and of all its weights from dL/do."""
    grads: Grads = {}
    for cache in reversed(caches):
        do_seq, block_grads = KINDS[context.net.block].backward(do_seq, cache, context)
        grads |= block_grads
    return do_seq, grads


def neurons(run: Forward) -> Iterator[NeuronCache | KeptNeurons]:
    """Yield every layer of neurons but the heads' hidden ones, from input to output."""
    for unit in units(run):
        yield from unit.neurons
    yield from final_neurons(run)


def recomputed_neurons(run: Forward) -> Iterator[NeuronCache]:
    """Do as `neurons`, and compute again what was not kept."""
    for unit in units(run):
        yield from recomputed(unit).neurons
    yield from final_neurons(run)


def final_neurons(run: Forward) -> Iterator[NeuronCache]:
    """Yield the neurons between the last block and the main head, where blocks pass on currents."""
    yield from (head.final for head in run.heads if head.final is not None)


def units(run: Forward) -> Iterator[Any]:
    """Yield the caches of the stem's and the blocks' units, from input to output."""
    yield from run.stem.units
    for segment in run.segments:
        for block in segment:
            yield from block.units


def neuron_caches(run: Forward) -> Iterator[tuple[str, LIFCache]]:
    """Yield the name and cache of every layer of neurons, from input to output."""
    yield from ((neuron.name, neuron.cache.lif) for neuron in recomputed_neurons(run))
    yield from ((h.hidden.name, h.hidden.lif) for h in run.heads if h.hidden is not None)


def moved_norms(run: Forward) -> Iterator[tuple[str, Running]]:
    """Yield every batch norm's name and running statistics after this batch."""
    for unit in units(run):
        yield from unit.norms
    for neuron in final_neurons(run):
        yield from norms_of(neuron)
    yield from (
        (head.hidden.name, head.hidden.running)
        for head in run.heads
        if head.hidden is not None and head.hidden.running is not None
    )


def moved_buffers(run: Forward) -> Params:
    """Return the running statistics after this batch by name."""
    moved: Params = {}
    for name, running in moved_norms(run):
        moved[f"{name}.running_mean"] = running.mean
        moved[f"{name}.running_var"] = running.var
    return moved
