"""The vector operation a b + c, rounded once: the same bits with or without an FMA instruction.

Without one, LLVM would call the C library for every element. Instead it is computed in vectors of
float64, where the product of two float32 is exact, and the sum's rounding error is found by
additions (Knuth 1997, 4.2.2, theorem B). A sum rounded to odd (Boldo and Melquiond 2008)
has 29 bits more than float32, so rounding it once more rounds the exact sum: the last bit of an
inexact sum is 1, so it never lies halfway between two float32.

It is slow: compiled for haswell without FMA, convolutions took 15 to 21 times as long as with it
(27.4 against 1.30 ms, dense, 64 channels), and for nehalem, in vectors half as wide, twice that.
A NaN may have other bits.
"""

from llvmlite import ir
from numba.core import cgutils

from refsnn.kernels.simd import LANES, VECTOR, Value
from refsnn.kernels.target import has_fma

DOUBLES, BITS = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.IntType(64), LANES)


def multiply_add(builder: Value, a: Value, b: Value, c: Value) -> Value:
    """Compute a b + c, rounded once."""
    if not has_fma():
        return in_doubles(builder, a, b, c)
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(fma, [a, b, c])


def in_doubles(builder: Value, a: Value, b: Value, c: Value) -> Value:
    """Compute a b + c, rounded once, in float64."""
    a, b, c = (builder.fpext(x, DOUBLES) for x in (a, b, c))
    product = builder.fmul(a, b)  # exact
    total = builder.fadd(product, c)
    part = builder.fsub(total, product)
    lost = builder.fsub(product, builder.fsub(total, part))
    error = builder.fadd(lost, builder.fsub(c, part))  # total + error is the exact sum
    inexact = builder.zext(builder.fcmp_ordered("!=", error, ir.Constant(DOUBLES, None)), BITS)
    bits = builder.bitcast(total, BITS)
    opposite = builder.xor(bits, builder.bitcast(error, BITS))
    above = builder.lshr(opposite, ir.Constant(BITS, [63] * LANES))  # in size
    toward_zero = builder.sub(bits, builder.and_(above, inexact))
    odd = builder.or_(toward_zero, inexact)
    return builder.fptrunc(builder.bitcast(odd, DOUBLES), VECTOR)
