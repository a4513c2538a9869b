"""Random inputs of the test vectors, as functions of a generator, in PyTorch's axis order."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refsnn.network import init_params
from refsnn.ops import Array
from refsnn.oracle.cases import ULP, Arrays
from refsnn.oracle.compute import network_of
from refsnn.oracle.conventions import PAPER, Value
from refsnn.oracle.layout import param_to_torch

Rng = np.random.Generator
Draw = Callable[[Rng], Arrays]


def grid(given: dict[str, Value]) -> Draw:
    """Return u_pre: binary fractions, and critical values with the floats beside them.

    Critical values are the threshold and the edges of the rectangle and the triangle. The values
    beside them differ by 2^-23 or more, so that float32 holds their distance from the threshold
    too.
    """
    v_th, a = float(given.get("v_th", 1)), float(given.get("surrogate_shape", 1))
    critical = np.array([v_th + d for d in (-v_th, -a / 2, 0, a / 2, v_th)])
    beside = np.maximum(ULP, np.spacing(np.abs(critical).astype(np.float32)))
    near = np.concatenate([critical, critical + beside, critical - beside])
    return lambda rng: {"u_pre": np.concatenate([near, np.arange(-4, 4, 1 / 8)])}


def currents(steps: int, n: int, mean: float = 0.5, std: float = 0.9) -> Draw:
    return lambda rng: {"c": rng.normal(mean, std, (steps, n)), "do": rng.normal(size=(steps, n))}


def on_grid(steps: int, n: int, unit: float) -> Draw:
    """Draw multiples of `unit` from -1 to 2.

    Potentials are then exact, and many meet a critical value.
    """

    def draw(rng: Rng) -> Arrays:
        c = rng.integers(round(-1 / unit), round(2 / unit), (steps, n), endpoint=True) * unit
        return {"c": c, "do": rng.integers(-8, 9, (steps, n)) / 8}

    return draw


def at_threshold(rng: Rng) -> Arrays:
    """Draw currents that bring u_pre exactly to v_th = 1, or an ulp beside it.

    It happens at the first step, after a leak and after a reset.
    """
    e = ULP / 2  # below 1
    columns = [
        [1.0] * 6,
        [1.0 + ULP] * 6,
        [1 - e, *[e / 2, 0.75 - e] * 2, e / 2],
        [0.5, 0.75] * 3,
        [2.0, 1.0] * 3,
        [-1.0, 1.5, 1.0] * 2,
        [0.0] * 6,
        [2.0] * 6,
    ]
    c = np.array(columns).T
    return {"c": c, "do": rng.integers(-8, 9, c.shape) / 8}


def spikes(rng: Rng, shape: tuple[int, ...]) -> Array:
    return (rng.random(shape) < 0.3).astype(float)


def norm_params(rng: Rng, name: str, channels: int) -> Arrays:
    """Draw a batch norm's parameters that let neurons fire, and running statistics."""
    return {
        f"{name}.weight": rng.uniform(0.5, 1.5, channels),
        f"{name}.bias": rng.normal(0.4, 0.3, channels),
        f"{name}.running_mean": rng.normal(0, 0.3, channels),
        f"{name}.running_var": rng.uniform(0.5, 1.5, channels),
    }


def conv_params(rng: Rng, conv: str, norm: str, c_in: int, c_out: int, k: int) -> Arrays:
    std = 1.5 / np.sqrt(c_in * k * k)
    weight = {f"{conv}.weight": rng.normal(0, std, (c_out, c_in, k, k))}
    return weight | norm_params(rng, norm, c_out)


def conv_size(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


def layer(
    shape: tuple[int, ...], c_out: int, kernel: int, stride: int, padding: int, scale: float = 1
) -> Draw:
    """Draw real-valued inputs x of `shape` (T, N, C, H, W) and the parameters of a layer."""

    def draw(rng: Rng) -> Arrays:
        steps, n, c_in, height, width = shape
        out = (steps, n, c_out, *(conv_size(s, kernel, stride, padding) for s in (height, width)))
        given = {"x": rng.normal(0, scale, shape), "do": rng.normal(size=out)}
        return given | conv_params(rng, "conv", "bn", c_in, c_out, kernel)

    return draw


def block(
    steps: int,
    n: int,
    c_in: int,
    c_out: int,
    height: int,
    width: int,
    stride: int,
    zero_init: bool = False,
) -> Draw:
    def draw(rng: Rng) -> Arrays:
        out = (steps, n, c_out, *(conv_size(s, 3, stride, 1) for s in (height, width)))
        given = {"x": spikes(rng, (steps, n, c_in, height, width)), "do": rng.normal(size=out)}
        given |= conv_params(rng, "conv1", "bn1", c_in, c_out, 3)
        given |= conv_params(rng, "conv2", "bn2", c_out, c_out, 3)
        if zero_init:
            given["bn2.weight"] *= 0
            given["bn2.bias"] *= 0
        if stride != 1 or c_in != c_out:
            given |= conv_params(rng, "skip.conv", "skip.bn", c_in, c_out, 1)
        return given

    return draw


def network(
    settings: dict[str, Any], images: tuple[int, ...], classes: int, iterations: int = 0
) -> Draw:
    """Draw `images` (N, C, H, W), one batch per iteration, labels and all parameters.

    Weights follow D18; batch norms and heads differ from their initial values.
    """

    def draw(rng: Rng) -> Arrays:
        net = network_of(settings, PAPER, images[1], classes)
        given: Arrays = {}
        for name, value in init_params(net, rng).items():
            owner, _, kind = name.rpartition(".")
            if owner.split(".")[-1].startswith("bn"):
                given |= norm_params(rng, owner, len(value)) if kind == "weight" else {}
            elif kind == "bias":
                given[name] = rng.normal(0, 0.1, value.shape)
            else:
                given[name] = param_to_torch(value)
                if owner.endswith(".fc"):
                    given[name] = rng.normal(0, 0.8, given[name].shape)
        batches = (iterations,) if iterations else ()
        pixels = rng.normal(size=(*batches, *images))
        labels = rng.integers(0, classes, (*batches, images[0]))
        return {"images": pixels, "labels": labels} | given

    return draw
