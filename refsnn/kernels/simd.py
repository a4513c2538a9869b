"""Register-blocked loops that a compiler does not find by itself, as LLVM vector code.

`tile` is a small matrix product whose result stays in registers, `add_rows` sums the rows
of a matrix that a list names, `transform` is M x M^T for a constant matrix M. Each stands
beside `*_twin`, the same in Python, which runs where Numba compiles nothing. All work on flat
arrays, float32, from an offset on; strides and offsets count elements.

Every element of a result is summed in one order by one lane, with fused multiply-adds, so
the bits depend neither on the width of the machine's vectors nor on the number of threads.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import empty

from refsnn.equations.surrogate import Array

FEATURES = llvmlite.binding.get_host_cpu_features()
#: floats in a vector, and rows of a tile: 2 ROWS accumulators fill half of the registers
LANES, ROWS = (16, 8) if FEATURES.get("avx512f") else (8, 4)

FLOAT, INDEX = ir.FloatType(), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
Value = Any


def aligned(*shape: int) -> Array:
    """Uninitialised float32 on a vector's boundary: a load across cache lines costs twice."""
    count, size = int(np.prod(shape)), 4 * LANES
    raw = empty(4 * count + size, np.uint8)
    start = -raw.ctypes.data % size
    return raw[start : start + 4 * count].view(np.float32).reshape(shape)


