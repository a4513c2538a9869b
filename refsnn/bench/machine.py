"""The machine and the versions that a measurement belongs to, without importing them."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from refsnn import __version__
from refsnn.system import usable_cores

PACKAGES = ("numpy", "numba", "torch", "spikingjelly", "snntorch")


def describe_machine(peaks: dict[str, Any], load: float) -> dict[str, Any]:
    """`peaks` as measured by a worker: gemm_gflops, copy_gib_s, threads; `load` before that."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "threads": peaks["threads"],
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"refsnn": __version__, "python": platform.python_version()} | versions(),
        "load": load,
        "gemm_gflops": peaks["gemm_gflops"],
        "copy_gib_s": peaks["copy_gib_s"],
    }


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
