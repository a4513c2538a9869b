"""Numba kernels: twins of `equations`, with the same names and signatures.

Outside their loops they allocate uninitialised memory only by the names `empty` and `aligned`, so
that verification can fill it with NaN and find elements that are never written.

refsnn/bench/README.md says what was tried for speed and did not pay.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numba


def keeps_compiled() -> bool:
    """Tell whether Numba finds a folder for its cache: beside this file, or in the home."""
    homeless = os.path.expanduser("~") == "~"  # Numba would make a folder of that name
    if homeless and not (numba.config.CACHE_DIR or os.access(Path(__file__).parent, os.W_OK)):
        return False
    try:
        numba.njit(cache=True)(keeps_compiled)  # looks for the folder; compiles nothing yet
    except RuntimeError:
        return False
    return True


def keep_compiled_for_now() -> None:
    """Let Numba keep its compiled code in a folder that is removed when this process ends."""
    folder = tempfile.mkdtemp(prefix="refsnn-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = folder  # for processes that this one starts
    numba.config.CACHE_DIR = folder
    print(
        "refsnn: compiled code can't be kept, so every start compiles again; "
        "NUMBA_CACHE_DIR names a folder for it",
        file=sys.stderr,
    )


if not keeps_compiled():
    keep_compiled_for_now()
