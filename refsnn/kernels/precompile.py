"""Compile the kernels of a training step before it, by several processes into one cache.

Each part calls some kernels on tiny arrays, as Numba compiles a function for the types of its
arguments when it is first called. What is in Numba's cache already is only loaded.

python -m refsnn.kernels.precompile DTYPE OPTIMIZER is one of the other processes: it reads names of
parts, and answers each when it is compiled.
"""

import gc
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numba.core import event

from refsnn.equations.batchnorm import BatchNorm, NormInput, Running
from refsnn.equations.conv import Conv, ConvCache
from refsnn.equations.lif import LIF
from refsnn.equations.surrogate import Array
from refsnn.kernels import add, conv, lif, norm_neuron, pool, update
from refsnn.kernels.threads import get_num_threads

Watch = Callable[[int, int, str], None]  # number of parts compiled, of all parts, the next one
Parts = dict[str, Callable[[], Any]]

STEPS, IMAGES, CHANNELS, SIDE = 2, 2, 16, 4  # of the tiny arrays; gradients are added over images
CONV = Conv((1, 1), (1, 1))
PROCESSES = 4  # at most: each takes a second to import Numba, and one part is a fifth of the work


def parts(dtype: str, optimizer: str) -> Parts:
    """Return what compiles the kernels of a training step, by what they compute.

    The parts that take longest come first and last, where the processes begin.
    """
    numbers = np.ones((IMAGES, SIDE, SIDE, CHANNELS), dtype)
    updates = {"updates": partial(updated, optimizer, numbers)}
    if dtype == "float64":
        return {
            "convolution": partial(convolve, "direct", numbers),
            "neurons": partial(plain_neurons, numbers),
            **updates,
            "gradients of convolution": partial(gradients_of, "direct", numbers),
        }
    spikes = numbers.astype(np.uint8)
    return {
        "batch norm and neurons": partial(neurons, numbers),
        "Winograd convolution": partial(convolve, "winograd", spikes),
        "convolution of spikes": partial(convolve, "event", spikes),
        "pooling": partial(pool.global_avgpool_forward, spikes),
        **updates,
        "weight gradient of spikes": partial(weight_gradient, "event", spikes),
        "sums of patterns": partial(patterns, spikes),
        "Winograd weight gradient": partial(weight_gradient, "winograd", spikes),
        "dense convolution": partial(convolve, "dense", numbers),
        "dense gradients": partial(gradients_of, "dense", numbers),
    }


def convolve(method: str, x: Array) -> Array:
    w = np.ones((3, 3, CHANNELS, CHANNELS), np.float64 if x.dtype == np.float64 else np.float32)
    return conv.conv_forward(x, w, CONV, method=method)[0]


def weight_gradient(method: str, x: Array) -> Array:
    w = np.ones((3, 3, CHANNELS, CHANNELS), np.float64 if x.dtype == np.float64 else np.float32)
    cotangent = np.ones(x.shape, w.dtype)
    return conv.conv_weight_gradient(cotangent, ConvCache(x, w, CONV), method=method)


def patterns(x: Array) -> None:
    convolve("lookup", x)
    weight_gradient("lookup", x)


def gradients_of(method: str, x: Array) -> None:
    w = np.ones((3, 3, CHANNELS, CHANNELS), x.dtype)
    conv.conv_input_gradient(x, ConvCache(x, w, CONV), method=method)
    weight_gradient(method, x)


def neurons(numbers: Array) -> None:
    c_seq, ones = np.stack([numbers] * STEPS), np.ones(CHANNELS, numbers.dtype)
    norm_input = NormInput(c_seq, ones, ones, Running(ones, ones))
    _, _, cache = norm_neuron.norm_neuron_forward(norm_input, None, BatchNorm(), LIF(), True)
    norm_neuron.norm_neuron_backward(c_seq, cache)


