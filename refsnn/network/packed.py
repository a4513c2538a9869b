"""Spikes as bits, for where memory is low.

Spikes that are floats, as in float64, and other input, as images are, stay as they are.
"""

import weakref
from typing import Any, NamedTuple

import numpy as np

from refsnn.ops import Array, is_still


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


class Packer:
    """Pack each array of spikes once, though it is a unit's output and other units' input."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, Packed]] = {}

    def pack(self, x: Array) -> Packed:
        """Do as `pack`, or return what it gave for this array before."""
        array, packed = self.known.get(id(x), (lambda: None, None))
        if packed is None or array() is not x:  # another array may have had its id
            packed = pack(x)
            self.known[id(x)] = weakref.ref(x), packed
        return packed
