"""The processor that Numba compiles for.

It may differ from the one that it runs on: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name another.
"""

from functools import cache

from llvmlite import binding
from numba import config
from numba.core.codegen import get_host_cpu_features

#: a function that compiles to a call of the C library if the processor has no FMA instruction
PROBE = """
declare float @llvm.fma.f32(float, float, float)
define float @probe(float %a, float %b, float %c) {
  %d = call float @llvm.fma.f32(float %a, float %b, float %c)
  ret float %d
}
"""


def target_features() -> str:
    """Return the features of the processor compiled for, such as `+avx2,-fma`."""
    named = config.CPU_FEATURES
    return str(get_host_cpu_features() if named is None else named)


@cache
def has_fma() -> bool:
    """Tell whether the processor compiled for has an FMA instruction.

    LLVM decides, as a processor's name implies features too.
    """
    name = config.CPU_NAME
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name() if name is None else name, features=target_features()
    )
    return "fmaf" not in machine.emit_assembly(binding.parse_assembly(PROBE))
