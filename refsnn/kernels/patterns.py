"""Sums over rows of a table that bits choose, as LLVM vector code.

A word of 16 bits is the spikes of 16 channels, and each of its quarters one of 16 patterns. The
table has 64 rows for a word, 16 for each quarter.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from refsnn.equations.surrogate import Array
from refsnn.kernels.simd import (
    INDEX,
    LANES,
    Fields,
    Flat,
    Value,
    held_or_zero,
    load,
    nested,
    store,
)

#: a product with it gathers the lowest bits of eight bytes in the highest byte
GATHER = 0x0102040810204080
QUARTERS, PATTERNS = 4, 16  # of a word, and of a quarter
SUMS = 2  # sums that are kept apart, each of every second quarter


class Words(NamedTuple):
    """`rows` rows of `length` words: row i begins at at + i row."""

    data: Array  # uint16
    at: int
    row: int
    rows: int
    length: int


class Rows(NamedTuple):
    """The table for `Words`: 64 rows a word; those of a row's first word begin at at + i row."""

    data: Array  # float32
    at: int
    row: int


def each_row(
    builder: Value,
    arguments: Fields,
    vectors: int,
    carried: list[Value],
    body: Callable[[list[Value], list[Value]], list[Value]],
) -> list[Value]:
    """Emit loops over all words; `body` gets the four rows that a word chooses."""
    bits, table = arguments.fields("bits"), arguments.fields("table")
    data, rows = (
        bits.pointer("data", bits.integer("at")),
        table.pointer("data", table.integer("at")),
    )
    size = vectors * LANES  # of a row

    def one_word(offsets: list[Value], values: list[Value]) -> list[Value]:
        word = builder.zext(builder.load(builder.gep(data, [offsets[0]])), INDEX)
        chosen = []
        for quarter in range(QUARTERS):
            pattern = builder.and_(builder.lshr(word, INDEX(4 * quarter)), INDEX(PATTERNS - 1))
            row = builder.add(pattern, INDEX(PATTERNS * quarter))
            place = builder.add(offsets[1], builder.mul(row, INDEX(size)))
            chosen.append(builder.gep(rows, [place]))
        return body(chosen, values)

    counts = [bits.integer("rows"), bits.integer("length")]
    each = QUARTERS * PATTERNS * size
    steps = [[bits.integer("row"), table.integer("row")], [INDEX(1), INDEX(each)]]
    return nested(builder, counts, steps, carried, one_word)


def make_sum_patterns(vectors: int) -> Any:
    """Make `sum_patterns_twin` for rows of `vectors` vectors."""

    @intrinsic
    def sum_patterns(context, bits, table, total, accumulate):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            names = ("bits", "table", "total", "accumulate")
            arguments = Fields(context, builder, names, signature.args, values)
            target = arguments.flat("total")
            places = [builder.gep(target, [INDEX(v * LANES)]) for v in range(vectors)]
            begun = held_or_zero(builder, places, arguments.integer("accumulate"))
            zero = ir.Constant(begun[0].type, None)
            begun += [zero] * (vectors * (SUMS - 1))

            def add(chosen: list[Value], sums: list[Value]) -> list[Value]:
                sums = list(sums)
                for quarter, row in enumerate(chosen):
                    for v in range(vectors):
                        which = quarter % SUMS * vectors + v
                        value = load(builder, builder.gep(row, [INDEX(v * LANES)]))
                        sums[which] = builder.fadd(sums[which], value)
                return sums

            sums = each_row(builder, arguments, vectors, begun, add)
            for v, place in enumerate(places):
                store(builder, builder.fadd(sums[v], sums[vectors + v]), place)
            return context.get_dummy_value()

        return types.void(bits, table, total, accumulate), codegen

    return sum_patterns


def make_add_to_patterns(vectors: int) -> Any:
    """Make `add_to_patterns_twin` for rows of `vectors` vectors."""

    @intrinsic
    def add_to_patterns(context, bits, table, row):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            names = ("bits", "table", "row")
            arguments = Fields(context, builder, names, signature.args, values)
            given = arguments.flat("row")
            parts = [load(builder, builder.gep(given, [INDEX(v * LANES)])) for v in range(vectors)]

            def add(chosen: list[Value], sums: list[Value]) -> list[Value]:
                for row in chosen:
                    for v, part in enumerate(parts):
                        place = builder.gep(row, [INDEX(v * LANES)])
                        store(builder, builder.fadd(load(builder, place), part), place)
                return sums

            each_row(builder, arguments, vectors, [], add)
            return context.get_dummy_value()

        return types.void(bits, table, row), codegen

    return add_to_patterns


def chosen_rows(bits: Words, table: Rows, width: int) -> Array:
    """Return where the rows begin that all words choose."""
    i, q, quarter = np.ogrid[: bits.rows, : bits.length, :QUARTERS]
    pattern = (bits.data[bits.at + i * bits.row + q] >> 4 * quarter) & (PATTERNS - 1)
    row = PATTERNS * (QUARTERS * q + quarter) + pattern.astype(np.int64)
    return table.at + i * table.row + row * width


def sum_patterns_twin(width: int) -> Callable[[Words, Rows, Flat, bool], None]:
    """Make the Python twin, for rows of `width` floats."""

    def sum_patterns(bits: Words, table: Rows, total: Flat, accumulate: bool) -> None:
        """Compute total[n] (+)= the sum of the rows that the words choose.

        With `accumulate`, the sum is added to total.
        """
        rows = chosen_rows(bits, table, width).reshape(-1, 1) + np.arange(width)
        target = total.data[total.at : total.at + width]
        target[:] = (target if accumulate else 0) + table.data[rows].sum(axis=0)

    return sum_patterns


def add_to_patterns_twin(width: int) -> Callable[[Words, Rows, Flat], None]:
    """Make the Python twin, for rows of `width` floats."""

    def add_to_patterns(bits: Words, table: Rows, row: Flat) -> None:
        """Add `row` to each row that the words choose."""
        rows = chosen_rows(bits, table, width).reshape(-1, 1) + np.arange(width)
        table.data[rows] += row.data[row.at : row.at + width]  # no two are the same

    return add_to_patterns


@intrinsic
def compiled_byte(context, x, at):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        arguments = Fields(context, builder, ("x", "at"), signature.args, values)
        place = arguments.pointer("x", arguments.integer("at"))
        eight = builder.load(builder.bitcast(place, INDEX.as_pointer()))
        eight.align = 1
        gathered = builder.lshr(builder.mul(eight, INDEX(GATHER)), INDEX(56))
        return builder.trunc(gathered, ir.IntType(8))

    return types.uint8(x, at), codegen


def byte_twin(x: Array, at: int) -> int:
    """Return the byte whose bit k is x[at + k], 0 or 1, for eight elements of uint8."""
    return int(np.packbits(x[at : at + 8], bitorder="little")[0])


if config.DISABLE_JIT:
    sum_patterns1, sum_patterns2, sum_patterns4 = (sum_patterns_twin(v * LANES) for v in (1, 2, 4))
    add_to_patterns1, add_to_patterns2, add_to_patterns4 = (
        add_to_patterns_twin(v * LANES) for v in (1, 2, 4)
    )
    byte_of = byte_twin
else:
    sum_patterns1, sum_patterns2, sum_patterns4 = (make_sum_patterns(v) for v in (1, 2, 4))
    add_to_patterns1, add_to_patterns2, add_to_patterns4 = (
        make_add_to_patterns(v) for v in (1, 2, 4)
    )
    byte_of = compiled_byte
