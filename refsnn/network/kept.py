"""Recomputation of activations, for where memory is low (as `torch.utils.checkpoint` does).

Of each unit, a convolution with its batch norm and LIF, only the spikes are kept, packed to a bit
each. The backward pass computes the rest again when it comes to the unit, by the same operations
from the same numbers, so that the results have the same bits.
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
    """What is kept of a unit, and what computes its caches again."""

    neurons: list[KeptNeurons]
    norms: list[tuple[str, Running]]  # its batch norms' statistics after this batch
    again: Callable[[], Any]


def unit_forward(
    compute: Callable[..., tuple[Array, Any]], inputs: list[Array], context: Context
) -> tuple[Array, Any]:
    """Compute a unit, and keep of its caches what `context.keep` says."""
    y_seq, cache = compute(*inputs)
    if context.keep != "spikes":
        return y_seq, cache if context.keep == "all" else None
    assert context.packer is not None
    pack = context.packer.pack
    packed = [pack(x) for x in inputs]
    neurons = [KeptNeurons(n.name, n.norms, n.running, pack(n.cache.o_seq)) for n in cache.neurons]
    return y_seq, Kept(neurons, cache.norms, lambda: compute(*(x.unpack() for x in packed))[1])


def recomputed(cache: Any) -> Any:
    """Return a unit's caches, which are computed again if they were not kept."""
    return cache.again() if isinstance(cache, Kept) else cache
