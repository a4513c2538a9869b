"""What is kept of a part of the network where memory is low: spikes, which are a bit each.

Spikes that are floats, as in float64, and other input, as images are, are kept as they are. The
rest is computed again when the backward pass comes to the part, by the same operations from the
same numbers, so that the results have the same bits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refsnn.network.layers import NeuronCache, NormNames
from refsnn.ops import Array, Running, is_still


class Packed(NamedTuple):
    """Spikes as bits, or any other array as it is."""

    values: Array
    shape: tuple[int, ...] | None  # of the spikes, None for another array

    def unpack(self) -> Array:
        """Return the array: spikes as uint8."""
        if self.shape is None:
            return self.values
        size = int(np.prod(self.shape))
        return np.unpackbits(self.values, count=size).reshape(self.shape)


def pack(x: Array) -> Packed:
    """Return spikes, which are uint8, as bits, and any other array as it is."""
    if x.dtype != np.uint8 or is_still(x):
        return Packed(x, None)
    return Packed(np.packbits(x.reshape(-1)), x.shape)


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


def keep(neurons: list[NeuronCache], again: Callable[[], Any]) -> Kept:
    """Return what is kept of a part with these layers of neurons."""
    kept = [KeptNeurons(n.name, n.norms, n.running, pack(n.cache.o_seq)) for n in neurons]
    return Kept(kept, again)


def whole(cache: Any) -> Any:
    """Return a part's caches, which are computed again if they were not kept."""
    return cache.again() if isinstance(cache, Kept) else cache
