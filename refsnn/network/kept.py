"""What is kept of a part of the network where memory is low: spikes, which are a bit each.

The rest is computed again when the backward pass comes to the part, by the same operations from the
same numbers, so that the results have the same bits. A part is a convolution with the neurons that
it goes to, and at a block's end with the block's skip.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from refsnn.network.layers import Context, NormNames
from refsnn.network.packed import Packed
from refsnn.ops import Array, Running


class KeptNeurons(NamedTuple):
    """A layer's packed spikes, where `NeuronCache` has all that its backward pass needs."""

    name: str
    norms: NormNames
    running: list[Running]
    spikes: Packed

    @property
    def o_seq(self) -> Array:
        """Return the spikes (T, N, H, W, C)."""
        return self.spikes.unpack()


class Kept(NamedTuple):
    """What is kept of a part, and what computes its caches again."""

    neurons: list[KeptNeurons]
    again: Callable[[], Any]


def part_forward(
    compute: Callable[..., tuple[Array, Any]], inputs: list[Array], context: Context
) -> tuple[Array, Any]:
    """Compute a part of the network, and keep of its caches what `context` says."""
    y_seq, cache = compute(*inputs)
    if context.packer is None:
        return y_seq, cache if context.keep == "all" else None
    pack = context.packer.pack
    packed = [pack(x) for x in inputs]
    neurons = [KeptNeurons(n.name, n.norms, n.running, pack(n.cache.o_seq)) for n in cache.neurons]
    return y_seq, Kept(neurons, lambda: compute(*(x.unpack() for x in packed))[1])


def whole(cache: Any) -> Any:
    """Return a part's caches, which are computed again if they were not kept."""
    return cache.again() if isinstance(cache, Kept) else cache
