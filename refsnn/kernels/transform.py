"""The transform M x M^T by a constant matrix M, for a vector of channels at a time, and a vector's
copy, as LLVM vector code."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from refsnn.equations.surrogate import Array
from refsnn.kernels.fma import multiply_add
from refsnn.kernels.simd import (
    INDEX,
    LANES,
    Fields,
    Value,
    constant,
    load,
    store,
)


class Grid(NamedTuple):
    """Vectors on a grid in a flat array: vector (i, j) begins at at + i row + j column."""

    data: Array  # float32; input may be uint8
    at: int
    row: int
    column: int


class Inside(NamedTuple):
    """The part of a grid that is read: top <= i < bottom and left <= j < right."""

    top: int
    bottom: int
    left: int
    right: int


def combine(builder: Value, factors: Array, values: list[Value]) -> Value:
    """Emit the sum of factors times values, with as few operations as possible."""
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


def zeros_like(builder: Value, pointer: Value) -> Value:
    """Return a pointer to a vector of zeros of the pointer's type."""
    kind = ir.ArrayType(pointer.type.pointee, LANES)
    zeros = cgutils.global_constant(builder, "zeros", ir.Constant(kind, None))
    return builder.bitcast(zeros, pointer.type)


def places_of(builder: Value, grid: Fields, size: int) -> list[list[Value]]:
    """Return pointers to the vectors of a grid of `size` rows and columns."""
    data, row, column = (
        grid.pointer("data", grid.integer("at")),
        grid.integer("row"),
        grid.integer("column"),
    )
    return [
        [
            builder.gep(
                data,
                [builder.add(builder.mul(row, INDEX(i)), builder.mul(column, INDEX(j)))],
            )
            for j in range(size)
        ]
        for i in range(size)
    ]


def within(builder: Value, low: Value, high: Value, size: int) -> list[Value]:
    """Tell for each number below `size` whether it is at least low and below high."""
    return [
        builder.and_(
            builder.icmp_signed("<=", low, INDEX(i)), builder.icmp_signed("<", INDEX(i), high)
        )
        for i in range(size)
    ]


def make_transform(matrix: Array, adds: bool) -> Any:
    """Make `transform_twin` of the matrix."""
    m, n = matrix.shape

    @intrinsic
    def transform(context, x, inside, y):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            arguments = Fields(context, builder, ("x", "inside", "y"), signature.args, values)
            x_at, y_at = (
                places_of(builder, arguments.fields(name), size)
                for name, size in (("x", n), ("y", m))
            )
            top, bottom, left, right = arguments.integers("inside")
            row_is, column_is = (
                within(builder, *edges, n) for edges in ((top, bottom), (left, right))
            )
            silent = zeros_like(builder, x_at[0][0])
            half = []  # columns of matrix x
            for j in range(n):
                column = [
                    load(
                        builder,
                        builder.select(builder.and_(row_is[i], column_is[j]), x_at[i][j], silent),
                    )
                    for i in range(n)
                ]
                half.append([combine(builder, matrix[i], column) for i in range(m)])
            for i in range(m):
                row = [half[j][i] for j in range(n)]
                for j in range(m):
                    value = combine(builder, matrix[j], row)
                    if adds:
                        value = builder.fadd(load(builder, y_at[i][j]), value)
                    store(builder, value, y_at[i][j])
            return context.get_dummy_value()

        return types.void(x, inside, y), codegen

    return transform


def transform_twin(matrix: Array, adds: bool) -> Callable[[Grid, Inside, Grid], None]:
    """Make the Python twin of the transform by the matrix; with `adds` it is added to y."""
    m, n = matrix.shape

    def transform(x: Grid, inside: Inside, y: Grid) -> None:
        """Compute y = matrix x matrix^T for one vector of channels; x is float32 or uint8.

        Vectors of x that are not `inside` count as 0 and are not read.
        """

        def places(grid: Grid, size: int) -> Array:
            i, j, lane = np.ogrid[:size, :size, :LANES]
            return grid.at + i * grid.row + j * grid.column + lane

        (top, bottom, left, right), (i, j, _) = inside, np.ogrid[:n, :n, :1]
        known = (top <= i) & (i < bottom) & (left <= j) & (j < right)
        d = np.where(known, x.data[np.where(known, places(x, n), 0)], np.float32(0))
        result = np.einsum("ip,pql,jq->ijl", matrix, d, matrix)
        y.data[places(y, m)] = y.data[places(y, m)] + result if adds else result

    return transform


@intrinsic
def compiled_copy(context, x, x_at, y, y_at):  # type: ignore[no-untyped-def]
    """Do as `copy_twin`."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        arguments = Fields(context, builder, ("x", "x_at", "y", "y_at"), signature.args, values)
        vector = load(builder, arguments.pointer("x", arguments.integer("x_at")))
        store(builder, vector, arguments.pointer("y", arguments.integer("y_at")))
        return context.get_dummy_value()

    return types.void(x, x_at, y, y_at), codegen


def copy_twin(x: Array, x_at: int, y: Array, y_at: int) -> None:
    """Copy a vector of x, float32 or uint8, to y[y_at:]."""
    y[y_at : y_at + LANES] = x[x_at : x_at + LANES]


def transformer(matrix: Array, adds: bool = False) -> Any:
    """Return the transform by the matrix, or its twin where Numba does not compile."""
    matrix = np.asarray(matrix, np.float32)
    return (transform_twin if config.DISABLE_JIT else make_transform)(matrix, adds)


copy_vector = copy_twin if config.DISABLE_JIT else compiled_copy
