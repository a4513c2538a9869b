"""Poisoned memory, which shows the elements of an array that a kernel failed to write."""

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from refsnn import kernels

#: functions with which kernels, outside their loops, allocate uninitialised arrays
NAMES = "aligned", "empty"


@cache
def modules() -> tuple[ModuleType, ...]:
    """Import all modules of refsnn.kernels."""
    found = pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}.")
    return tuple(import_module(module.name) for module in found)


@contextmanager
def poisoned(value: float) -> Iterator[None]:
    """Fill the kernels' uninitialised arrays with `value` (floats) or 255 (bytes) in this context.

    So an element that no kernel writes shows. Other integers are places in memory and are left as
    they are, since a wrong one would end the process.
    """
    changed = [(m, name, vars(m)[name]) for m in modules() for name in NAMES if name in vars(m)]
    for module, name, original in changed:
        setattr(module, name, filled(original, value))
    try:
        yield
    finally:
        for module, name, original in changed:
            setattr(module, name, original)


def filled(original: Callable[..., Any], value: float) -> Callable[..., Any]:
    def take(*arguments: Any) -> Any:
        x = original(*arguments)
        if x.dtype.kind == "f":
            x[...] = value
        elif x.dtype == np.uint8:
            x[...] = 255
        return x

    return take
