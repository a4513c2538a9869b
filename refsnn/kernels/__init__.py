"""Numba kernels: twins of `equations`, with the same names and signatures.

Outside their loops they allocate uninitialised memory only by the names `empty` and `aligned`, so
that verification can fill it with NaN and find elements that are never written.

Attempts that did not make them faster, on two cores of an x86-64 server (AVX-512):

- Winograd with all weights, or all tiles, transformed first: the 36-fold array goes through
  memory. Block by block within a core's second-level cache, weight gradients of 64 channels
  run 3 times as fast, and layers of 512 channels twice as fast.
- Padding images before Winograd's transform: the copies took as long as the products.
- Event-driven weight gradients where Winograd can serve: slower above 4 % spikes.
- Event-driven convolution of fewer than 64 channels, 3x3 and stride 1: slower from 3 % on.
- Sums over all taps for one pixel in an event-driven convolution of 128 channels and more: the
  weights fall out of the first-level cache. A row of taps, or one, at a time is 11 to 18 % faster.
- The fused backward pass as one loop: the compiler gives up on vectors. Loops of at most five
  arrays each are twice as fast, whatever the size of a block (512, 1024 and 2048 are alike).
- Batch statistics in two passes, mean first: twice the time of one pass around a first guess.
- A pool of buffers by exact size: as fast as keeping freed memory in malloc, but a training
  step of resnet18 held 1160 MiB instead of 670, as no buffer can hold two smaller ones.
- Threads that never spin: 5 % slower with resnet18, 15 % with resnet20.
- Numba's workqueue layer instead of OpenMP's: it does not allow two Python threads, and was no
  faster where other programs shared the cores (not compared on idle cores).
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numba

# Threads that wait for work spin for some 50 us, then sleep: a step takes no longer than if they
# went on spinning, and other programs on the cores (another run, BLAS) are not slowed down.
# Read when the first kernel starts.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


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
