"""Random inputs of the test vectors, as functions of a generator, in PyTorch's axis order."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refsnn.network import init_params
from refsnn.ops import Array
from refsnn.oracle.cases import ULP, Arrays
from refsnn.oracle.compute import network_of
from refsnn.oracle.conventions import PAPER, Conventions
from refsnn.oracle.layout import param_to_torch

Rng = np.random.Generator
Draw = Callable[[Rng], Arrays]


def grid(given: Conventions) -> Draw:
    """Return u_pre: binary fractions, and critical values with the floats beside them.

    Critical values are the threshold and the edges of the rectangle and the triangle. The values
    beside them differ by 2^-23 or more, so that float32 holds their distance from the threshold
    too.
    """
    given = PAPER | {"surrogate_shape": 1.0} | given
    v_th, a = float(given["v_th"]), float(given["surrogate_shape"])
    critical = np.array([v_th + d for d in (-v_th, -a / 2, 0, a / 2, v_th)])
    beside = np.maximum(ULP, np.spacing(np.abs(critical).astype(np.float32)))
    near = np.concatenate([critical, critical + beside, critical - beside])
    return lambda rng: {"u_pre": np.concatenate([near, np.arange(-4, 4, 1 / 8)])}


def spread(rng: Rng) -> Arrays:
    """Draw u_pre from -4 to 4, where the critical values round."""
    u_pre = np.arange(-4, 4, 1 / 16)
    return {"u_pre": u_pre + rng.uniform(0, 1 / 16, u_pre.shape)}


def far(rng: Rng) -> Arrays:
    """Return u_pre up to a thousand v_th = 1 away, past where exp overflows in either precision."""
    x = np.array([0, 0.25, 0.75, 2, 10, 43, 44, 88, 89, 100, 300, 355, 700, 711, 1000])
    return {"u_pre": 1 + np.concatenate([x, -x])}


def far_currents(rng: Rng) -> Arrays:
    """Draw currents that send u_pre up to a thousand v_th = 1 away, and back beside the threshold.

    They are binary fractions, so that float32 does not round: the slope beside the threshold is
    right although the potential before was far.
    """
    size = np.repeat([100.0, -100.0, 1000.0, -1000.0], 8)
    near = rng.integers(1, 16, (3, len(size))) / 8 + 1 / 16
    back = np.where(size < 0, -size / 2, 0)
    c = np.stack([size, back + near[0], size, back + near[1], near[2]])
    return {"c": c, "do": rng.integers(-8, 9, c.shape) / 8}


def tiny_currents(rng: Rng) -> Arrays:
    """Draw currents of 1e-30, 1e-38, about float32's least normal number, and denormal ones."""
    size = np.repeat([1e-30, 1e-38, 1e-41], 8)
    return {"c": size * rng.normal(size=(5, len(size))), "do": rng.normal(size=(5, len(size)))}


def currents(steps: int, n: int, mean: float = 0.5, std: float = 0.9) -> Draw:
    return lambda rng: {"c": rng.normal(mean, std, (steps, n)), "do": rng.normal(size=(steps, n))}


def connected(steps: int, n: int) -> Draw:
    """Draw currents, and weights v of connections among the neurons."""
    return lambda rng: currents(steps, n)(rng) | {"v": rng.normal(0, 0.5, (n, n))}


def sweep(rng: Rng) -> Arrays:
    """Draw the currents of one step, on both sides of the threshold."""
    c = np.arange(-5, 7, 1 / 100)
    return {"c": (c + rng.uniform(0, 1 / 100, c.shape))[None], "do": np.ones((1, len(c)))}


def last_step(steps: int, n: int, mean: float = 0.5, std: float = 0.9) -> Draw:
    """Draw currents of a few steps of which only the last reaches the loss."""

    def draw(rng: Rng) -> Arrays:
        given = currents(steps, n, mean, std)(rng)
        given["do"][:-1] = 0
        return given

    return draw


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

    It happens at the first step; and with the paper's leak and reset after a leak and a reset.
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


def at_threshold_once(rng: Rng) -> Arrays:
    """Draw currents of one step that bring u_pre exactly to v_th = 1, or an ulp beside it."""
    c = np.array([[1.0, 1.0 + ULP, 1.0 - ULP / 2, 2.0, 0.0]])
    return {"c": c, "do": rng.integers(1, 9, c.shape) / 8}


