"""Simulation of a NIR graph with NumPy.

It computes in the input's dtype and in refsnn's axis order; the nodes' own order is PyTorch's.
"""

import warnings
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np

from refsnn.export.nir_check import (
    Fields,
    Graph,
    check_graph,
    fields_of,
    has_batch,
    positive_number,
    refuse,
)
from refsnn.ops import NUMPY, Array, AvgPool, Conv, validate
from refsnn.oracle.layout import image_from_torch, image_to_torch, param_from_torch

READOUTS = ("mean", "sum")
STARTS = ("zero", "v_reset", "v_leak")


class Simulation(NamedTuple):
    """The settings of the simulation that a graph does not contain."""

    dt: float  # seconds per step
    start: str  # one of STARTS


def run_nir(
    graph: Any,
    x_seq: Array,
    dt: float | None = None,
    readout: str | None = None,
    start: str = "zero",
) -> Array:
    """Compute the logits (N, K) of the input sequence (T, N, H, W, C), or (T, N, features).

    They have the input's dtype. `dt` and `readout` default to the metadata's. For `start` and
    errors see `node_outputs`.
    """
    outputs = node_outputs(graph, x_seq, dt, start)
    readout = graph.metadata.get("readout") if readout is None else readout
    validate.one_of("readout", None if readout is None else str(readout), READOUTS)
    (last,) = (outputs[n] for n, node in graph.nodes.items() if type(node).__name__ == "Output")
    logits: Array = last.sum(axis=0)
    return logits / len(last) if readout == "mean" else logits


def node_outputs(
    graph: Any, x_seq: Array, dt: float | None = None, start: str = "zero"
) -> dict[str, Array]:
    """Compute the output of every node, (T, N, H, W, C) or (T, N, features), by the node's name.

    Steps are those of forward Euler, so tau must be at least dt. NIR does not say at which value
    potentials start: by default at 0 (D6), as in snnTorch; with `start="v_reset"` as in
    SpikingJelly and Norse's IF; with "v_leak" as in Norse's LIF. A warning names an IF node with
    r = 1 at a dt other than 1: a program that writes it, such as Norse, means that a step adds the
    input once. Raises ValueError or TypeError, which names the argument, or the node and the field,
    that is wrong or not supported.
    """
    validate.floating("x_seq", x_seq)
    validate.one_of("start", start, STARTS)
    checked = check_graph(
        {name: (type(node).__name__, fields_of(node)) for name, node in graph.nodes.items()},
        graph.edges,
    )
    simulation = Simulation(seconds(graph, dt), start)
    outputs: dict[str, Array] = {}
    for name in in_order(checked):
        kind, fields = checked.nodes[name]
        inputs = [outputs[source] for source in checked.before[name]]
        try:
            y = RUN[kind](fields, total(inputs) if inputs else x_seq, simulation)
            refuse("output", y, ~np.isfinite(y), "finite numbers")
        except (ValueError, TypeError) as error:
            raise ValueError(f"node {name} ({kind}): {error}") from None
        outputs[name] = y
        if kind == "IF" and simulation.dt != 1 and (fields["r"] == 1).all():
            warnings.warn(
                f"node {name} (IF): has r = 1, so a step adds {simulation.dt:g} (dt) times its "
                "input; where a step is meant to add it once, give dt=1",
                stacklevel=2,
            )
    return outputs


def seconds(graph: Any, dt: float | None) -> float:
    step = graph.metadata.get("dt") if dt is None else dt
    if step is None:
        raise ValueError("dt: got None, and the graph's metadata has none; want seconds per step")
    return positive_number("dt", step)


def in_order(graph: Graph) -> list[str]:
    try:
        return list(TopologicalSorter(graph.before).static_order())
    except CycleError as error:
        raise ValueError(f"graph: got the cycle {' -> '.join(error.args[1])}, want none") from None


def total(inputs: list[Array]) -> Array:
    x = inputs[0]
    for other in inputs[1:]:
        if other.shape != x.shape:
            raise ValueError(f"got inputs of {x.shape[2:]} and {other.shape[2:]}, want one shape")
        x = x + other
    return x


