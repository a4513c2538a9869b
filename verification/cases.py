"""Hypothesis strategies for the checks' cases, and conversion of cases to the package's objects.

Neurons and networks are described by plain dicts, which the oracles read. `lif_of` and `network_of`
make the objects of the package under test from them.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn import ops as package
from refsnn.network import Architecture, Network, Stem, init_buffers, init_params
from refsnn.ops import LIF, SURROGATES, AvgPool, BatchNorm, Ops, make_surrogate
from refsnn.oracle.naive.neuron import slope

Draw = Any
BACKENDS = st.sampled_from(["numpy", "numba"])
EQ4 = "tanh", "tanh_literal", "rectangular", "triangular"
#: slopes that the kernels compute otherwise in float32, most by an approximate tanh
ROUNDED = (
    "tanh",
    "tanh_literal",
    "sigmoid",
    "piecewise_quadratic",
    "exponential",
    "gaussian",
    "dspike",
)
#: resets to 0, most of the drawn ones, and by subtraction (R6)
RESETS = [
    *[{"reset": "zero", "reset_amount": "v_th"}] * 3,
    {"reset": "subtract", "reset_amount": "v_th"},
    {"reset": "subtract", "reset_amount": 0.75},
]
#: the surrogates whose slopes the kernels compute
COMPILED = [n for n, k in SURROGATES.items() if k in package.get_ops("numba").fused_surrogates]
POINTED = "fast_sigmoid", "softsign", "super_spike", "exponential"  # slopes that bend at v_th
SEEDS = st.integers(0, 2**32 - 1)
#: the least threshold drawn where it is a parameter: one of 0 or less is no threshold
LEAST_THRESHOLD = 0.25
DTYPES = st.sampled_from(["float64", "float64", "float32"])
forced = "auto"  # the method of all kernels' convolutions in this process


def force_conv(method: str) -> None:
    """Let `get_ops` return kernels whose float32 convolutions use this method from now on."""
    global forced
    forced = method


def get_ops(name: str, method: str = "") -> Ops:
    """Return the operations to check; checks call this and not the package's own `get_ops`."""
    return package.get_ops(name, method or forced)


def conv_methods() -> list[str]:
    """List the methods of convolution to check: all of them, or the forced one alone."""
    return list(package.CONV_METHODS) if forced == "auto" else [forced]


@st.composite
def neurons(draw: Draw, surrogate: str | None = None) -> dict[str, Any]:
    """Draw the constants of a neuron, mostly round numbers, which float32 holds exactly too."""
    name = surrogate or draw(st.sampled_from(list(SURROGATES)))
    return {
        "tau": draw(st.sampled_from([0.5, 0.25, 1.0, 0.75, 0.9])),
        "v_th": draw(st.sampled_from([1.0, 0.5, 0.75, 1.25])),
        "surrogate": name,
        "surrogate_shape": draw(st.sampled_from([1.0, 0.5, 2.0])),
        "surrogate_edge": "inside" if name == "rectangular" and draw(st.booleans()) else "outside",
        "reset_gradient": draw(st.sampled_from(("full", "detached"))),
        "fire_at_threshold": draw(st.booleans()),
        **draw(st.sampled_from(RESETS)),
    }


def surrogate_of(neuron: dict[str, Any]) -> Any:
    """Make the neuron's surrogate.

    A triangle may have a `width` of its own, which the loops of `oracle.naive` don't know.
    """
    made = make_surrogate(neuron["surrogate"], neuron["surrogate_shape"], neuron["surrogate_edge"])
    return replace(made, width=neuron["width"]) if neuron.get("width") else made


def lif_of(neuron: dict[str, Any], smooth: bool = False) -> LIF:
    return LIF(
        neuron["tau"],
        neuron["v_th"],
        surrogate_of(neuron),
        neuron["reset_gradient"],
        neuron["fire_at_threshold"],
        smooth,
        neuron.get("reset", "zero"),
        None if neuron.get("reset_amount", "v_th") == "v_th" else neuron["reset_amount"],
    )


def reset_clause(neuron: dict[str, Any]) -> str:
    """Return the clause of the gradient through the neuron's reset."""
    if neuron.get("reset") == "subtract":
        return "R6"
    return "D3" if neuron["reset_gradient"] == "detached" else "EQ3"


