"""Counts of the operations of a trained network, and the energy that they would take.

A spike that goes into a convolution is added to every output whose window it lies in: one synaptic
operation each, an accumulate. Numbers, as pixels and averages are, take a multiply-accumulate for
each weight instead; images that are the same at every step take it once. Both are counted on the
data, with borders and strides: a tap that lies in the padding does not count.

Blocks differ in what they pass on. A sum of n spikes, as SEW ADD passes on, counts as n spikes, and
so as n accumulates for each output that it reaches: both blocks' spikes may be sent there as they
are, so that adding them takes no operation of its own. AND and IAND, which pass on single spikes,
are gates, no additions. MS passes on currents, real numbers: its skip adds one at each place, an
accumulate, and a convolution on the skip takes multiply-accumulates. Averages are numbers too, and
so are sums with them, as in stages of SEW ADD right behind a pooling. Spikes of other sizes than 1
(Real Spike) count as one each.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from refsnn.network import Forward
from refsnn.network.block import BlockCache
from refsnn.network.layers import ConvLayer, NeuronCache, merge
from refsnn.network.membrane import FiringUnit, MembraneCache, SumUnit
from refsnn.network.sew import SEWCache
from refsnn.network.unit import Unit
from refsnn.ops import NUMPY, Array, Conv

ACCUMULATE, MULTIPLY_ACCUMULATE = 0.9, 4.6  # pJ, 32 bits at 45 nm: 0.9 to add, 3.7 to multiply


@dataclass
class Count:
    """What a layer of weights does for some images, over all time steps.

    `formula` is what the usual estimate gives for `synaptic`: firing rate x T x the multiplications
    of a dense pass, where taps in the padding count too.
    """

    name: str
    takes: str  # spikes, or numbers
    images: int = 0
    elements: int = 0  # of the input
    spikes: int = 0
    synaptic: int = 0  # accumulates
    macs: int = 0  # multiply-accumulates of numbers with weights
    reads: int = 0  # weights read, one for each of these operations
    norm_macs: int = 0  # of batch norm, which a network on a chip has in its weights
    updates: int = 0  # of the neurons behind it
    dense_macs: int = 0  # of a network of the same shape without spikes and time
    formula: float = 0.0

    def add(self, other: "Count") -> None:
        """Add the counts of other images."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def picojoules(self, accumulate: float, multiply_accumulate: float) -> float:
        """Return the energy of its accumulates and multiply-accumulates."""
        return self.synaptic * accumulate + self.macs * multiply_accumulate


COUNTS = [f.name for f in fields(Count) if f.name not in ("name", "takes")]


@dataclass
class Operations:
    """The counts of a network's layers, from input to output."""

    layers: dict[str, Count] = field(default_factory=dict)

    def add(self, run: Forward) -> None:
        """Add the counts of a forward pass that kept all its caches."""
        for count in layer_counts(run):
            self.layers.setdefault(count.name, Count(count.name, count.takes)).add(count)


def reach(size: int, kernel: int, stride: int, padding: int, outputs: int) -> Array:
    """Return for each place (size,) along an axis how many pairs of output and tap read it."""
    read = np.arange(outputs)[:, None] * stride + np.arange(kernel) - padding
    inside = read[(read >= 0) & (read < size)]
    return np.bincount(inside, minlength=size)


