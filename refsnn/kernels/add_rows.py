"""The sum of the rows of a matrix that index lists select, in registers, as LLVM vector code."""

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import config, types
from numba.extending import intrinsic

from refsnn.equations.surrogate import Array
from refsnn.kernels.simd import (
    INDEX,
    LANES,
    VECTOR,
    Fields,
    Flat,
    Value,
    held_or_zero,
    load,
    nested,
    store,
)


class Lists(NamedTuple):
    """`length` lists of row offsets, in compressed sparse row (CSR) form.

    List i is indices[indptr[first + i step] : indptr[first + i step + span]].
    """

    indices: Array  # uint32
    indptr: Array  # int64
    first: int
    step: int
    span: int
    length: int


class Table(NamedTuple):
    """The matrix whose rows are summed; list i's offsets start at `at` + i `step`."""

    data: Array  # float32
    at: int
    step: int


def make_add_rows(vectors: int) -> Any:
    """Make `add_rows_twin` for rows of `vectors` vectors."""

    @intrinsic
    def add_rows(context, lists, table, total, accumulate):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            names = ("lists", "table", "total", "accumulate")
            arguments = Fields(context, builder, names, signature.args, values)
            lists, table, target = (
                arguments.fields("lists"),
                arguments.fields("table"),
                arguments.flat("total"),
            )
            places = [builder.gep(target, [INDEX(v * LANES)]) for v in range(vectors)]
            begun = held_or_zero(builder, places, arguments.integer("accumulate"))
            sums = nested(
                builder,
                [lists.integer("length")],
                [[lists.integer("step"), table.integer("step")]],
                begun,
                lambda offsets, sums: add_list(builder, lists, table, offsets, sums),
            )
            for value, place in zip(sums, places, strict=True):
                store(builder, value, place)
            return context.get_dummy_value()

        return types.void(lists, table, total, accumulate), codegen

    return add_rows


def add_list(
    builder: Value, lists: Fields, table: Fields, offsets: list[Value], sums: list[Value]
) -> list[Value]:
    """Emit a loop that adds one list's rows to the sums."""
    indices, indptr = lists.pointer("indices"), lists.pointer("indptr")
    at = builder.add(lists.integer("first"), offsets[0])
    begin = builder.load(builder.gep(indptr, [at]))
    end = builder.load(builder.gep(indptr, [builder.add(at, lists.integer("span"))]))
    rows = table.pointer("data", builder.add(table.integer("at"), offsets[1]))
    before = builder.block
    head, body, after = (builder.append_basic_block(text) for text in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    j = builder.phi(INDEX)
    totals = [builder.phi(VECTOR) for _ in sums]
    j.add_incoming(begin, before)
    for total, value in zip(totals, sums, strict=True):
        total.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", j, end), body, after)
    builder.position_at_end(body)
    row = builder.zext(builder.load(builder.gep(indices, [j])), INDEX)
    for v, total in enumerate(totals):
        place = builder.gep(rows, [builder.add(row, INDEX(v * LANES))])
        total.add_incoming(builder.fadd(total, load(builder, place)), body)
    j.add_incoming(builder.add(j, INDEX(1)), body)
    builder.branch(head)
    builder.position_at_end(after)
    return totals


def add_rows_twin(width: int) -> Callable[[Lists, Table, Flat, bool], None]:
    """Make the Python twin, for rows of `width` floats."""

    def add_rows(lists: Lists, table: Table, total: Flat, accumulate: bool) -> None:
        """Compute total[n] (+)= the sum of table[i step + index + n] over each list i's indices.

        With `accumulate`, the sum is added to total.
        """
        indices, indptr, first, step, span, length = lists
        sums = total.data[total.at : total.at + width]
        if not accumulate:
            sums[:] = 0
        for i in range(length):
            at = first + i * step
            for index in indices[indptr[at] : indptr[at + span]]:
                row = table.at + i * table.step + int(index)
                sums += table.data[row : row + width]

    return add_rows


if config.DISABLE_JIT:
    add_rows1, add_rows2, add_rows4 = (add_rows_twin(v * LANES) for v in (1, 2, 4))
else:
    add_rows1, add_rows2, add_rows4 = (make_add_rows(v) for v in (1, 2, 4))