def plain_neurons(numbers: Array) -> None:
    o_seq, cache = lif.lif_forward(np.stack([numbers] * STEPS), None, LIF())
    lif.lif_backward(o_seq, cache, constants=False)


def updated(optimizer: str, numbers: Array) -> None:
    if optimizer == "sgd":
        update.sgd_update(numbers, numbers, numbers, 0.1, 0.9, 0.1)
    else:
        update.adamw_update(numbers, numbers, numbers, numbers, 1, 0.1, 0.1)
    add.add_into(numbers.copy(), numbers)


class Compiled(event.Listener):  # type: ignore[misc]
    """Count what Numba compiles, and does not find in its cache; call `first` at the first one."""

    def __init__(self, first: Callable[[], None] = lambda: None) -> None:
        self.count, self.first = 0, first

    def on_start(self, event: Any) -> None:
        self.count += 1
        if self.count == 1:
            self.first()

    def on_end(self, event: Any) -> None:
        pass


def precompile(dtype: str, optimizer: str, watch: Watch = lambda done, count, name: None) -> int:
    """Compile the kernels of a training step; return how many functions were not cached.

    As soon as something is to be compiled, other processes help, where there are cores for them.
    """
    left = deque(parts(dtype, optimizer).items())
    count = len(left)
    others: list[OtherProcess] = []

    def get_help() -> None:
        for _ in range(min(get_num_threads() - 1, PROCESSES - 1, len(left))):
            try:
                others.append(OtherProcess([dtype, optimizer], left))
            except (OSError, RuntimeError):  # the system allows no more processes or threads
                break

    compiled = Compiled(get_help)
    with event.install_listener("numba:compile", compiled), no_garbage_collection():
        try:
            while left or any(other.wait() for other in others):
                try:
                    name, part = left.popleft()
                except IndexError:  # another process has got it in the meantime
                    continue
                busy = sum(other.asked is not None for other in others)
                watch(count - len(left) - 1 - busy, count, name)
                part()
        finally:
            for other in others:
                other.end()
    return compiled.count


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python from looking for garbage, which takes a tenth of the time to compile."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class OtherProcess:
    """A process that compiles parts from the end of a list on, until none is left."""

    taking = threading.Lock()  # held while a part goes from the list to a process

    def __init__(self, arguments: list[str], left: deque[Any]) -> None:
        self.left = left
        self.asked: tuple[str, Callable[[], Any]] | None = None  # the part that it compiles
        self.process = subprocess.Popen(
            # -P: no module of the current folder is imported that this process would not import
            [sys.executable, "-P", "-m", __name__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            text=True,
            encoding="utf-8",
        )
        self.thread = threading.Thread(target=self.feed, daemon=True)
        try:
            self.thread.start()
        except RuntimeError:
            self.process.kill()
            self.process.communicate()
            raise

    def feed(self) -> None:
        """Give the process one part after the other; what it does not answer is left again."""
        to, answers = self.process.stdin, self.process.stdout
        assert to is not None
        assert answers is not None
        try:
            while answers.readline():  # it is ready, or has compiled the part
                with self.taking:
                    self.asked = None
                    self.asked = name, _ = self.left.pop()
                print(name, file=to, flush=True)
        except (IndexError, OSError):  # nothing is left, or it has ended
            pass
        with self.taking:
            if self.asked is not None:
                self.left.append(self.asked)
                self.asked = None

    def wait(self) -> bool:
        """Wait until it has compiled what it was asked for; tell whether it left a part."""
        with self.taking:
            busy = self.asked is not None
        if busy:  # else nothing is left that it could be asked for
            self.thread.join()
        return bool(self.left)

    def end(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.thread.join()
        self.process.communicate()


def main(dtype: str, optimizer: str) -> None:
    """Compile the parts whose names are read."""
    known = parts(dtype, optimizer)
    print("ready", flush=True)
    with no_garbage_collection():
        for line in sys.stdin:
            known[line.rstrip("\n")]()
            print(line, end="", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
