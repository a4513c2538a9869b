"""The command `refsnn warmup`: compile the kernels of a training step into Numba's cache."""

import argparse
import time
from typing import Any

from refsnn.ops import get_ops
from refsnn.output import say
from refsnn.training.optimizer import OPTIMIZERS


def add_options(parser: Any) -> None:
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=("float32", "float64"),
        default=["float32"],
        help="precisions to compile for (default: float32)",
    )


def run(arguments: argparse.Namespace) -> int:
    precompile = get_ops("numba").precompile
    assert precompile is not None
    start, compiled = time.perf_counter(), 0
    for dtype in dict.fromkeys(arguments.dtype):
        for optimizer in OPTIMIZERS:

            def watch(done: int, count: int, name: str) -> None:
                say(f"compiling {done + 1} of {count}: {name}")

            compiled += precompile(dtype, optimizer, watch)
    say("")
    if compiled:
        print(f"compiled the kernels in {time.perf_counter() - start:.0f} s")
    else:
        print("the kernels were compiled already")
    return 0