def places(x: Array, w: Array, p: Conv) -> tuple[int, int]:
    """Return the numbers of rows and columns of a convolution's output."""
    axes = zip(x.shape[1:3], w.shape[:2], p.stride, p.padding, strict=True)
    rows, columns = ((n + 2 * pad - kernel) // stride + 1 for n, kernel, stride, pad in axes)
    return rows, columns


def reach_of(x: Array, w: Array, p: Conv) -> Array:
    """Return for each pixel (H, W) of a convolution's input x how many windows read it."""
    axes = zip(x.shape[1:3], w.shape[:2], p.stride, p.padding, places(x, w, p), strict=True)
    rows, columns = (reach(*axis) for axis in axes)
    return np.multiply.outer(rows, columns)


class Batch(NamedTuple):
    """How many steps and images a forward pass had."""

    steps: int
    images: int


#: the number of spikes at each place, (T N, H, W, C), or None for real numbers
Spikes = Array | None


def takes(spikes: Spikes) -> str:
    """Return what a layer takes in words."""
    return "numbers" if spikes is None else "spikes"


def fired(neuron: NeuronCache) -> Array:
    """Return where a layer's neurons fired, (T N, H, W, C)."""
    return merge(neuron.o_seq) != 0


def conv_count(layer: ConvLayer, batch: Batch, spikes: Spikes, updates: int = 0) -> Count:
    """Count a convolution's operations; `updates` are those of the neurons behind it."""
    assert layer.conv is not None
    x, w, p = layer.conv
    kh, kw, c_in, c_out = w.shape
    windows, images = reach_of(x, w, p), batch.images
    rows, columns = places(x, w, p)
    pixels = batch.steps * images * rows * columns  # of the output
    per_image = int(windows.sum()) * c_in * c_out
    count = Count(layer.conv_name, takes(spikes), images, x.size, dense_macs=images * per_image)
    count.norm_macs = pixels * c_out
    count.updates = updates
    if spikes is None:
        count.macs = count.reads = len(x) * per_image  # once for images that stay the same
        return count
    by_place = spikes.sum(axis=(0, 3), dtype=np.int64)  # (H, W)
    count.spikes = int(by_place.sum())
    count.synaptic = count.reads = int((by_place * windows).sum()) * c_out
    dense = kh * kw * c_in * c_out * pixels  # of all steps
    count.formula = count.spikes * dense / x.size
    return count


def skip_count(first: ConvLayer, batch: Batch, size: int, spikes: Spikes, norm: bool) -> Count:
    """Count the additions of a block's input to what its layers compute, at `size` places.

    `first` is the block's first convolution; `norm` says that the skip has a batch norm.
    """
    name, norm_macs = first.conv_name.removesuffix("conv1") + "skip", size if norm else 0
    if spikes is None:
        return Count(name, "numbers", batch.images, size, synaptic=size, norm_macs=norm_macs)
    n = int(spikes.sum(dtype=np.int64))
    count = Count(name, "spikes", batch.images, size, n, synaptic=n, norm_macs=norm_macs)
    count.formula = float(n)
    return count


#: the counts of some layers, and what they pass on
Counted = tuple[list[Count], Spikes]


def unit_counts(units: list[Unit], batch: Batch, spikes: Spikes) -> list[Count]:
    """Count the operations of convolutions with neurons, one after the other."""
    counts = []
    for unit in units:
        counts.append(conv_count(unit.conv, batch, spikes, unit.neuron.o_seq.size))
        spikes = fired(unit.neuron)
    return counts


def basic_counts(block: BlockCache, batch: Batch, spikes: Spikes) -> Counted:
    """Count the operations of the paper's block, whose last neurons add the skip."""
    inner, outer = block.inner, block.outer
    assert isinstance(inner, Unit)
    assert isinstance(outer, Unit)
    counts = unit_counts([inner, outer], batch, spikes)
    if outer.skip is None or outer.skip.conv is None:
        size = outer.neuron.o_seq.size
        counts.append(skip_count(inner.conv, batch, size, spikes, outer.skip is not None))
    else:
        counts.append(conv_count(outer.skip, batch, None if outer.pool is not None else spikes))
    return counts, fired(outer.neuron)


def sew_counts(block: SEWCache, batch: Batch, spikes: Spikes, kind: str) -> Counted:
    """Count the operations of a block that joins spikes by add, and, or iand."""
    inner, outer, skip = block.inner, block.outer, block.skip
    assert isinstance(inner, Unit)
    assert isinstance(outer, Unit)
    counts = unit_counts([inner, outer], batch, spikes)
    skipped = spikes
    if skip is not None:
        assert isinstance(skip, Unit)
        pooled = None if skip.pool is not None else spikes
        counts.append(conv_count(skip.conv, batch, pooled, skip.neuron.o_seq.size))
        skipped = fired(skip.neuron)
    if block.joined is None:
        if skipped is None:
            size = outer.neuron.o_seq.size
            counts.append(skip_count(inner.conv, batch, size, None, norm=False))
            return counts, None
        return counts, np.add(fired(outer.neuron), skipped, dtype=np.int32)
    if skipped is None:
        return counts, None
    a_seq, s_seq = (x.unpack() for x in block.joined)
    return counts, merge(NUMPY.join_forward(a_seq, s_seq, kind, s_seq.dtype)) != 0


def membrane_counts(block: MembraneCache, batch: Batch, behind: int) -> Counted:
    """Count the operations of a block that passes on currents, to a layer of `behind` neurons."""
    inner, outer = block.inner, block.outer
    assert isinstance(inner, FiringUnit)
    assert isinstance(outer, SumUnit)
    unit = inner.unit
    counts = [
        conv_count(unit.conv, batch, fired(inner.first), unit.neuron.o_seq.size),
        conv_count(outer.conv, batch, fired(unit.neuron), behind),
    ]
    if outer.skip is None or outer.skip.conv is None:
        size = inner.first.o_seq.size
        counts.append(skip_count(unit.conv, batch, size, None, outer.skip is not None))
    else:
        counts.append(conv_count(outer.skip, batch, None))
    return counts, None


def layer_counts(run: Forward) -> Iterator[Count]:
    """Yield the count of every layer, from input to output."""
    assert run.context.keep == "all"
    kind, head = run.context.net.block, run.heads[-1]
    batch = Batch(*head.y_seq.shape[:2])
    blocks = [block for segment in run.segments for block in segment]
    # the neurons that take currents, those of the stem's last unit first
    takers = [block.inner.first for block in blocks if kind == "ms"]
    behind = [neuron.o_seq.size for neuron in [*takers, head.final] if neuron is not None]
    spikes: Spikes = None  # the data
    for unit in run.stem.units:
        assert isinstance(unit, Unit | SumUnit)
        updates = unit.neuron.o_seq.size if isinstance(unit, Unit) else behind[0]
        yield conv_count(unit.conv, batch, spikes, updates)
        spikes = fired(unit.neuron) if isinstance(unit, Unit) else None
    if run.stem.pool is not None:
        spikes = None  # averages
    for index, block in enumerate(blocks):
        if kind == "ms":
            counts, spikes = membrane_counts(block, batch, behind[index + 1])
        elif kind == "basic":
            counts, spikes = basic_counts(block, batch, spikes)
        else:
            counts, spikes = sew_counts(block, batch, spikes, kind.removeprefix("sew_"))
        yield from counts
    yield from head_counts(run, batch.images)


def head_counts(run: Forward, images: int) -> Iterator[Count]:
    """Yield the counts of the main branch's linear layers; the first one takes averages."""
    head = run.heads[-1]
    if head.hidden is not None:
        x, w = head.hidden.linear
        macs = len(x) * w.size
        yield Count(
            f"{head.name}.hidden",
            "numbers",
            images,
            x.size,
            macs=macs,
            reads=macs,
            updates=len(x) * w.shape[1],
            dense_macs=images * w.size,
        )
        x, w = head.fc
        spikes = int(np.count_nonzero(x))
        synaptic = spikes * w.shape[1]
        yield Count(
            f"{head.name}.fc",
            "spikes",
            images,
            x.size,
            spikes,
            synaptic=synaptic,
            reads=synaptic,
            dense_macs=images * w.size,
            formula=float(synaptic),
        )
        return
    x, w = head.fc
    macs, dense = len(x) * w.size, images * w.size
    yield Count(
        f"{head.name}.fc", "numbers", images, x.size, macs=macs, reads=macs, dense_macs=dense
    )


def summary(
    operations: Operations, accumulate: float, multiply_accumulate: float
) -> dict[str, Any]:
    """Return the counts for an image by layer and in all, with energies in nJ."""

    def row(count: Count) -> dict[str, Any]:
        n = count.images
        energy = count.picojoules(accumulate, multiply_accumulate)
        return {
            "layer": count.name,
            "takes": count.takes,
            "firing_rate": count.spikes / count.elements if count.takes == "spikes" else None,
            "spikes": count.spikes / n,
            "synaptic_operations": count.synaptic / n,
            "macs": count.macs / n,
            "weights_read": count.reads / n,
            "norm_macs": count.norm_macs / n,
            "neuron_updates": count.updates / n,
            "dense_macs": count.dense_macs / n,
            "formula": count.formula / n if count.takes == "spikes" else None,
            "nanojoules": 1e-3 * energy / n,
            "dense_nanojoules": 1e-3 * multiply_accumulate * count.dense_macs / n,
        }

    rows = [row(count) for count in operations.layers.values()]
    names = [name for name in rows[0] if name not in ("layer", "takes", "firing_rate")]
    total = {name: sum(row[name] or 0 for row in rows) for name in names}
    of_spikes = sum(row["synaptic_operations"] for row in rows if row["takes"] == "spikes")
    return {
        "layers": rows,
        "total": total,
        "formula_over_count": total["formula"] / of_spikes if of_spikes else None,
        "dense_over_spiking": total["dense_nanojoules"] / total["nanojoules"],
    }
