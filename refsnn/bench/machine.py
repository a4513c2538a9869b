"""The machine and the versions that a measurement belongs to, without importing them."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from refsnn import __version__

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


def load_average() -> float:
    """Threads that ran or wanted to in the last minute, on average; 0 where nobody counts."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
