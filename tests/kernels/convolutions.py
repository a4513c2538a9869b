"""Convolutions to try the kernels with: layers, numbers for them, and the exact results."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import config

from refsnn.equations import conv as equations
from refsnn.equations.conv import Conv, ConvCache
from refsnn.kernels import conv as kernels

COMPILED = not config.DISABLE_JIT
DIRECTIONS = "forward", "input_gradient", "weight_gradient"
METHODS = "direct", "dense", "event", "lookup", "winograd"
F4, F8, U1 = np.float32, np.float64, np.uint8


class Layer(NamedTuple):
    size: tuple[int, int, int]  # N, H, W
    channels: tuple[int, int]
    kernel: tuple[int, int]
    p: Conv

    def __str__(self) -> str:
        return " ".join(str(part).replace(" ", "") for part in (*self[:3], *vars(self.p).values()))


class Problem(NamedTuple):
    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray
    p: Conv


def same(channels: int, pixels: int) -> Layer:
    return Layer((2, pixels, pixels), (channels, channels), (3, 3), Conv((1, 1), (1, 1)))


def halving(channels: int, pixels: int) -> list[Layer]:
    """A transition's convolution and its shortcut's."""
    size, pair = (2, pixels, pixels), (channels, 2 * channels)
    return [
        Layer(size, pair, (3, 3), Conv((2, 2), (1, 1))),
        Layer(size, pair, (1, 1), Conv((2, 2))),
    ]


#: All convolutions of ResNet-18 (64 channels and more) and ResNet-20 for 32 by 32 pixels
NETWORKS = [
    *(same(*a) for a in ((16, 32), (32, 16), (64, 8), (64, 32), (128, 16), (256, 8), (512, 4))),
    *(layer for a in ((16, 32), (32, 16), (64, 32), (128, 16), (256, 8)) for layer in halving(*a)),
    *(Layer((2, 32, 32), (3, c), (3, 3), Conv((1, 1), (1, 1))) for c in (16, 64)),
]
#: Pixels, channels, kernels, strides and paddings that divide nothing
ODD = [
    Layer((2, 6, 5), (1, 3), (3, 3), Conv((1, 1), (1, 1))),
    Layer((3, 7, 6), (17, 5), (3, 3), Conv((2, 2), (1, 1))),
    Layer((2, 5, 7), (5, 33), (1, 1), Conv((2, 2))),
    Layer((2, 4, 3), (33, 17), (1, 1), Conv((1, 1), (2, 3))),  # windows in the padding alone
    Layer((1, 11, 9), (3, 17), (7, 7), Conv((2, 2), (3, 3))),
    Layer((2, 8, 9), (5, 20), (2, 5), Conv((3, 1), (0, 4))),
    Layer((2, 3, 4), (6, 7), (3, 1), Conv((1, 3), (4, 2))),  # paddings larger than the kernel
    Layer((3, 9, 4), (7, 35), (5, 3), Conv((1, 1), (2, 4))),
    Layer((1, 2, 3), (2, 1), (2, 2), Conv((4, 5), (1, 2))),  # strides larger than all
    Layer((2, 4, 1), (3, 5), (3, 3), Conv((4, 4), (5, 5))),  # columns that no window reaches
    Layer((1, 13, 12), (2, 3), (2, 3), Conv((1, 1), (1, 1))),  # more pixels than one part
    Layer((3, 5, 6), (16, 32), (3, 3), Conv((1, 1), (1, 1))),
    Layer((2, 3, 7), (16, 16), (3, 3), Conv((1, 1), (0, 2))),
    Layer((1, 1, 1), (16, 16), (3, 3), Conv((1, 1), (2, 1))),
]
LARGER_ODD = [
    Layer((3, 13, 10), (48, 80), (3, 3), Conv((1, 1), (1, 1))),
    Layer((2, 9, 11), (80, 48), (3, 3), Conv((1, 1), (2, 0))),
    Layer((2, 13, 10), (80, 33), (5, 3), Conv((2, 2), (6, 3))),
    Layer((2, 12, 7), (17, 80), (2, 5), Conv((3, 1), (1, 2))),
    Layer((2, 14, 15), (33, 48), (7, 7), Conv((1, 1), (3, 3))),
    Layer((37, 2, 3), (48, 48), (3, 3), Conv((1, 1), (1, 1))),  # several images a task
    Layer((70, 16, 16), (64, 32), (3, 3), Conv((1, 1), (1, 1))),  # a weight gradient in parts
    Layer((70, 16, 16), (33, 64), (3, 3), Conv((2, 1), (1, 1))),
]
LAYERS = [*ODD, *(NETWORKS + LARGER_ODD if COMPILED else [])]
USED = [layer for layer in LAYERS if layer not in NETWORKS]  # quick ones
KINDS = {
    "direct": (F4, U1),
    "dense": (F4, U1),
    "event": (U1,),
    "lookup": (U1,),
    "winograd": (F4, U1),
}


def drawn(layer: Layer, x_dtype=F4, w_dtype=F4, density=0.15, numbers=False, seed=0) -> Problem:
    """Normal numbers, or whole ones; spikes where x is of bytes or a density is wanted of it."""
    rng = np.random.default_rng(seed)
    n, height, width = layer.size

    def draw(*shape):
        return rng.integers(-4, 5, shape) if numbers else rng.normal(size=shape)

    x = draw(n, height, width, layer.channels[0])
    if x_dtype == U1:
        x = rng.random(x.shape) < density
    x, w = x.astype(x_dtype), draw(*layer.kernel, *layer.channels).astype(w_dtype)
    out = equations.output_size(x.shape[1:3], layer.kernel, layer.p)
    return Problem(x, w, draw(n, *out, layer.channels[1]).astype(w_dtype), layer.p)


def by_kernel(direction: str, problem: Problem, method: str = "auto"):
    x, w, dy, p = problem
    if direction == "forward":
        return kernels.conv_forward(x, w, p, method=method)[0]
    return getattr(kernels, f"conv_{direction}")(dy, ConvCache(x, w, p), method=method)


def exactly(direction: str, problem: Problem, dtype=F8):
    """Compute the direction's result by the NumPy equations."""
    x, w, dy = (a.astype(dtype) for a in problem[:3])
    if direction == "forward":
        return equations.conv_forward(x, w, problem.p)[0]
    return getattr(equations, f"conv_{direction}")(dy, ConvCache(x, w, problem.p))


