"""Description of the machine and of the libraries' versions, without importing the libraries."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from refsnn.system import usable_cores
from refsnn.version import __version__

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


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the system gives no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
