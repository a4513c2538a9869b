"""Numba kernels: twins of `equations`, with the same names and signatures."""

import os

# Threads that wait for work sleep instead of spinning: a step takes as long, and whatever else
# runs on the cores (another run, BLAS) no longer pays for it. Read when the first kernel starts.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
