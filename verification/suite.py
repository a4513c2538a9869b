"""All checks, in an order in which a module's checks rely only on those of modules before it."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from verification import cases
from verification.record import Row
from verification.registry import CHECKS, Check, run_check

HAS_PEERS = find_spec("torch") is not None
PEERS = ["peers", "method_peers"]  # PyTorch's
MODULES = [
    "operations",
    "twins",
    "float32",
    "float32_layers",
    "edges",
    "networks",
    "float32_networks",
    "adjoint",
    "differences",
    "tet",
    "models",
    "blocks",
    "potentials",
    "learning",
    "folding",
    "structure",
    "training",
    "runs",
    "decisions",
]


@cache
def checks(peers: bool = HAS_PEERS) -> list[Check]:
    """Import the modules and return their checks; `peers` adds PyTorch's, which takes seconds."""
    modules = [*MODULES, *PEERS] if peers else MODULES
    for name in modules:
        import_module(f"verification.{name}")

    def module(one: Check) -> str:
        return one.function.__module__.rpartition(".")[2]

    wanted = [one for one in CHECKS if module(one) in modules]
    return sorted(wanted, key=lambda one: modules.index(module(one)))


def run_named(
    name: str, peers: bool, seed: int, quick: bool, shrink: bool, conv: str = "auto"
) -> list[Row]:
    """Run the check with this name; unlike a check, a name can be sent to another process."""
    cases.force_conv(conv)
    return run_check(next(one for one in checks(peers) if one.name == name), seed, quick, shrink)
