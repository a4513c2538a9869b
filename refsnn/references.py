"""Objects of the user's own, named `module:object` in a setting or on the command line."""

import importlib
import os
import sys
from functools import cache
from typing import Any


@cache
def load_object(argument: str, reference: str) -> Any:
    """Import the object that `module:object` names; a class is called without arguments.

    The module may lie in the current folder. The same reference gives the same object. ValueError
    names the argument where there is no such object, or where it can't be made.
    """
    module, _, path = reference.partition(":")
    if not module or not path:
        raise ValueError(f"{argument}: got {reference!r}, want module:object")
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        return found() if isinstance(found, type) else found
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{argument}: can't load {reference!r} ({reason})") from None