def slope_clause(neuron: dict[str, Any]) -> str:
    """Return the clause of the neuron's surrogate slope."""
    name = neuron["surrogate"]
    return "D5" if name.startswith("tanh") else "EQ4" if name in EQ4 else "R5"


def amount_of(neuron: dict[str, Any]) -> float:
    """Return what a reset by subtraction takes off."""
    amount = neuron.get("reset_amount", "v_th")
    return neuron["v_th"] if amount == "v_th" else amount


def kinks(neuron: dict[str, Any]) -> list[float]:
    """List the distances from the threshold at which the slope jumps or bends."""
    name, shape, v_th = neuron["surrogate"], neuron["surrogate_shape"], neuron["v_th"]
    width = neuron.get("width") or v_th
    found = {
        "rectangular": [shape / 2, -shape / 2],
        "triangular": [0.0, width, -width],
        "piecewise_quadratic": [0.0, 1 / shape, -1 / shape],
        "dspike": [0.5, -0.5],
        "rectifier": [0.5, -0.5, *edges(shape)],
    }
    return found.get(name, [0.0] if name in POINTED else [])


def edges(width: float) -> list[float]:
    """List where the rectifier's slope ends."""
    half = math.atanh(width * math.tanh(1.5)) / 3 if width < 1 else ((width + 1) / 2) ** 3 - 0.5
    return [half, -half]


def at_root(u_pre: Any, neuron: dict[str, Any]) -> Any:
    """Tell which potentials are so near the end of the rectifier's slope that rounding decides.

    The end follows from a root. Where the width is 1 it is exact, but not what is beside it.
    """
    x = np.abs(np.asarray(u_pre) - neuron["v_th"])
    if neuron["surrogate"] != "rectifier":
        return np.zeros(x.shape, bool)
    width = neuron["surrogate_shape"]
    distance = np.abs(x - edges(width)[0])
    return (distance < 1e-5) & ((distance > 0) | (width != 1))


def near_threshold(u_pre: Any, neuron: dict[str, Any]) -> float:
    """Return the least distance of any potential from the threshold or a kink of the slope."""
    x = np.asarray(u_pre) - neuron["v_th"]
    return min(float(np.abs(x - k).min(initial=np.inf)) for k in [0.0, *kinks(neuron)])


def steepest(neuron: dict[str, Any]) -> float:
    """Return the largest slope of the surrogate."""
    shape = neuron["surrogate_shape"]
    if neuron["surrogate"] == "tanh_literal":
        return 4 * shape
    return slope(neuron["v_th"], neuron)


def gradient_scale(
    neuron: dict[str, Any], u_pre_seq: Any, do_seq: Any, least: float = 1e-3
) -> float:
    """Return the sum of the absolute terms of LIF's gradients, since the terms may cancel.

    Slopes count as at least a thousandth of the steepest, or `least`, since a flat slope is all
    rounding.
    """
    slopes = [slope(float(u), neuron) for u in np.asarray(u_pre_seq).reshape(-1)]
    h_seq = np.maximum(np.reshape(slopes, np.shape(u_pre_seq)), least * steepest(neuron))
    delta, total = 0.0, 0.0
    for do, u_pre, h in zip(do_seq[::-1], u_pre_seq[::-1], h_seq[::-1], strict=True):
        resets = amount_of(neuron) if neuron.get("reset") == "subtract" else np.abs(u_pre)
        delta = np.abs(do) * h + neuron["tau"] * (1 + resets * h) * delta
        total += float(np.sum(delta))
    return total * max(1.0, float(np.abs(u_pre_seq).max()))


@dataclass(repr=False)
class LIFCase:
    neuron: dict[str, Any]
    c_seq: Any  # (T, n)
    u0: Any  # (n,), or None
    do_seq: Any  # (T, n)
    rng: Any
    ops: Any
    exact: bool  # every potential is a binary fraction that the dtype holds


def conv_backward(ops: Any, dy: Any, cache: Any) -> tuple[Any, Any]:
    """Return (dx, dw)."""
    return ops.conv_input_gradient(dy, cache), ops.conv_weight_gradient(dy, cache)


