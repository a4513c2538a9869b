"""All checks in dependency order: a module's stand behind those of the modules before it."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from verification import cases
from verification.record import Row
from verification.registry import CHECKS, Check, run_check

HAS_PEERS = find_spec("torch") is not None
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
    "structure",
    "training",
    "runs",
    "decisions",
]


@cache
def checks(peers: bool = HAS_PEERS) -> list[Check]:
    """Importing a module registers its checks; PyTorch's cost seconds, so they can be left out."""
    modules = [*MODULES, "peers"] if peers else MODULES
    for name in modules:
        import_module(f"verification.{name}")

    def module(one: Check) -> str:
        return one.function.__module__.rpartition(".")[2]

    wanted = [one for one in CHECKS if module(one) in modules]
    return sorted(wanted, key=lambda one: modules.index(module(one)))


def run_named(
    name: str, peers: bool, seed: int, quick: bool, shrink: bool, conv: str = "auto"
) -> list[Row]:
    """`run_check` of the check of this name: names, unlike checks, pass between processes."""
    cases.force_conv(conv)
    return run_check(next(one for one in checks(peers) if one.name == name), seed, quick, shrink)
