"""a b + c rounded once: the same bits from the instruction and from float64."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import config, njit, types
from numba.extending import intrinsic

from refsnn.kernels import fma, target
from refsnn.kernels.simd import LANES, Fields, load, store

COMPILED = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
COUNT = 1 << 18
INSTRUCTION = pytest.mark.skipif(
    bool(config.DISABLE_JIT) or not target.has_fma(), reason="no instruction to compare with"
)


def over_arrays(multiply_add):
    """multiply_add for every element of arrays of whole vectors."""

    @intrinsic
    def one(context, a, b, c, y, at):
        def codegen(context, builder, signature, values):
            arguments = Fields(context, builder, ("a", "b", "c", "y", "at"), signature.args, values)
            at = arguments.integer("at")
            vectors = [load(builder, arguments.pointer(name, at)) for name in "abc"]
            store(builder, multiply_add(builder, *vectors), arguments.pointer("y", at))
            return context.get_dummy_value()

        return types.void(a, b, c, y, at), codegen

    @njit
    def all_of(a, b, c, y):
        for at in range(0, a.size, LANES):
            one(a, b, c, y, at)

    def run(a, b, c):
        y = np.empty_like(a)
        all_of(a, b, c, y)
        return y

    return run


by_instruction, by_doubles = over_arrays(fma.multiply_add), over_arrays(fma.in_doubles)


def signs(rng):
    return rng.choice(np.float32([-1, 1]), COUNT)


def any_bits(rng):
    return [rng.integers(0, 2**32, COUNT, np.uint32).view(np.float32) for _ in range(3)]


def normal(rng):
    return [rng.normal(size=COUNT).astype(np.float32) for _ in range(3)]


def cancelling(rng):
    a, b, _ = normal(rng)
    beside = (-(a * b)).view(np.int32) + rng.integers(-2, 3, COUNT, np.int32)
    return a, b, beside.view(np.float32)


def nearly_one(rng):
    """a and b with a b = 1 - i^2 2^-46."""
    i = rng.integers(0, 64, COUNT)
    return (1 + i * 2.0**-23).astype(np.float32), (1 - i * 2.0**-23).astype(np.float32)


def beside_halves(rng):
    """c with a product of nearly half its last bit: float64 can't tell it from half."""
    a, b = nearly_one(rng)
    scale = rng.integers(-60, 60, COUNT)
    c = np.ldexp(rng.integers(1 << 23, 1 << 24, COUNT), scale + 1).astype(np.float32)
    return np.ldexp(a, scale), b * signs(rng), c * signs(rng)


def subnormal_beside_halves(rng):
    a, b = nearly_one(rng)
    c = np.ldexp(rng.integers(0, 1 << 23, COUNT).astype(np.float64), -149).astype(np.float32)
    return np.ldexp(a, -75), np.ldexp(b, -75) * signs(rng), c * signs(rng)


def subnormal(rng):
    a, b = (
        np.ldexp(rng.normal(size=COUNT), rng.integers(-100, -40, COUNT)).astype(np.float32)
        for _ in range(2)
    )
    return a, b, (rng.integers(-(2**24), 2**24, COUNT) * 2.0**-149).astype(np.float32)


def special(rng):
    values = np.float32([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4028235e38, 2])
    return [rng.choice(values, COUNT) for _ in range(3)]


HARD = (
    any_bits,
    normal,
    cancelling,
    beside_halves,
    subnormal_beside_halves,
    subnormal,
    special,
)


def assert_same(got, want):
    """To the bit, but for the bits of NaN."""
    nothing = np.isnan(want)
    assert np.array_equal(np.isnan(got), nothing)
    assert np.array_equal(got[~nothing].view(np.uint32), want[~nothing].view(np.uint32))


@COMPILED
@INSTRUCTION
@pytest.mark.parametrize("triples", HARD, ids=lambda draw: draw.__name__)
def test_float64_gives_the_bits_of_the_instruction(triples):
    rng = np.random.default_rng(0)
    for _ in range(int(os.environ.get("REFSNN_FMA_DRAWS", "2"))):
        a, b, c = triples(rng)
        assert_same(by_doubles(a, b, c), by_instruction(a, b, c))


@pytest.mark.parametrize("triples", [beside_halves, subnormal_beside_halves])
def test_float64_rounded_twice_has_other_bits(triples):
    """So that the test above can fail."""
    a, b, c = (x.astype(np.float64) for x in triples(np.random.default_rng(0)))
    twice = (a * b + c).astype(np.float32)
    a, b, c = (x.astype(np.longdouble) for x in (a, b, c))
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long doubles are no longer than doubles")
    assert (twice != (a * b + c).astype(np.float32)).mean() > 0.1


CODE = """
import hashlib
import numpy as np
from refsnn.kernels import conv, dense, target, winograd
from refsnn.equations.conv import Conv

rng, found = np.random.default_rng(0), hashlib.sha256()
for channels in (5, 16, 32):
    x = rng.normal(size=(3, 7, 6, channels)).astype(np.float32)
    w = rng.normal(size=(3, 3, channels, channels)).astype(np.float32)
    for method in ("dense", "winograd"):
        y, _ = conv.conv_forward(x, w, Conv((1, 1), (1, 1)), method)
        found.update(y.tobytes())
        assert np.abs(y).max() > 1
loops = dense.products, dense.correlate_tasks, winograd.correlate_tasks
assembly = [text for loop in loops for text in loop.inspect_asm().values()]
print(target.has_fma(), any("fmaf" in text for text in assembly),
      all("vfmadd" in text for text in assembly), len(assembly) >= len(loops), found.hexdigest())
"""


def compiled_for(folder: Path, **environment: str) -> list[str]:
    """Words that a process prints whose Numba compiles for such a machine."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    given |= {"NUMBA_CACHE_DIR": str(folder), "NUMBA_NUM_THREADS": "2"} | environment
    done = subprocess.run([sys.executable, "-c", CODE], env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
@COMPILED
@INSTRUCTION
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="others have the instruction")
def test_convolutions_have_the_same_bits_without_the_instruction(tmp_path):
    *properties, bits = compiled_for(tmp_path / "with")
    assert properties == ["True", "False", "True", "True"]
    without = compiled_for(tmp_path / "without", NUMBA_CPU_NAME="nehalem", NUMBA_CPU_FEATURES="")
    assert without == ["False", "False", "False", "True", bits]