Params = Callable[[Rng, int, int], Arrays]  # of T and C


def with_params(draw: Draw, params: Params, n: int) -> Draw:
    """Draw the currents and gradients of T steps of neurons, as (T, n, C), and parameters."""

    def both(rng: Rng) -> Arrays:
        given = {name: x.reshape(len(x), n, -1) for name, x in draw(rng).items()}
        steps, _, channels = given["c"].shape
        return given | params(rng, steps, channels)

    return both


def plif_params(rng: Rng, steps: int, channels: int) -> Arrays:
    return {"w": rng.normal(0.5, 0.5, 1)}


def glif_params(rng: Rng, steps: int, channels: int) -> Arrays:
    """Draw raw gates on both sides of 0, raw leaks and resets that let neurons fire."""
    means = {"alpha": 0, "beta": 0, "gamma": 0, "tau": 0, "v_th": 0, "l": -2, "r": 0}
    drawn = {name: rng.normal(mean, 0.7, channels) for name, mean in means.items()}
    return drawn | {"g": rng.normal(0.5, 0.7, (steps, channels))}


def diet_params(rng: Rng, steps: int, channels: int) -> Arrays:
    return {"leak": rng.uniform(0.5, 0.9, 1), "v_th": rng.uniform(0.5, 0.8, 1)}


def mpbn_params(rng: Rng, steps: int, channels: int) -> Arrays:
    """Draw a batch norm's parameters and statistics; the first channel's gamma is below 0."""
    drawn = norm_params(rng, "", channels)
    drawn[".weight"][0] *= -1
    return {name.removeprefix("."): value for name, value in drawn.items()}


def real_spike_params(rng: Rng, steps: int, channels: int) -> Arrays:
    """Draw sizes of spikes, of which the first is below 0."""
    a = rng.uniform(0.5, 1.5, channels)
    a[0] *= -1
    return {"a": a}


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


def tebn_params(rng: Rng, channels: int, steps: int) -> Arrays:
    """Draw a batch norm's parameters, and its factors p."""
    return norm_params(rng, "bn", channels) | {"bn.p": rng.uniform(0.5, 1.5, steps)}


def bntt_params(rng: Rng, channels: int, steps: int) -> Arrays:
    """Draw a batch norm's weights and statistics of every step."""
    shape = steps, channels
    return {
        "bn.weight": rng.uniform(0.8, 2, shape),
        "bn.running_mean": rng.normal(0, 0.3, shape),
        "bn.running_var": rng.uniform(0.5, 1.5, shape),
    }


def psp_params(rng: Rng, channels: int, steps: int) -> Arrays:
    """Draw the weights and the running second moments of a norm that has no mean."""
    drawn = norm_params(rng, "bn", channels)
    return {name: drawn[name] for name in ("bn.weight", "bn.running_var")}


#: norm -> how to draw its parameters, of its channels and the number of steps
NORM_PARAMS = {"tebn": tebn_params, "bntt": bntt_params, "psp": psp_params}


def normed_layer(model: str, layer: Draw) -> Draw:
    """Draw a layer with the parameters of another norm in place of batch norm's."""

    def draw(rng: Rng) -> Arrays:
        given = {name: x for name, x in layer(rng).items() if not name.startswith("bn.")}
        c_out, c_in, _, _ = given["conv.weight"].shape
        channels = c_in if model == "psp" else c_out
        return given | NORM_PARAMS[model](rng, channels, len(given["x"]))

    return draw


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


def of_currents(block: Draw) -> Draw:
    """Draw a block whose inputs are currents."""

    def draw(rng: Rng) -> Arrays:
        given = block(rng)
        return given | {"x": rng.normal(0.5, 1, given["x"].shape)}

    return draw


def taught(network: Draw) -> Draw:
    """Draw a network with a teacher's logits (N, K)."""

    def draw(rng: Rng) -> Arrays:
        given = network(rng)
        shape = len(given["images"]), len(given["head.fc.bias"])
        return given | {"teacher": rng.normal(0, 3, shape)}

    return draw


def network(
    settings: dict[str, Any],
    images: tuple[int, ...],
    classes: int,
    iterations: int = 0,
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