def run_input(f: Fields, x_seq: Array, _: Simulation) -> Array:
    want = stated(f["shape"])
    if x_seq.ndim < 3 or x_seq.shape[2:] != want:
        raise ValueError(f"x_seq: got {x_seq.shape}, want (T, N, {', '.join(map(str, want))})")
    if not x_seq.size:
        raise ValueError(f"x_seq: got {x_seq.shape}, want at least one step and one image")
    refuse("x_seq", x_seq, ~np.isfinite(x_seq), "finite numbers")
    return x_seq


def run_output(f: Fields, x_seq: Array, _: Simulation) -> Array:
    match("shape", stated(f["shape"]), x_seq.shape[2:])
    return x_seq


def run_conv(f: Fields, x_seq: Array, _: Simulation) -> Array:
    if f["groups"] != 1 or f["dilation"] != (1, 1):
        raise ValueError(
            f"got groups {f['groups']} and dilation {f['dilation']}, want 1 and (1, 1)"
        )
    if f["input_shape"] is not None:
        match("input_shape", f["input_shape"], x_seq.shape[2:4])
    weight = param_from_torch(like("weight", f["weight"], x_seq))
    bias = 0 if f["bias"] is None else like("bias", f["bias"], x_seq)
    p = Conv(f["stride"], within("padding", f["padding"], max(weight.shape[:2]), x_seq))
    return each_image(lambda x: NUMPY.conv_forward(x, weight, p)[0] + bias, x_seq)


def run_pool(f: Fields, x_seq: Array, _: Simulation) -> Array:
    kernel, stride, padding = f["kernel_size"], f["stride"], f["padding"]
    if kernel == x_seq.shape[2:4] and padding == (0, 0):
        return each_image(lambda x: NUMPY.global_avgpool_forward(x)[0][:, None, None, :], x_seq)
    if any(a != b for a, b in (kernel, stride, padding)):
        raise ValueError(
            f"got kernel {kernel}, stride {stride}, padding {padding}, want square ones"
        )
    p = AvgPool(kernel[0], stride[0], within("padding", padding, 0, x_seq)[0])
    return each_image(lambda x: NUMPY.avgpool_forward(x, p)[0], x_seq)


def run_flatten(f: Fields, x_seq: Array, _: Simulation) -> Array:
    """Flatten all axes of an image; where a batch axis is stated, PyTorch counts them from 1."""
    start, end, shape = f["start_dim"], f["end_dim"], f["input_type"]
    axes, first = x_seq.ndim - 2, 0
    if shape is not None:
        match("input_type", stated(shape), x_seq.shape[2:])
        axes, first = len(shape), int(has_batch(shape))
    if start not in (first, first - axes) or end not in (axes - 1, -1):
        raise ValueError(f"got start_dim {start} and end_dim {end}, want {first} and -1")
    if x_seq.ndim == 5:
        return each_image(lambda x: image_to_torch(x).reshape(len(x), -1), x_seq)
    return x_seq


def run_affine(f: Fields, x_seq: Array, _: Simulation) -> Array:
    weight = param_from_torch(like("weight", f["weight"], x_seq))
    bias = np.zeros(weight.shape[-1:]) if f.get("bias") is None else f["bias"]
    bias = like("bias", bias, x_seq)
    return each_image(lambda x: NUMPY.linear_forward(x, weight, bias)[0], x_seq)


def run_lif(f: Fields, x_seq: Array, simulation: Simulation) -> Array:
    """Simulate tau dv/dt = (v_leak - v) + r c by forward Euler."""
    step = rounded("tau", f["tau"], simulation.dt)
    refuse("tau", f["tau"], f["tau"] < step, f"at least dt, {simulation.dt:g}")
    tau, r, v_leak = (per_neuron(name, f[name], x_seq) for name in ("tau", "r", "v_leak"))
    rate = step / tau
    return euler(f, x_seq, simulation.start, 1 - rate, rate * r, rate * v_leak)


def run_if(f: Fields, x_seq: Array, simulation: Simulation) -> Array:
    """Simulate dv/dt = r c by forward Euler."""
    gain = rounded("r", f["r"], simulation.dt) * per_neuron("r", f["r"], x_seq)
    return euler(f, x_seq, simulation.start, np.ones_like(gain), gain, np.zeros_like(gain))