def bound(direction: str, problem: Problem):
    """n eps sum |a||b| for each element; n its number of products.

    Both come from the equations: of absolute values they give the sums, of ones the numbers.
    """
    x, w, dy, p = problem
    single = [np.abs(a).astype(F4) for a in (x, w, dy)]
    total = exactly(direction, Problem(*single, p), F4)
    ones = [np.ones(shape) for shape in ((1, *x.shape[1:3], 1), (*w.shape[:2], 1, 1))]
    count = exactly(direction, Problem(*ones, np.ones((1, *dy.shape[1:3], 1)), p))
    times = {"forward": w.shape[2], "input_gradient": w.shape[3], "weight_gradient": len(x)}
    slack = 1.01  # for the sums' own rounding
    return times[direction] * count * np.finfo(w.dtype).eps * total * slack


@lru_cache(maxsize=12)
def expected(layer: Layer, direction: str, x_dtype, numbers: bool = False):
    """A problem in float32 and its exact result."""
    problem = drawn(layer, x_dtype, numbers=numbers)
    return problem, exactly(direction, problem)


@lru_cache(maxsize=6)
def allowed(layer: Layer, direction: str, x_dtype):
    return bound(direction, expected(layer, direction, x_dtype)[0])


def assert_within(got, want, limit):
    assert got.shape == want.shape
    assert got.flags.c_contiguous
    off = np.abs(got.astype(F8) - want) - limit
    assert (off <= 0).all(), f"{(off > 0).sum()} of {off.size} elements, by {off.max()} at most"


def usable(method: str, layer: Layer) -> bool:
    if method != "winograd":
        return True
    whole = all(c % 16 == 0 for c in layer.channels)
    return whole and layer.kernel == (3, 3) and layer.p.stride == (1, 1)


def served(layers: Iterable[Layer]) -> Iterator[tuple[int, int, Layer, str]]:
    """Yield each layer by each method that serves for it, with both their numbers."""
    for k, layer in enumerate(layers):
        for m, method in enumerate(method for method in METHODS if usable(method, layer)):
            yield k, m, layer, method


def crossed(layers: Iterable[Layer], each_dtype: bool = False) -> Any:
    """Mark a test of (layer, method, x_dtype, direction): each layer by each method that serves.

    Directions and dtypes take turns: each layer meets each direction, and each method each
    direction with each dtype from six layers on. `each_dtype`: each layer by each method meets
    each dtype, too.
    """
    return marked(
        "layer method x_dtype direction",
        [
            (layer, method, x_dtype, DIRECTIONS[(k + m + d) % 3])
            for k, m, layer, method in served(layers)
            for d, x_dtype in enumerate(KINDS[method])
            if each_dtype or d == k // 3 % len(KINDS[method])
        ],
    )


def in_all_directions(layers: Iterable[Layer]) -> Any:
    """Mark a test of (layer, method, x_dtype), which itself takes the directions; dtypes take
    turns."""
    return marked(
        "layer method x_dtype",
        [
            (layer, method, KINDS[method][k % len(KINDS[method])])
            for k, _, layer, method in served(layers)
        ],
    )


def marked(names: str, cases: list[tuple[Any, ...]]) -> Any:
    def name(case: tuple[Any, ...]) -> str:
        layer, method, x_dtype, *direction = case
        return " ".join([method, *direction, x_dtype.__name__, str(layer)])

    given = [pytest.param(*case, id=name(case)) for case in cases]
    return pytest.mark.parametrize(names.split(), given)


DIRECTION = pytest.mark.parametrize("direction", DIRECTIONS)
METHOD = pytest.mark.parametrize("method", METHODS)
SMALL = Layer((3, 6, 7), (16, 16), (3, 3), Conv((1, 1), (1, 0)))


def assert_exact(method: str, got: Any, want: Any) -> None:
    """Equal where all numbers are whole; Winograd's method multiplies fractions."""
    if method == "winograd":
        assert_within(got, want, 1e-4 * np.abs(want).max())
    else:
        assert np.array_equal(got, want)