def critical_potentials(neuron: dict[str, Any], dtype: Any) -> list[float]:
    """List potentials on the threshold, on the slope's kinks, and one ulp to either side of them.

    Only potentials whose distance from the threshold the dtype holds without rounding are listed,
    and none `at_root`.
    """
    scalar = np.dtype(dtype).type
    found, v_th = [], scalar(neuron["v_th"])
    for distance in [0.0, *kinks(neuron)]:
        u = scalar(neuron["v_th"] + distance)
        found += [u, np.nextafter(u, scalar(np.inf)), np.nextafter(u, scalar(-np.inf))]
    return [
        float(u)
        for u in found
        if Fraction(float(u - v_th)) == Fraction(float(u)) - Fraction(neuron["v_th"])
        and not at_root(u, neuron)
    ]


@st.composite
def lif_cases(
    draw: Draw, surrogate: str | None = None, smooth: bool = False, random: bool = True
) -> LIFCase:
    """Draw a layer of neurons with currents that are random, on a binary grid, or critical.

    Without `random`, most potentials are numbers that the dtype holds exactly. Critical currents
    hit critical potentials exactly: every other step fires for certain, and after a reset
    u_pre = c.
    """
    neuron = draw(neurons(surrogate))
    dtype = "float64" if smooth else draw(DTYPES)
    if dtype == "float32" and neuron["tau"] == 0.9:
        neuron["tau"] = 0.75  # the oracle computes with the same number
    steps, n = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(SEEDS))
    sorts = ["random"] if smooth else ["random", "grid", "critical"]
    sorts = sorts if random else ["grid", "critical"]
    sort = draw(st.sampled_from(sorts))
    u0 = rng.normal(0, 1, n) if draw(st.booleans()) else None
    exact = False
    if sort == "random":
        c_seq = rng.normal(0.5, 1.0, (steps, n))
    elif sort == "grid":
        c_seq = rng.integers(-8, 17, (steps, n)) / 8
        u0 = None if u0 is None else np.round(u0 * 8) / 8
        exact = neuron["tau"] != 0.9
    else:
        c_seq = rng.choice(critical_potentials(neuron, dtype), (steps, n))
        c_seq[1::2] = 16.0
        u0 = None
    return LIFCase(
        neuron,
        c_seq.astype(dtype),
        None if u0 is None else u0.astype(dtype),
        rng.normal(size=(steps, n)).astype(dtype),
        rng,
        get_ops(draw(BACKENDS)),
        exact,
    )


@dataclass(repr=False)
class ConvCase:
    x: Any  # (N, H, W, C_in)
    w: Any  # (kh, kw, C_in, C_out)
    stride: tuple[int, int]
    padding: tuple[int, int]
    rng: Any
    ops: Any


@st.composite
def conv_cases(draw: Draw, dtype: str | None = None) -> ConvCase:
    """Draw a convolution of any kernel, stride, padding and size; half of the inputs are spikes."""
    dtype = dtype or draw(DTYPES)
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = [
        max(k - 2 * p, 1) + draw(st.integers(0, 4)) for k, p in zip(kernel, padding, strict=True)
    ]
    n, c_in, c_out = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(SEEDS))
    x = rng.normal(size=(n, *size, c_in))
    if draw(st.booleans()):
        x = (x > 0.5).astype(float)
    w = rng.normal(size=(*kernel, c_in, c_out))
    return ConvCase(x.astype(dtype), w.astype(dtype), stride, padding, rng, get_ops(draw(BACKENDS)))


@dataclass(repr=False)
class NormCase:
    x_seq: Any  # (T, N, H, W, C)
    dy_seq: Any
    gamma: Any  # (C,)
    beta: Any
    mean: Any
    var: Any
    norm: dict[str, Any]
    training: bool


NORMS = st.fixed_dictionaries(
    {
        "statistics": st.sampled_from(["pooled", "per_step"]),
        "scale": st.sampled_from([1.0, 0.5]),
        "eps": st.sampled_from([1e-5, 1e-3]),
        "momentum": st.sampled_from([0.1, 0.3]),
    }
)


@st.composite
def norm_cases(draw: Draw, training: bool | None = None) -> NormCase:
    shape = tuple(draw(st.integers(1, most)) for most in (3, 3, 3, 2, 3))
    rng = np.random.default_rng(draw(SEEDS))
    c = shape[-1]
    return NormCase(
        rng.normal(rng.normal(size=c), rng.uniform(0.5, 2, c), shape),
        rng.normal(size=shape),
        rng.uniform(0.5, 1.5, c),
        rng.normal(size=c),
        rng.normal(size=c),
        rng.uniform(0.5, 2, c),
        draw(NORMS),
        draw(st.booleans()) if training is None else training,
    )


