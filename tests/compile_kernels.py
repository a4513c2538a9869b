"""Compile the kernels that most tests call, so that they are found in Numba's cache.

python tests/compile_kernels.py numbers|spikes
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from refsnn.equations.conv import Conv, ConvCache
from refsnn.equations.pool import AvgPool
from refsnn.kernels import conv, pool
from refsnn.training.config import make_config
from refsnn.training.run import start

METHODS = ("winograd", "dense", "event", "lookup", "direct")


def convolve(x_dtype: type, w_dtype: type, methods: tuple[str, ...] = METHODS) -> None:
    """Call each direction of a convolution by each method."""
    x, w = np.ones((1, 4, 4, 16), x_dtype), np.ones((3, 3, 16, 16), w_dtype)
    p = Conv((1, 1), (1, 1))
    for method in methods:
        y, cache = conv.conv_forward(x, w, p, method=method)
        conv.conv_input_gradient(y, ConvCache(*cache), method=method)
        conv.conv_weight_gradient(y, ConvCache(*cache), method=method)


def train(dtype: str) -> None:
    for optimizer in ("sgd", "adamw"):
        with tempfile.TemporaryDirectory() as folder:
            config = make_config(
                arch="1-1:16-32", epochs=1, batch_size=721, dtype=dtype, optimizer=optimizer
            )
            start(Path(folder) / "run", config).train(quiet=True)


def pooled(dtype: type) -> None:
    y, cache = pool.avgpool_forward(np.ones((1, 4, 4, 3), dtype), AvgPool())
    pool.avgpool_backward(y, cache)


def numbers() -> None:
    for dtype in (np.float32, np.float64):
        convolve(dtype, dtype)
        pooled(dtype)
    # not in the other process: Numba's cache may mix up what two save at once for two dtypes
    convolve(np.uint8, np.float32, ("dense",))


def spikes() -> None:
    """Spikes first: what training needs of the numbers is compiled by then."""
    convolve(np.uint8, np.float32, tuple(m for m in METHODS if m != "dense"))
    for dtype in ("float32", "float64"):
        train(dtype)


if __name__ == "__main__":
    {"numbers": numbers, "spikes": spikes}[sys.argv[1]]()
