"""A vector of LANES float32 as a type in compiled loops, so that a loop reads like its formula.

`+ - * / >` work lane by lane, each rounded once; a comparison gives a mask. Where Numba does not
compile, the same functions work on NumPy arrays of LANES elements.

Reason: Numba's compiler vectorises a loop over few arrays only, and keeps nothing in registers from
one loop to the next. Vectors need no such luck, and compile faster.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from refsnn.equations.surrogate import Array
from refsnn.kernels import fma, simd
from refsnn.kernels.simd import LANES, VECTOR

MASK = ir.VectorType(ir.IntType(1), LANES)
BYTES = ir.VectorType(ir.IntType(8), LANES)


class VectorType(types.Type):  # type: ignore[misc]
    """Numba's type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="refsnn.vector")


class MaskType(types.Type):  # type: ignore[misc]
    """Numba's type of a mask."""

    def __init__(self) -> None:
        super().__init__(name="refsnn.mask")


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


@register_model(MaskType)
class MaskModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, MASK)


vector, mask = VectorType(), MaskType()


def register_operator(function: Callable[..., Any], result: Any, emit: Callable[..., Any]) -> None:
    """Let Numba compile an operator of two vectors as what `emit(builder, a, b)` emits."""

    @infer_global(function)
    class Template(ConcreteTemplate):  # type: ignore[misc]
        cases = (signature(result, vector, vector),)

    @lower_builtin(function, vector, vector)
    def lower(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
        return emit(builder, *values)


register_operator(operator.add, vector, ir.IRBuilder.fadd)
register_operator(operator.sub, vector, ir.IRBuilder.fsub)
register_operator(operator.mul, vector, ir.IRBuilder.fmul)
register_operator(operator.truediv, vector, ir.IRBuilder.fdiv)
register_operator(operator.gt, mask, lambda builder, a, b: builder.fcmp_ordered(">", a, b))


def place(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
    """Return the pointer to the element of an array, the first of the given values."""
    data = context.make_array(kinds[0])(context, builder, values[0]).data
    return builder.gep(data, [context.cast(builder, values[1], kinds[1], types.int64)])


@intrinsic
def compiled_load(context, x, at):  # type: ignore[no-untyped-def]
    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        return simd.load(builder, place(context, builder, kinds.args, values))

    return vector(x, at), codegen


@intrinsic
def compiled_store(context, x, at, value):  # type: ignore[no-untyped-def]
    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        simd.store(builder, values[2], place(context, builder, kinds.args, values))
        return context.get_dummy_value()

    return types.void(x, at, value), codegen


@intrinsic
def compiled_store_mask(context, x, at, value):  # type: ignore[no-untyped-def]
    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        pointer = place(context, builder, kinds.args, values)
        places = builder.bitcast(pointer, BYTES.as_pointer())
        builder.store(builder.zext(values[2], BYTES), places).align = 1
        return context.get_dummy_value()

    return types.void(x, at, value), codegen


@intrinsic
def compiled_splat(context, number):  # type: ignore[no-untyped-def]
    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        scalar = context.cast(builder, values[0], kinds.args[0], types.float32)
        return simd.splat(builder, scalar)

    return vector(number), codegen


@intrinsic
def compiled_where(context, chosen, a, b):  # type: ignore[no-untyped-def]
    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        return builder.select(*values)

    return vector(chosen, a, b), codegen


@intrinsic
def compiled_multiply_add(context, a, b, c):  # type: ignore[no-untyped-def]
    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        return fma.multiply_add(builder, *values)

    return vector(a, b, c), codegen


@intrinsic
def compiled_absolute(context, a):  # type: ignore[no-untyped-def]
    def codegen(context, builder, kinds, values):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(VECTOR, [VECTOR])
        name = f"llvm.fabs.v{LANES}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)

    return vector(a), codegen


def load_twin(x: Array, at: int) -> Array:
    """Return the vector x[at:], of float32, or of bytes converted to float32."""
    return x[at : at + LANES].astype(np.float32)


def store_twin(x: Array, at: int, value: Array) -> None:
    """Write the vector to x[at:], float32."""
    x[at : at + LANES] = value


def splat_twin(number: Any) -> Array:
    """Return the number, rounded to float32, in all lanes."""
    return np.full(LANES, number, np.float32)


def where_twin(chosen: Array, a: Array, b: Array) -> Array:
    """Return the lanes of a where the mask is set, else those of b."""
    return np.where(chosen, a, b)


def multiply_add_twin(a: Array, b: Array, c: Array) -> Array:
    """Return a b + c; compiled, it is rounded once."""
    return (a.astype(float) * b + c).astype(np.float32)


if config.DISABLE_JIT:
    load, store, splat, where = load_twin, store_twin, splat_twin, where_twin
    store_mask, multiply_add, absolute = store_twin, multiply_add_twin, np.abs
else:
    load, store, splat, where = compiled_load, compiled_store, compiled_splat, compiled_where
    store_mask, multiply_add = compiled_store_mask, compiled_multiply_add
    absolute = compiled_absolute