def euler(f: Fields, c_seq: Array, start: str, decay: Array, gain: Array, shift: Array) -> Array:
    """Compute spikes: v becomes decay v + gain c + shift, fires above v_threshold and is reset."""
    v_th = per_neuron("v_threshold", f["v_threshold"], c_seq)  # float64, since its last bit counts
    v_reset = per_neuron("v_reset", f["v_reset"], c_seq)
    if start not in ("zero", *f):
        raise ValueError(f"start: got {start!r}, which an IF node does not have")
    u0 = np.zeros_like(v_reset) if start == "zero" else per_neuron(start, f[start], c_seq)
    refuse("v_threshold", v_th, v_th < u0, f"at least the potential's start, {start}")
    decay, gain, shift, v_reset, u0 = (
        like("its potential", value, c_seq) for value in (decay, gain, shift, v_reset, u0)
    )
    o_seq, u = np.empty_like(c_seq), np.broadcast_to(u0, c_seq.shape[1:])
    for t in range(len(c_seq)):
        u_pre = decay * u + gain * c_seq[t] + shift
        o_seq[t] = u_pre > v_th
        u = np.where(o_seq[t] == 1, v_reset, u_pre)
    refuse("its potential", u, ~np.isfinite(u), "finite numbers")
    return o_seq


def rounded(field: str, x: Array, dt: float) -> float:
    """Return the step, rounded to the dtype of the constant `x`, so that tau == dt stays true."""
    step = float(x.dtype.type(dt)) if x.dtype.kind == "f" else dt
    if not 0 < step < np.inf:
        raise ValueError(f"{field}: got {x.dtype}, in which dt = {dt:g} is {step:g}")
    return step


def like(field: str, value: Array, x_seq: Array) -> Array:
    """Return a value in the input's dtype, in which it must be finite too."""
    with np.errstate(over="ignore"):
        y: Array = np.asarray(value, x_seq.dtype)
    refuse(field, np.asarray(value), ~np.isfinite(y), f"numbers that are finite in {x_seq.dtype}")
    return y


def per_neuron(field: str, x: Array, c_seq: Array) -> Array:
    """Return neurons' constants (C, H, W), or one number for all, as (H, W, C) in float64."""
    want = c_seq.shape[2:]
    value = np.asarray(x, np.float64)
    while value.ndim > len(want) and len(value) == 1:  # a batch axis
        value = value[0]
    if value.size == 1:
        value = value.reshape((1,) * len(want))
    elif value.ndim == 3:
        value = image_from_torch(value[None])[0]
    if value.ndim == len(want) and all(n in (1, m) for n, m in zip(value.shape, want, strict=True)):
        return np.broadcast_to(value, want)
    raise ValueError(f"got parameters for {x.shape}, want {want} like the input")


def stated(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape of NIR in refsnn's axis order, without a batch axis."""
    shape = shape[has_batch(shape) :]
    return (*shape[1:], shape[0])


def match(field: str, got: tuple[int, ...], want: tuple[int, ...]) -> None:
    if got != want:
        raise ValueError(f"{field}: got {got}, want {want} like the input")


def within(field: str, value: tuple[int, int], kernel: int, x_seq: Array) -> tuple[int, int]:
    """Check that padding is not larger than image and kernel, since it could fill the memory."""
    most = max(kernel, *x_seq.shape[2:4])
    if max(value) > most:
        raise ValueError(f"{field}: got {value}, want at most {most} pixels")
    return value


def each_image(function: Callable[[Array], Array], x_seq: Array) -> Array:
    """Apply a function of images (N, …) to a sequence (T, N, …)."""
    y = function(x_seq.reshape(-1, *x_seq.shape[2:]))
    return y.reshape(*x_seq.shape[:2], *y.shape[1:])


#: type of node -> function that computes its output
RUN: dict[str, Callable[[Fields, Array, Simulation], Array]] = {
    "Input": run_input,
    "Output": run_output,
    "Conv2d": run_conv,
    "AvgPool2d": run_pool,
    "Flatten": run_flatten,
    "Affine": run_affine,
    "Linear": run_affine,
    "LIF": run_lif,
    "IF": run_if,
}
