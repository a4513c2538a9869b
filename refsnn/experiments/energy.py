"""Counts of the operations of a trained network, and the energy that they would take.

A spike that goes into a convolution is added to every output whose window it lies in: one synaptic
operation each, an accumulate. Numbers, as pixels and averages are, take a multiply-accumulate for
each weight instead; images that are the same at every step take it once. Both are counted on the
data, with borders and strides: a tap that lies in the padding does not count.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from refsnn.network import Forward
from refsnn.network.layers import ConvLayer, NeuronCache
from refsnn.network.unit import Unit
from refsnn.ops import Array

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


def reach_of(x: Array, layer: ConvLayer) -> Array:
    """Return for each pixel (H, W) of a convolution's input x how many windows read it."""
    assert layer.conv is not None
    _, w, p = layer.conv
    axes = zip(x.shape[1:3], w.shape[:2], p.stride, p.padding, strict=True)
    rows, columns = (
        reach(size, kernel, stride, padding, (size + 2 * padding - kernel) // stride + 1)
        for size, kernel, stride, padding in axes
    )
    return np.multiply.outer(rows, columns)


def conv_count(
    layer: ConvLayer, neuron: NeuronCache, images: int, takes: str, updates: bool
) -> Count:
    """Count a convolution's operations; `updates` says that its neurons are counted with it."""
    assert layer.conv is not None
    x, w, _ = layer.conv
    kh, kw, c_in, c_out = w.shape
    windows, steps = reach_of(x, layer), len(x) // images
    y_size = neuron.o_seq.size  # of all images and steps
    per_image = int(windows.sum()) * c_in * c_out
    count = Count(layer.conv_name, takes, images, elements=x.size, dense_macs=images * per_image)
    count.norm_macs = y_size
    count.updates = y_size if updates else 0
    if takes == "numbers":
        count.macs = count.reads = steps * images * per_image
        return count
    spikes = (x != 0).sum(axis=(0, 3))  # (H, W)
    count.spikes = int(spikes.sum())
    count.synaptic = count.reads = int((spikes * windows).sum()) * c_out
    dense = kh * kw * c_in * c_out * (y_size // c_out)  # of all steps
    count.formula = count.spikes / x.size * dense
    return count


def skip_count(name: str, x_seq: Array, images: int, takes: str) -> Count:
    """Count the additions of a block's input to its last neurons, a spike to one neuron."""
    if takes == "numbers":
        return Count(name, takes, images, x_seq.size, synaptic=x_seq.size)
    spikes = int(np.count_nonzero(x_seq))
    return Count(name, takes, images, x_seq.size, spikes, spikes, formula=float(spikes))


def layer_counts(run: Forward) -> Iterator[Count]:
    """Yield the count of every layer, from input to output."""
    assert run.context.keep == "all"
    if (block := run.context.net.block) != "basic":
        raise ValueError(f"block: got {block}, want basic, whose operations are counted")
    images = len(run.branches[-1])
    takes = "numbers"  # the data
    for unit in run.stem.units:
        assert isinstance(unit, Unit)
        yield conv_count(unit.conv, unit.neuron, images, takes, updates=True)
        takes = "spikes"
    if run.stem.pool is not None:
        takes = "numbers"  # averages
    for block in (block for segment in run.segments for block in segment):
        inner, outer = block.inner, block.outer
        assert isinstance(inner, Unit)
        assert isinstance(outer, Unit)
        yield conv_count(inner.conv, inner.neuron, images, takes, updates=True)
        yield conv_count(outer.conv, outer.neuron, images, "spikes", updates=True)
        if outer.skip is None or outer.skip.conv is None:
            assert inner.conv.conv is not None
            name, x = inner.conv.conv_name.removesuffix("conv1") + "skip", inner.conv.conv.x
            count = skip_count(name, x, images, takes)
            count.norm_macs = x.size if outer.skip is not None else 0
            yield count
        else:
            pooled = "numbers" if outer.pool is not None else takes
            yield conv_count(outer.skip, outer.neuron, images, pooled, updates=False)
        takes = "spikes"
    yield from head_counts(run, images)


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