@dataclass(repr=False)
class NetCase:
    net: dict[str, Any]
    model: Network
    params: dict[str, Any]
    buffers: dict[str, Any]
    x_seq: Any  # (T, N, H, W, C)
    labels: Any  # (N,)
    side: float
    branch_sum: str
    training: bool
    rng: Any
    ops: Any


def network_of(net: dict[str, Any], smooth: bool = False) -> Network:
    stem = net["stem"]
    pool = None if stem["pool"] is None else AvgPool(*stem["pool"])
    arch = Architecture(
        net["depths"],
        net["widths"],
        stem["width"],
        Stem(stem["kernel"], stem["stride"], stem["convs"], pool),
        net["hidden"],
    )
    return Network(
        arch,
        net["in_channels"],
        net["num_classes"],
        net["branches"],
        lif_of(net["neuron"], smooth),
        BatchNorm(**net["norm"]),
        net["downsample"],
        net["readout"],
    )


#: stem, and the least size of images that it needs
STEMS = [
    ({"convs": 1, "kernel": 3, "stride": 1, "pool": None}, 1),
    ({"convs": 2, "kernel": 3, "stride": 1, "pool": (2, 2, 0)}, 2),
    ({"convs": 1, "kernel": 5, "stride": 2, "pool": (3, 2, 1)}, 4),
]


@st.composite
def networks(draw: Draw, most: int, surrogate: str | None = None) -> tuple[dict[str, Any], int]:
    """Draw a network's description with up to `most` channels, and a fitting size of images."""
    stages = draw(st.integers(1, 3))
    stem, room = draw(st.sampled_from(STEMS))
    widths = st.integers(2, most)
    net = {
        "in_channels": draw(st.integers(1, 2)),
        "num_classes": draw(st.integers(2, 4)),
        "stem": stem | {"width": draw(widths)},
        "depths": tuple(draw(st.integers(1, 2)) for _ in range(stages)),
        "widths": tuple(draw(widths) for _ in range(stages)),
        "hidden": draw(st.sampled_from([0, 0, 3])),
        "branches": draw(st.sampled_from(["stage", "block", "none"])),
        "downsample": draw(st.sampled_from(["conv", "avgpool"])),
        "readout": draw(st.sampled_from(["mean", "sum"])),
        "neuron": draw(neurons(surrogate)),
        "norm": draw(NORMS),
    }
    return net, room * 2 ** (stages - 1)


@st.composite
def net_cases(
    draw: Draw,
    most: int = 3,
    images: int = 3,
    room: int = 1,
    surrogate: str | None = None,
    smooth: bool = False,
) -> NetCase:
    """Draw a network with random parameters, statistics, input and labels, in float64.

    `room` is the least size of images in the last stage.
    """
    net, unit = draw(networks(most, surrogate))
    size = unit * (room + draw(st.integers(0, 1)))
    steps, n = draw(st.integers(1, 3)), draw(st.integers(2, images))
    group = room**2 * (steps if net["norm"]["statistics"] == "pooled" else 1)
    while n * group < 6:
        n += 1  # batch norm turns any two values into plus and minus one
    rng = np.random.default_rng(draw(SEEDS))
    model = network_of(net, smooth)
    params, buffers = random_numbers(model, rng)
    return NetCase(
        net,
        model,
        params,
        buffers,
        rng.normal(size=(steps, n, size, size, net["in_channels"])),
        rng.integers(0, net["num_classes"], n),
        draw(st.sampled_from([0.25, 1.0, 0.0, 0.6])),
        draw(st.sampled_from(["logits", "losses"])),
        draw(st.sampled_from([True, True, False])),
        rng,
        get_ops("numpy" if smooth else draw(BACKENDS)),
    )


def random_numbers(model: Network, rng: np.random.Generator) -> tuple[dict, dict]:
    """Return parameters and running statistics without special values such as 0 and 1."""
    params = {
        name: value + rng.normal(0, 0.3, value.shape)
        for name, value in init_params(model, rng).items()
    }
    buffers = {
        name: rng.uniform(0.5, 1.5, value.shape)
        if name.endswith("var")
        else value + rng.normal(0, 0.3, value.shape)
        for name, value in init_buffers(model).items()
    }
    return params, buffers
