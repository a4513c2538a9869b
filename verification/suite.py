"""All checks in dependency order: a module's stand behind those of the modules before it."""

from importlib import import_module
from importlib.util import find_spec

from verification.record import Row
from verification.registry import CHECKS, run_check

HAS_PEERS = find_spec("torch") is not None
MODULES = [
    "operations", "twins", "networks", "adjoint", "differences", "structure", "training",
    "decisions", *["peers"] * HAS_PEERS,
]  # fmt: skip
for _name in MODULES:
    import_module(f"verification.{_name}")
CHECKS.sort(key=lambda one: MODULES.index(one.function.__module__.rpartition(".")[2]))


def run_named(name: str, seed: int, quick: bool, shrink: bool) -> list[Row]:
    """`run_check` of the check of this name: names, unlike checks, pass between processes."""
    return run_check(next(one for one in CHECKS if one.name == name), seed, quick, shrink)
