"""A small matrix product whose result stays in registers, as LLVM vector code.

`tile` has ROWS rows of two vectors, `narrow_tile` twice as many rows of one vector; each loaded
vector of b is used for all rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import config, types
from numba.extending import intrinsic

from refsnn.equations.surrogate import Array
from refsnn.kernels.fma import multiply_add
from refsnn.kernels.simd import (
    INDEX,
    LANES,
    ROWS,
    Fields,
    Flat,
    Value,
    held_or_zero,
    load,
    nested,
    splat,
    store,
)


class Rows(NamedTuple):
    """A matrix whose rows lie anywhere in a flat array: row m begins at at + offsets[first + m]."""

    data: Array  # float32
    at: int
    offsets: Array  # int64
    first: int


class Loops(NamedTuple):
    """The three loops of a sum, outermost first: counts, and steps in a and b."""

    counts: tuple[int, int, int]  # at least 1
    a_steps: tuple[int, int, int]
    b_steps: tuple[int, int, int]


def make_tile(rows: int, vectors: int) -> Any:
    """Make `tile_twin` for a result of `rows` times `vectors` vectors."""

    @intrinsic
    def tile(context, a, b, loops, c, accumulate):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            names = ("a", "b", "loops", "c", "accumulate")
            arguments = Fields(context, builder, names, signature.args, values)
            a_rows, b_data = row_pointers(builder, arguments.fields("a"), rows), arguments.flat("b")
            places = [
                builder.gep(row, [INDEX(v * LANES)])
                for row in row_pointers(builder, arguments.fields("c"), rows)
                for v in range(vectors)
            ]

            def add_products(offsets: list[Value], sums: list[Value]) -> list[Value]:
                b_row = [
                    load(builder, builder.gep(b_data, [builder.add(offsets[1], INDEX(v * LANES))]))
                    for v in range(vectors)
                ]
                following = []
                for row in range(rows):
                    factor = splat(builder, builder.load(builder.gep(a_rows[row], [offsets[0]])))
                    for v in range(vectors):
                        total = sums[row * vectors + v]
                        following.append(multiply_add(builder, factor, b_row[v], total))
                return following

            loop = arguments.fields("loops")
            steps = zip(loop.integers("a_steps"), loop.integers("b_steps"), strict=True)
            begun = held_or_zero(builder, places, arguments.integer("accumulate"))
            sums = nested(
                builder, loop.integers("counts"), [list(s) for s in steps], begun, add_products
            )
            for value, place in zip(sums, places, strict=True):
                store(builder, value, place)
            return context.get_dummy_value()

        return types.void(a, b, loops, c, accumulate), codegen

    return tile


def row_pointers(builder: Value, matrix: Fields, rows: int) -> list[Value]:
    """Return where each of a `Rows`' rows begins."""
    data = matrix.pointer("data", matrix.integer("at"))
    offsets = matrix.pointer("offsets", matrix.integer("first"))
    return [
        builder.gep(data, [builder.load(builder.gep(offsets, [INDEX(row)]))]) for row in range(rows)
    ]


def tile_twin(rows: int, width: int) -> Callable[[Rows, Flat, Loops, Rows, bool], None]:
    """Make the Python twin, for a result of `rows` times `width` floats."""

    def tile(a: Rows, b: Flat, loops: Loops, c: Rows, accumulate: bool) -> None:
        """Compute c[m, n] (+)= sum of a[m, i] b[j + n] over three loops' steps (i, j).

        With `accumulate`, the product is added to c.
        """
        counts = np.indices(loops.counts).reshape(3, -1)
        i, j = np.array(loops.a_steps) @ counts, np.array(loops.b_steps) @ counts
        begin = a.at + a.offsets[a.first : a.first + rows]
        product = a.data[begin[:, None] + i] @ b.data[b.at + j[:, None] + np.arange(width)]
        place = c.at + c.offsets[c.first : c.first + rows, None] + np.arange(width)
        c.data[place] = c.data[place] + product if accumulate else product

    return tile


if config.DISABLE_JIT:
    tile, narrow_tile = tile_twin(ROWS, 2 * LANES), tile_twin(2 * ROWS, LANES)
else:
    tile, narrow_tile = make_tile(ROWS, 2), make_tile(2 * ROWS, 1)