def whole_vectors(channels: int) -> int:
    """`channels` rounded up to whole vectors."""
    return -(-channels // LANES) * LANES


def load(builder: Value, pointer: Value) -> Value:
    value = builder.load(builder.bitcast(pointer, VECTOR.as_pointer()))
    value.align = 4
    return value


def store(builder: Value, value: Value, pointer: Value) -> None:
    builder.store(value, builder.bitcast(pointer, VECTOR.as_pointer())).align = 4


def splat(builder: Value, scalar: Value) -> Value:
    """The scalar in all lanes."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, zeros)


def multiply_add(builder: Value, a: Value, b: Value, c: Value) -> Value:
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(fma, [a, b, c])


class Arguments:
    """The arguments of an intrinsic by position: pointers to arrays' data, 64-bit integers."""

    def __init__(self, context: Value, builder: Value, signature: Value, values: Value) -> None:
        self.context, self.builder, self.types, self.values = (
            context,
            builder,
            signature.args,
            values,
        )

    def integer(self, index: int) -> Value:
        return self.context.cast(self.builder, self.values[index], self.types[index], types.int64)

    def integers(self, index: int) -> list[Value]:
        """Those of a tuple."""
        parts, kinds = self.values[index], self.types[index]
        return [
            self.context.cast(self.builder, self.builder.extract_value(parts, i), kind, types.int64)
            for i, kind in enumerate(kinds)
        ]

    def pointer(self, index: int, offset: Value | None = None) -> Value:
        data = self.context.make_array(self.types[index])(
            self.context, self.builder, self.values[index]
        ).data
        return data if offset is None else self.builder.gep(data, [offset])


def nested(
    builder: Value,
    counts: list[Value],
    steps: list[list[Value]],
    carried: list[Value],
    body: Callable[[list[Value], list[Value]], list[Value]],
) -> list[Value]:
    """Loops within loops, `counts` times each (at least once), outermost first.

    Offsets start at 0 and grow by `steps[level]` on each level; `carried` values pass
    through `body(offsets, carried)` and are what is returned.
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


def held_or_zero(builder: Value, places: list[Value], more: Value) -> list[Value]:
    """What the places hold where `more`, else zeros."""
    zero, begun = ir.Constant(VECTOR, None), []
    with builder.if_else(builder.icmp_signed("!=", more, INDEX(0))) as (then, otherwise):
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


def make_tile(rows: int, vectors: int) -> Any:
    """See `tile_twin`; a result of `rows` times `vectors` vectors."""

    @intrinsic
    def tile(context, a, a_at, offsets, o_at, b, b_at, loops, c, c_at, rows_at, r_at, more):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            of = Arguments(context, builder, signature, values)
            place, loop = of.pointer(2, of.integer(3)), of.pointer(6)
            a_data, b_data = of.pointer(0, of.integer(1)), of.pointer(4, of.integer(5))
            c_data = of.pointer(7, of.integer(8))
            start = [
                builder.gep(a_data, [builder.load(builder.gep(place, [INDEX(row)]))])
                for row in range(rows)
            ]
            number = [builder.load(builder.gep(loop, [INDEX(i)])) for i in range(9)]

            def product(offsets, sums):  # type: ignore[no-untyped-def]
                b_row = [
                    load(builder, builder.gep(b_data, [builder.add(offsets[1], INDEX(v * LANES))]))
                    for v in range(vectors)
                ]
                following = []
                for row in range(rows):
                    factor = splat(builder, builder.load(builder.gep(start[row], [offsets[0]])))
                    for v in range(vectors):
                        total = sums[row * vectors + v]
                        following.append(multiply_add(builder, factor, b_row[v], total))
                return following

            target = of.pointer(9, of.integer(10))
            lines = [
                builder.gep(c_data, [builder.load(builder.gep(target, [INDEX(row)]))])
                for row in range(rows)
            ]
            places = [
                builder.gep(line, [INDEX(v * LANES)]) for line in lines for v in range(vectors)
            ]
            begun = held_or_zero(builder, places, of.integer(11))
            # a's and b's steps of each level stand behind the three counts
            steps = [[number[3 + 2 * level], number[4 + 2 * level]] for level in range(3)]
            sums = nested(builder, number[:3], steps, begun, product)
            for value, place in zip(sums, places, strict=True):
                store(builder, value, place)
            return context.get_dummy_value()

        given = (a, a_at, offsets, o_at, b, b_at, loops, c, c_at, rows_at, r_at, more)
        return types.void(*given), codegen

    return tile


def tile_twin(rows: int, width: int) -> Callable[..., None]:
    def tile(a, a_at, offsets, o_at, b, b_at, loops, c, c_at, rows_at, r_at, more):  # type: ignore[no-untyped-def]
        """c[rows_at[m] + n] (+)= sum of a[offsets[m] + i] b[j + n] over three loops' (i, j).

        `loops` holds their counts, outermost first, then for each the steps of i and of j.
        `*_at` is where to begin in the array before it; `more` adds to what c holds.
        """
        counts = np.indices(loops[:3]).reshape(3, -1)
        i, j = loops[3::2] @ counts, loops[4::2] @ counts
        start = a_at + offsets[o_at : o_at + rows]
        product = a[start[:, None] + i] @ b[b_at + j[:, None] + np.arange(width)]
        place = c_at + rows_at[r_at : r_at + rows, None] + np.arange(width)
        c[place] = c[place] + product if more else product

    return tile


def make_add_rows(vectors: int) -> Any:
    """See `add_rows_twin`; rows of `vectors` vectors."""

    @intrinsic
    def add_rows(  # type: ignore[no-untyped-def]
        context, names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more
    ):
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            of = Arguments(context, builder, signature, values)
            name, bound, b_data = of.pointer(0), of.pointer(1), of.pointer(6)
            first, pitch, span, count = (of.integer(i) for i in range(2, 6))
            c_data = of.pointer(9, of.integer(10))
            places = [builder.gep(c_data, [INDEX(v * LANES)]) for v in range(vectors)]

            def one_list(offsets, sums):  # type: ignore[no-untyped-def]
                at = builder.add(first, offsets[0])
                begin = builder.load(builder.gep(bound, [at]))
                end = builder.load(builder.gep(bound, [builder.add(at, span)]))
                base = builder.gep(b_data, [builder.add(of_b, offsets[1])])
                before = builder.block
                head, body, after = (
                    builder.append_basic_block(text) for text in ("head", "body", "after")
                )
                builder.branch(head)
                builder.position_at_end(head)
                j = builder.phi(INDEX)
                totals = [builder.phi(VECTOR) for _ in sums]
                j.add_incoming(begin, before)
                for total, value in zip(totals, sums, strict=True):
                    total.add_incoming(value, before)
                builder.cbranch(builder.icmp_signed("<", j, end), body, after)
                builder.position_at_end(body)
                row = builder.zext(builder.load(builder.gep(name, [j])), INDEX)
                for v, total in enumerate(totals):
                    place = builder.gep(base, [builder.add(row, INDEX(v * LANES))])
                    total.add_incoming(builder.fadd(total, load(builder, place)), body)
                j.add_incoming(builder.add(j, INDEX(1)), body)
                builder.branch(head)
                builder.position_at_end(after)
                return totals

            of_b = of.integer(7)
            begun = held_or_zero(builder, places, of.integer(11))
            sums = nested(builder, [count], [[pitch, of.integer(8)]], begun, one_list)
            for value, place in zip(sums, places, strict=True):
                store(builder, value, place)
            return context.get_dummy_value()

        given = (names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more)
        return types.void(*given), codegen

    return add_rows


def add_rows_twin(width: int) -> Callable[..., None]:
    def add_rows(names, bounds, first, pitch, span, count, b, b_at, b_pitch, c, c_at, more):  # type: ignore[no-untyped-def]
        """c[n] (+)= b[b_at + i b_pitch + name + n], over all i below `count` and every name in
        names[bounds[first + i pitch] : bounds[first + i pitch + span]]."""
        total = c[c_at : c_at + width]
        if not more:
            total[:] = 0
        for i in range(count):
            at = first + i * pitch
            for name in names[bounds[at] : bounds[at + span]]:
                row = b_at + i * b_pitch + int(name)
                total += b[row : row + width]

    return add_rows


def combine(builder: Value, factors: Array, values: list[Value]) -> Value:
    """The sum of factors times values, as few operations as the factors allow."""
    total = None
    for factor, value in zip(factors.tolist(), values, strict=True):
        if factor == 0:
            continue
        if total is None:
            total = value if factor == 1 else builder.fmul(constant(factor), value)
        elif factor == 1:
            total = builder.fadd(total, value)
        elif factor == -1:
            total = builder.fsub(total, value)
        else:
            total = multiply_add(builder, constant(factor), value, total)
    return total


def constant(value: float) -> Value:
    return ir.Constant(VECTOR, [float(np.float32(value))] * LANES)


def floats(builder: Value, pointer: Value) -> Value:
    """A vector of float32, or of bytes made float32."""
    if pointer.type.pointee == FLOAT:
        return load(builder, pointer)
    kind = ir.VectorType(ir.IntType(8), LANES)
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = 1
    return builder.uitofp(value, VECTOR)


def zeros_like(builder: Value, pointer: Value) -> Value:
    """Where a vector of zeros of the pointer's type stands."""
    kind = ir.ArrayType(pointer.type.pointee, LANES)
    zeros = cgutils.global_constant(builder, "zeros", ir.Constant(kind, None))
    return builder.bitcast(zeros, pointer.type)


def make_transform(matrix: Array) -> Any:
    """See `transform_twin`."""
    m, n = matrix.shape

    @intrinsic
    def transform(context, x, x_at, x_row, x_column, inside, y, y_at, y_row, y_column):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            of = Arguments(context, builder, signature, values)
            x_data, y_data = of.pointer(0, of.integer(1)), of.pointer(5, of.integer(6))
            top, bottom, left, right = of.integers(4)
            silent = zeros_like(builder, x_data)

            def place(data: Value, row: Value, column: Value, i: int, j: int) -> Value:
                across = builder.add(builder.mul(row, INDEX(i)), builder.mul(column, INDEX(j)))
                return builder.gep(data, [across])

            def within(low: Value, high: Value) -> list[Value]:
                return [
                    builder.and_(
                        builder.icmp_signed("<=", low, INDEX(i)),
                        builder.icmp_signed("<", INDEX(i), high),
                    )
                    for i in range(n)
                ]

            x_step, y_step = (of.integer(2), of.integer(3)), (of.integer(7), of.integer(8))
            row_is, column_is = within(top, bottom), within(left, right)
            half = []  # columns of matrix x
            for j in range(n):
                places = [
                    builder.select(
                        builder.and_(row_is[i], column_is[j]), place(x_data, *x_step, i, j), silent
                    )
                    for i in range(n)
                ]
                column = [floats(builder, place) for place in places]
                half.append([combine(builder, matrix[i], column) for i in range(m)])
            for i in range(m):
                row = [half[j][i] for j in range(n)]
                for j in range(m):
                    store(builder, combine(builder, matrix[j], row), place(y_data, *y_step, i, j))
            return context.get_dummy_value()

        return types.void(x, x_at, x_row, x_column, inside, y, y_at, y_row, y_column), codegen

    return transform


def transform_twin(matrix: Array) -> Callable[..., None]:
    m, n = matrix.shape

    def transform(x, x_at, x_row, x_column, inside, y, y_at, y_row, y_column):  # type: ignore[no-untyped-def]
        """y = matrix x matrix^T for one vector of channels; x is float32 or uint8.

        Element (i, j) of x stands at x_at + i x_row + j x_column, and so in y. Those outside
        top <= i < bottom, left <= j < right, given as `inside`, are 0 and not looked at.
        """

        def places(at: int, row: int, column: int, size: int) -> Array:
            i, j, lane = np.ogrid[:size, :size, :LANES]
            return at + i * row + j * column + lane

        (top, bottom, left, right), (i, j, _) = inside, np.ogrid[:n, :n, :1]
        known = (top <= i) & (i < bottom) & (left <= j) & (j < right)
        d = np.where(known, x[np.where(known, places(x_at, x_row, x_column, n), 0)], np.float32(0))
        y[places(y_at, y_row, y_column, m)] = np.einsum("ip,pql,jq->ijl", matrix, d, matrix)

    return transform


def make_copy() -> Any:
    """See `copy_twin`."""

    @intrinsic
    def copy_vector(context, x, x_at, y, y_at):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            of = Arguments(context, builder, signature, values)
            vector = floats(builder, of.pointer(0, of.integer(1)))
            store(builder, vector, of.pointer(2, of.integer(3)))
            return context.get_dummy_value()

        return types.void(x, x_at, y, y_at), codegen

    return copy_vector


def copy_twin(x, x_at, y, y_at):  # type: ignore[no-untyped-def]
    """A vector of x, float32 or uint8, to y[y_at:]."""
    y[y_at : y_at + LANES] = x[x_at : x_at + LANES]


def transformer(matrix: Array) -> Any:
    matrix = np.asarray(matrix, np.float32)
    return transform_twin(matrix) if config.DISABLE_JIT else make_transform(matrix)


if config.DISABLE_JIT:
    tile, narrow_tile = tile_twin(ROWS, 2 * LANES), tile_twin(2 * ROWS, LANES)
    add_rows1, add_rows2, add_rows4 = (add_rows_twin(v * LANES) for v in (1, 2, 4))
    copy_vector = copy_twin
else:
    tile, narrow_tile = make_tile(ROWS, 2), make_tile(2 * ROWS, 1)
    add_rows1, add_rows2, add_rows4 = (make_add_rows(v) for v in (1, 2, 4))
    copy_vector = make_copy()
