"""Building blocks of LLVM vector code: vectors of float32 in memory and registers, and loops.

The kernels that are written with them (`tile`, `add_rows`, `transform`) each have a twin in Python,
which runs if Numba does not compile. All of them work on flat float32 arrays, from an offset on;
offsets and steps count elements.

The reason for vector code: a product of 8x576 and 576x32 takes 1.8 us as a tile, 2.3 us as np.dot
in Numba (OpenBLAS), and 16 us as the fastest of four ways to write its loops in Numba, which
keeps no block of sums in registers. (Minimum of 150 times 200 calls on a core of an x86-64 server
with AVX-512, at a load of 13 on 2 cores; medians were 3.0, 3.6 and 22 us.)

Every element of a result is summed in one order by one lane, with fused multiply-adds, so
the bits depend neither on the width of the machine's vectors nor on the number of threads.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numpy import empty

from refsnn.equations.surrogate import Array
from refsnn.kernels.target import target_features

#: floats in a vector, and rows of a tile: 2 ROWS accumulators fill half of the registers
LANES, ROWS = (16, 8) if "+avx512f" in target_features().split(",") else (8, 4)

FLOAT, INDEX = ir.FloatType(), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
Value = Any


class Flat(NamedTuple):
    """A flat array from element `at` on."""

    data: Array
    at: int


def aligned(*shape: int) -> Array:
    """Allocate uninitialised float32, aligned to a vector, as loads across cache lines are slow."""
    count, size = math.prod(shape), 4 * LANES
    raw = empty(4 * count + size, np.uint8)
    start = -raw.ctypes.data % size
    return raw[start : start + 4 * count].view(np.float32).reshape(shape)


class Shown:
    """Memory that NumPy takes for its own, of which it may write."""

    def __init__(self, x: Array) -> None:
        self.kept = x
        self.__array_interface__ = x.__array_interface__ | {
            "data": (x.__array_interface__["data"][0], False)
        }


def contiguous(x: Array) -> Array:
    """Return x in C order, for a kernel that only reads it.

    Numba compiles a kernel again for arrays that must not be written, such as those of a file in
    memory, or images that are broadcast to all steps; so they pass for others. What this returns
    must not be written, nor given to a user.
    """
    x = np.ascontiguousarray(x)
    return x if x.flags.writeable or x.size == 0 else np.asarray(Shown(x))


def whole_vectors(channels: int) -> int:
    """Return `channels` rounded up to whole vectors."""
    return -(-channels // LANES) * LANES


def load(builder: Value, pointer: Value) -> Value:
    """Load a vector of float32, or of bytes converted to float32."""
    if pointer.type.pointee == FLOAT:
        value = builder.load(builder.bitcast(pointer, VECTOR.as_pointer()))
        value.align = 4
        return value
    kind = ir.VectorType(ir.IntType(8), LANES)
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = 1
    return builder.uitofp(value, VECTOR)


def store(builder: Value, value: Value, pointer: Value) -> None:
    """Store a vector of float32."""
    builder.store(value, builder.bitcast(pointer, VECTOR.as_pointer())).align = 4


def splat(builder: Value, scalar: Value) -> Value:
    """Copy the scalar to all lanes."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, zeros)


def constant(value: float) -> Value:
    """Return the number, rounded to float32, in all lanes."""
    return ir.Constant(VECTOR, [float(np.float32(value))] * LANES)


class Fields:
    """The fields of a tuple, or the arguments of an intrinsic, as LLVM values, by name."""

    def __init__(
        self,
        context: Value,
        builder: Value,
        names: Sequence[str],
        kinds: Sequence[Any],
        values: Sequence[Value],
    ) -> None:
        self.context, self.builder = context, builder
        self.by_name = dict(zip(names, zip(kinds, values, strict=True), strict=True))

    def integer(self, name: str) -> Value:
        """Return an integer or a boolean as 64 bits."""
        kind, value = self.by_name[name]
        return self.context.cast(self.builder, value, kind, types.int64)

    def integers(self, name: str) -> list[Value]:
        """Return the integers of a tuple as 64 bits each."""
        kind, value = self.by_name[name]
        parts = [self.builder.extract_value(value, i) for i in range(len(kind))]
        return [
            self.context.cast(self.builder, part, one, types.int64)
            for part, one in zip(parts, kind, strict=True)
        ]

    def pointer(self, name: str, offset: Value | None = None) -> Value:
        """Return a pointer to an array's element `offset`, by default the first."""
        kind, value = self.by_name[name]
        data = self.context.make_array(kind)(self.context, self.builder, value).data
        return data if offset is None else self.builder.gep(data, [offset])

    def fields(self, name: str) -> "Fields":
        """Return the fields of a named tuple."""
        kind, value = self.by_name[name]
        parts = [self.builder.extract_value(value, i) for i in range(len(kind))]
        return Fields(self.context, self.builder, kind.fields, list(kind), parts)

    def flat(self, name: str) -> Value:
        """Return a pointer to the beginning of a `Flat`."""
        flat = self.fields(name)
        return flat.pointer("data", flat.integer("at"))


def nested(
    builder: Value,
    counts: list[Value],
    steps: list[list[Value]],
    carried: list[Value],
    body: Callable[[list[Value], list[Value]], list[Value]],
) -> list[Value]:
    """Emit nested loops, outermost first, which run `counts` times each (at least once).

    Offsets start at 0 and grow by `steps[level]` on each level; `carried` values go through
    `body(offsets, carried)`, and the last ones are returned.
    """

    def level(depth: int, offsets: list[Value], values: list[Value]) -> list[Value]:
        if depth == len(counts):
            return body(offsets, values)
        before = builder.block
        block = builder.append_basic_block("loop")
        builder.branch(block)
        builder.position_at_end(block)
        here = [INDEX(0), *offsets]
        phis = [builder.phi(value.type) for value in [*here, *values]]
        for phi, value in zip(phis, [*here, *values], strict=True):
            phi.add_incoming(value, before)
        count, moving, inside = phis[0], phis[1 : len(here)], phis[len(here) :]
        results = level(depth + 1, moving, inside)
        following = [builder.add(count, INDEX(1))]
        following += [builder.add(m, s) for m, s in zip(moving, steps[depth], strict=True)]
        for phi, value in zip(phis, [*following, *results], strict=True):
            phi.add_incoming(value, builder.block)
        after = builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", following[0], counts[depth]), block, after)
        builder.position_at_end(after)
        return results

    return level(0, [INDEX(0)] * len(steps[0]), carried)


def held_or_zero(builder: Value, places: list[Value], accumulate: Value) -> list[Value]:
    """Load the values at the places if `accumulate`, else zeros."""
    zero, begun = ir.Constant(VECTOR, None), []
    with builder.if_else(builder.icmp_signed("!=", accumulate, INDEX(0))) as (then, otherwise):
        with then:
            held = [load(builder, place) for place in places]
            first = builder.block
        with otherwise:
            second = builder.block
    for value in held:
        phi = builder.phi(VECTOR)
        phi.add_incoming(value, first)
        phi.add_incoming(zero, second)
        begun.append(phi)
    return begun
