"""Optional packages, which the extras of pyproject.toml install."""

from importlib import import_module
from typing import Any


def import_extra(module: str, extra: str) -> Any:
    """Import a module that comes with an extra of refsnn; ValueError says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed; pip install 'refsnn[{extra}]'") from None
