"""Describe the machine and the versions of the libraries, without importing these."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from refsnn import __version__

PACKAGES = ("numpy", "numba", "torch", "spikingjelly", "snntorch")


def describe_machine(peaks: dict[str, Any], load: float) -> dict[str, Any]:
    """Return a description of the machine.

    `peaks` are gemm_gflops, copy_gib_s and threads as a worker measured them, `load` is the load
    average before that.
    """
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
    """Return the load average of the last minute; 0 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the system gives no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
