"""Checks of the kernels at sizes just below, at and above their blocks' sizes.

For each constant of a kernel that is a size, an `Edge` says which size of a case is compared with
it, and lists cases on both sides of it. Other cases are convolutions in which some taps meet no
pixel, or some pixels no tap. A quick run draws all of these cases too.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from refsnn.equations.conv import output_size
from refsnn.kernels import (
    add,
    dense,
    direct,
    event,
    gated,
    layout,
    lif,
    linear,
    lookup,
    norm_blocks,
    norm_statistics,
    patterns,
    simd,
    update,
)
from refsnn.kernels import winograd as minimal
from refsnn.ops import LIF, NUMPY, PLIF, Conv, make_surrogate
from verification import cases
from verification.float32 import conv_methods, optimiser_updates
from verification.float32_layers import (
    LAYER,
    ROUNDED,
    LayerCase,
    critical_input,
    layers_given_statistics,
    layers_of_batch,
    norm_input,
)
from verification.record import Recorder
from verification.registry import check
from verification.twins import agree, lif_twins


class Edge(NamedTuple):
    constant: str  # module.NAME
    size: Callable[[Any], int]  # case -> the size that is compared with the constant
    cases: list[Any]


def drawn(edges: list[Edge], *more: Any) -> Any:
    """Return a strategy, and the number of draws with which it draws each case once."""
    found = list(dict.fromkeys([*(case for edge in edges for case in edge.cases), *more]))
    return st.sampled_from(found), len(found)


def three(n: int) -> tuple[int, int, int]:
    return n - 1, n, n + 1


class Layer(NamedTuple):
    """A convolution, small by default."""

    images: int = 2
    size: tuple[int, int] = (4, 5)
    channels: tuple[int, int] = (5, 3)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)

    @property
    def out(self) -> tuple[int, int]:
        return output_size(self.size, self.kernel, Conv(self.stride, self.padding))

    @property
    def pixels(self) -> int:
        """Return the number of pixels of an output image."""
        return self.out[0] * self.out[1]

    @property
    def tiles(self) -> int:
        """Return the number of Winograd's tiles per image, as if they had SIDE channels."""
        rows, columns = (-(-n // 4) for n in self.out)
        return rows * columns * min(minimal.SIDE, max(self.channels)) // minimal.SIDE


def groups(layer: Layer) -> int:
    """Return the number of groups of tiles that Winograd's method transforms at a time."""
    rows, columns = (-(-n // 4) for n in layer.out)
    return -(-layer.images * rows * columns // minimal.tiles_at_once(*layer.channels))


def pointwise(**given: Any) -> Layer:
    return Layer(kernel=(1, 1), padding=(0, 0), **given)


SIDE, WIDE = dense.SIDE, event.panel_of(dense.SIDE)  # widths of blocks of columns
TABLE = patterns.QUARTERS * patterns.PATTERNS  # rows of a table for 16 channels
TAPS = (2, 3)  # a window whose weights, or whose row's weights, exceed an event-driven task's
FITS = event.CACHE // (4 * WIDE)  # rows of weights that an event-driven task holds
TILES = minimal.TILES * SIDE // 16  # tiles of 16 channels

CONVS = [
    Edge(
        "simd.LANES", lambda x: x.channels[0], [Layer(channels=(n, n)) for n in three(simd.LANES)]
    ),
    Edge(
        "direct.CHANNELS",
        lambda x: x.channels[0],
        [Layer(channels=(n, 3)) for n in three(direct.CHANNELS)],
    ),
    Edge(
        "layout.SQUARE",
        lambda x: x.channels[0],
        [Layer(channels=(n, n + 1)) for n in three(layout.SQUARE)],
    ),
    Edge(
        "layout.SQUARE",
        lambda x: x.channels[1],
        [Layer(channels=(n + 1, n)) for n in three(layout.SQUARE)],
    ),
    Edge(
        "dense.PANEL", lambda x: x.channels[0], [Layer(channels=(n, n)) for n in three(dense.PANEL)]
    ),
    Edge("dense.SIDE", lambda x: x.channels[0], [Layer(channels=(n, 3)) for n in three(SIDE)]),
    Edge("dense.SIDE", lambda x: x.channels[1], [Layer(channels=(3, n)) for n in three(SIDE)]),
    Edge(
        "dense.SIDE",
        lambda x: x.channels[0],  # for Winograd's method
        [Layer(channels=(n, n)) for n in (SIDE - 16, SIDE, SIDE + 16)],
    ),
    Edge(
        "simd.ROWS",
        lambda x: x.pixels,
        [pointwise(images=1, size=(1, n)) for n in three(simd.ROWS)],
    ),
    Edge(
        "dense.GROUP",
        lambda x: x.pixels,
        [pointwise(images=1, size=(1, n)) for n in three(dense.GROUP)],
    ),
    Edge("dense.PIXELS", lambda x: x.pixels, [Layer(size=(1, n)) for n in three(dense.PIXELS)]),
    Edge(
        "dense.PIXELS",
        lambda x: x.images * x.pixels,  # of a task
        [pointwise(images=n, size=(1, dense.PIXELS // 4)) for n in (3, 4, 5)],
    ),
    Edge(
        "dense.PARTS",
        lambda x: x.images,
        [pointwise(images=n, size=(2, 3)) for n in (*three(dense.PARTS), 3 * dense.PARTS - 1)],
    ),
    Edge(
        "dense.SUM",
        lambda x: x.channels[0] * x.channels[1],
        [pointwise(channels=(n, dense.SUM // 64)) for n in three(64)],
    ),
    Edge(
        "event.MOST",
        lambda x: x.channels[0] // 8,
        [Layer(channels=(8 * n + 1, 3)) for n in three(event.MOST)],
    ),
    Edge("event.PIXELS", lambda x: x.pixels, [Layer(size=(1, n)) for n in three(event.PIXELS)]),
    Edge(
        "event.PIXELS",
        lambda x: x.images * x.pixels,
        [Layer(images=n, size=(4, event.PIXELS // 16)) for n in three(4)],
    ),
    Edge(
        "event.CHUNK",
        lambda x: x.images * x.size[0] * x.size[1] * WIDE,
        [
            pointwise(images=n, size=(16, event.CHUNK // (128 * WIDE)), channels=(3, SIDE))
            for n in three(8)
        ],
    ),
    Edge(
        "event.CACHE",
        lambda x: 4 * WIDE * 6 * x.channels[0],  # of a window
        [Layer(size=(3, 3), channels=(n, SIDE), kernel=TAPS) for n in three(FITS // 6)],
    ),
    Edge(
        "event.CACHE",
        lambda x: 4 * WIDE * 3 * x.channels[0],  # of a row of it
        [Layer(size=(3, 3), channels=(n, SIDE), kernel=TAPS) for n in three(FITS // 3)],
    ),
    Edge("lookup.PIXELS", lambda x: x.pixels, [Layer(size=(1, n)) for n in three(lookup.PIXELS)]),
    Edge(
        "lookup.PIXELS",
        lambda x: x.images * x.pixels,
        [Layer(images=n, size=(4, lookup.PIXELS // 16)) for n in three(4)],
    ),
    Edge(
        "lookup.CACHE",
        lambda x: 4 * TABLE * 16 * 6 * -(-x.channels[0] // 16),  # a window's table
        [
            Layer(size=(3, 3), channels=(16 * words - 3, 16), kernel=TAPS)
            for words in three(lookup.CACHE // (4 * TABLE * 16 * 6))
        ],
    ),
    Edge(
        "lookup.COLUMNS",
        lambda x: x.channels[1],
        [Layer(channels=(5, n)) for n in three(lookup.COLUMNS)],
    ),
    Edge(
        "lookup.PARTS",
        lambda x: x.images,
        [pointwise(images=n, size=(2, 3)) for n in (*three(lookup.PARTS), 3 * lookup.PARTS - 1)],
    ),
    Edge(
        "winograd.TILES",
        lambda x: x.tiles,
        [Layer(images=1, size=(4 * n, TILES // 2), channels=(16, 16)) for n in three(8)],
    ),
    Edge(
        "winograd.TASKS",
        lambda x: groups(x) // 2,  # as many tasks if each has two groups of tiles
        [
            Layer(images=1, size=(16, TILES * n), channels=(16, 16))
            for n in (2 * m for m in three(minimal.TASKS))
        ],
    ),
    Edge(
        "winograd.SHARING",
        lambda x: groups(x) // minimal.TASKS,
        [
            Layer(images=1, size=(8, 2 * minimal.TILES * n), channels=(SIDE + 16, 16))
            for n in (minimal.TASKS * m + m // 2 for m in three(minimal.SHARING))
        ],
    ),
]

#: Unequal strides, axes of one pixel, images smaller than a Winograd tile or than the window: some
#: taps meet no pixel, and some pixels no tap
SHORT = [
    Layer(2, size, channels, kernel, stride, (kernel[0] // 2, kernel[1] // 2))
    for channels, kernel in (
        ((5, 3), (1, 1)),
        ((5, 3), (1, 4)),
        ((5, 3), (4, 1)),
        ((5, 3), (5, 4)),
        ((16, 16), (3, 3)),
    )
    for stride, size in product(
        [(1, 1), (1, 2), (2, 1), (3, 1), (2, 3)], [(1, 1), (1, 4), (3, 1), (5, 2)]
    )
]
CONV_CASES, CONV_DRAWS = drawn(CONVS)
SHORT_CASES, SHORT_DRAWS = drawn([], *SHORT)


def arrays(layer: Layer) -> Any:
    """Return (spikes, w, dy, p, random generator)."""
    rng = np.random.default_rng(len(repr(layer)))
    x = rng.random((layer.images, *layer.size, layer.channels[0])) < 0.3
    w = rng.normal(size=(*layer.kernel, *layer.channels)).astype(np.float32)
    dy = rng.normal(size=(layer.images, *layer.out, layer.channels[1])).astype(np.float32)
    return x.astype(np.uint8), w, dy, Conv(layer.stride, layer.padding), rng


@check(
    "convolutions at the edges",
    "float32",
    "EQ1 EQ3 EQ8",
    CONV_CASES,
    quick=CONV_DRAWS,
    full=CONV_DRAWS,
)
def conv_edges(layer: Layer, record: Recorder) -> None:
    """Check each direction by each method, on spikes."""
    conv_methods(arrays(layer)[:4], record)


@check(
    "short convolutions", "float32", "EQ1 EQ3 EQ8", SHORT_CASES, quick=SHORT_DRAWS, full=SHORT_DRAWS
)
def short_convs(layer: Layer, record: Recorder) -> None:
    """Check each direction by each method, on spikes and, if Winograd's method fits, on numbers."""
    x, w, dy, p, rng = arrays(layer)
    conv_methods((x, w, dy, p), record)
    if minimal.fits(*layer.channels):
        conv_methods((rng.normal(size=x.shape).astype(np.float32), w, dy, p), record)


class Fused(NamedTuple):
    """A fused layer: its shape (T, N, H, W, C), skip, neuron and batch norm."""

    shape: tuple[int, ...]
    skip: str = "none"  # none, spikes, normed, or critical: potentials on the threshold
    training: bool = True
    surrogate: tuple[str, float | None] = ("tanh", None)  # its width
    v_th: float = 1.0
    reset_gradient: str = "full"
    fire_at_threshold: bool = False
    reset: str = "zero"

    @property
    def size(self) -> int:
        """Return the number of elements of a step."""
        return int(np.prod(self.shape[1:]))


#: pixels of 16 channels, two more than a strip of many steps has
NARROW = norm_blocks.NARROW // 16 + 2
FUSED = [
    Edge(
        "norm_blocks.WHOLE",
        lambda x: x.size,
        [
            Fused((2, 1, 1, n, 1), "spikes", surrogate=("sigmoid", None))
            for n in three(norm_blocks.WHOLE)
        ],
    ),
    Edge(
        "norm_blocks.STRIP",
        lambda x: x.size,
        [Fused((2, 1, 1, n, 1), "normed", reset="subtract") for n in three(norm_blocks.STRIP)],
    ),
    Edge(
        "norm_blocks.NARROW",
        lambda x: x.size,
        [
            Fused((steps, 1, 1, n, 1), "spikes")
            for n in three(norm_blocks.NARROW)
            for steps in (2, 8 * norm_blocks.STRIP // norm_blocks.NARROW)  # strips are narrow
        ],
    ),
    Edge(
        "norm_blocks.TASK",
        lambda x: x.size,
        [
            Fused((2, 1, n, NARROW, 16), skip, training)
            for n in three(-(-norm_blocks.TASK // (16 * NARROW)))
            for skip, training in (("normed", True), ("spikes", False))
        ]
        + [Fused((2, 1, 1, norm_blocks.TASK // 16, 16), "spikes")],
    ),
    Edge(
        "norm_blocks.TASK",
        lambda x: x.shape[-1],  # channels
        [Fused((2, 1, 1, 2, n), "spikes") for n in three(norm_blocks.TASK)],
    ),
    Edge(
        "norm_blocks.SUM",
        lambda x: x.shape[2] * x.shape[3],  # pixels
        [Fused((2, 1, n, 1, 16), "normed") for n in three(norm_blocks.SUM)],
    ),
    Edge(
        "norm_statistics.FEW",
        lambda x: x.shape[2],  # pixels
        [Fused((2, 1, n, 1, 16), "normed") for n in three(norm_statistics.FEW)],
    ),
]
#: thresholds that float32 rounds, with each surrogate, reset gradient and rule for ties
CRITICAL = [
    Fused((6, 2, 3, 4, 5), "critical", False, surrogate, v_th, reset_gradient, tie)
    for surrogate in (("tanh", None), ("rectangular", None), ("triangular", 0.5))
    for v_th, reset_gradient, tie in product(ROUNDED, ("full", "detached"), (False, True))
]
FUSED_CASES, FUSED_DRAWS = drawn(FUSED, *CRITICAL)


@check(
    "fused layers at the edges",
    "float32",
    f"{LAYER} D25",
    FUSED_CASES,
    quick=FUSED_DRAWS,
    full=FUSED_DRAWS,
)
def fused_edges(case: Fused, record: Recorder) -> None:
    """Check fused layers, in training against float64, otherwise against the float32 equations."""
    rng, (name, width) = np.random.default_rng(len(repr(case))), case.surrogate
    neuron = {
        "tau": 0.5,
        "v_th": case.v_th,
        "surrogate": name,
        "surrogate_shape": 1.0,
        "width": width,
        "surrogate_edge": "outside",
        "reset_gradient": case.reset_gradient,
        "fire_at_threshold": case.fire_at_threshold,
        "reset": case.reset,
        "reset_amount": "v_th",
    }
    norm = {"statistics": "pooled", "scale": 1.0, "eps": 2.0**-10, "momentum": 0.1}
    critical = case.skip == "critical"
    main = critical_input(neuron, case.shape, rng) if critical else norm_input(case.shape, rng)
    skip: Any = None
    if case.skip == "spikes":
        skip = (rng.random(case.shape) < 0.2).astype(np.uint8)
    elif case.skip == "normed":
        skip = norm_input(case.shape, rng)
    do_seq = rng.normal(size=case.shape).astype(np.float32)
    layer = LayerCase(neuron, norm, main, skip, do_seq, case.training)
    (layers_of_batch if case.training else layers_given_statistics)(layer, record)


def elements(case: Any) -> int:
    return int(case[1])


NEURONS = [
    Edge("lif.BLOCK", elements, list(product(("float32", "float64"), three(lif.BLOCK)))),
    Edge(
        "lif.SLOPES",
        elements,  # the slopes are those of three times as many
        [("float32", n) for n in (lif.SLOPES // 3, *three(lif.SLOPES))],
    ),
]
NEURON_CASES, NEURON_DRAWS = drawn(NEURONS)
GATED = [Edge("gated.BLOCK", elements, list(product(("float32", "float64"), three(gated.BLOCK))))]
GATED_CASES, GATED_DRAWS = drawn(GATED)


@check(
    "kernels of neurons with gates at the edges",
    "twin",
    "PLIF",
    GATED_CASES,
    quick=GATED_DRAWS,
    full=GATED_DRAWS,
)
def gated_edges(case: Any, record: Recorder) -> None:
    """Compare the steps of neurons of one channel, and of three, bit for bit."""
    dtype, count = case
    rng = np.random.default_rng(count)
    neuron, p = PLIF(), LIF(0.75, 0.75, make_surrogate("rectangular"))
    for channels in (1, 3):
        shape = (3, 1, -(-count // channels), channels)
        c_seq, dy_seq = (rng.normal(0.5, 1, shape).astype(dtype) for _ in range(2))
        params = {"w": np.full(1, 0.3, dtype)}
        y_seq, _, cache = gated.neuron_forward(neuron, c_seq, params, None, p, True)
        want, _, want_cache = neuron.forward(c_seq, params, None, p, True)
        record.equal("PLIF", "spikes", y_seq, want)
        record.equal("PLIF", "u_pre", cache.u_pre_seq, want_cache.u_pre_seq)
        dc_seq, _ = gated.neuron_backward(neuron, dy_seq, cache)
        record.equal("PLIF", "dL/dc", dc_seq, neuron.backward(dy_seq, want_cache)[0])


@check(
    "LIF kernels at the edges",
    "twin",
    "EQ1 EQ2 EQ3 D2 D3 R1 D6",
    NEURON_CASES,
    quick=NEURON_DRAWS,
    full=NEURON_DRAWS,
)
def lif_edges(case: Any, record: Recorder) -> None:
    dtype, count = case
    rng = np.random.default_rng(count)
    c_seq, u0, do_seq = (
        rng.normal(0.5, 1, shape).astype(dtype) for shape in ((3, count), count, (3, count))
    )
    neuron = {
        "tau": 0.75,
        "v_th": 0.75,
        "surrogate": "tanh",
        "surrogate_shape": 1.0,
        "surrogate_edge": "outside",
        "reset_gradient": "full",
        "fire_at_threshold": False,
    }
    lif_twins((neuron, c_seq, u0, do_seq), record)


class Linear(NamedTuple):
    """A fully connected layer: its numbers of rows, inputs and outputs."""

    rows: int
    inputs: int
    outputs: int

    @property
    def products(self) -> int:
        """Return the number of products of a pass."""
        return self.rows * self.inputs * self.outputs


WIDTH = linear.LARGE // (16 * 1024)
LINEARS = [
    Edge(
        "linear.LARGE",
        lambda x: x.products,
        [Linear(16, 1024, n) for n in three(WIDTH)],
    ),
    Edge(
        "linear.ROWS",
        lambda x: x.rows,
        [Linear(n, 700, linear.LARGE // (700 * (linear.ROWS - 2))) for n in three(linear.ROWS)],
    ),
    Edge(
        "dense.POINT_SIDE",
        lambda x: x.outputs,
        [Linear(40, 600, n) for n in three(dense.POINT_SIDE)],
    ),
]
LINEAR_CASES, LINEAR_DRAWS = drawn(LINEARS)


@check(
    "linear layers at the edges",
    "float32",
    "D12 EQ8",
    LINEAR_CASES,
    quick=LINEAR_DRAWS,
    full=LINEAR_DRAWS,
)
def linear_edges(case: Linear, record: Recorder) -> None:
    """Compare with float64: a sum of n products is off by n eps of the sum of their sizes."""
    rng, eps = np.random.default_rng(case.products), float(np.finfo(np.float32).eps)
    given = (case.rows, case.inputs), (case.inputs, case.outputs), (case.outputs,)
    x, w, b, dy = (
        rng.normal(size=s).astype(np.float32) for s in (*given, (case.rows, case.outputs))
    )
    y, cache = agree(record, "D12", "y", lambda: cases.get_ops("numba").linear_forward(x, w, b))
    wide = [a.astype(float) for a in (x, w, b, dy)]
    (want, exact), sizes = NUMPY.linear_forward(*wide[:3]), [np.abs(a) for a in wide]
    bound, absolute = NUMPY.linear_forward(*sizes[:3])
    record.true("D12", "y is near", (np.abs(y - want) <= (case.inputs + 1) * eps * bound).all())
    record.values_ok()
    got = agree(
        record, "EQ8", "gradient", lambda: cases.get_ops("numba").linear_backward(dy, cache)
    )
    gradients = zip(
        ("dx", "dw", "db"),
        got,
        NUMPY.linear_backward(wide[3], exact),
        NUMPY.linear_backward(sizes[3], absolute),
        (case.outputs, case.rows, case.rows),
        strict=True,
    )
    for name, a, b_exact, limit, terms in gradients:
        near = (np.abs(a - b_exact) <= terms * eps * limit).all()
        record.true("EQ8", f"{name} is near", near)


UPDATES = [
    Edge(constant, elements, list(product(("float32", "float64"), three(block))))
    for constant, block in (("add.BLOCK", add.BLOCK), ("update.BLOCK", update.BLOCK))
]
UPDATE_CASES, UPDATE_DRAWS = drawn(UPDATES)


@check(
    "updates at the edges",
    "float32",
    "D17 ALG1-TRAIN EQ5",
    UPDATE_CASES,
    quick=UPDATE_DRAWS,
    full=UPDATE_DRAWS,
)
def update_edges(case: Any, record: Recorder) -> None:
    dtype, count = case
    arrays = np.random.default_rng(count).normal(size=(4, count)).astype(dtype)
    optimiser_updates((list(arrays), 2, 0.01, 0.02), record)


EDGES = [*CONVS, *FUSED, *NEURONS, *GATED, *LINEARS, *UPDATES]
