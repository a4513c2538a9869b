"""Reading a graph of NIR, and running it with NumPy.

Computed is in the input's dtype and our axis order; the nodes' own is PyTorch's.
"""

import io
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.files.arrays import extra
from refsnn.ops import NUMPY, Array, AvgPool, Conv, validate
from refsnn.oracle.layout import image_from_torch, image_to_torch, param_from_torch

READOUTS = ("mean", "sum")


def read_nir(path: Path | str) -> Any:
    """The graph of a NIR file; ValueError where it is none, or has nodes that can't be run here."""
    nir, h5py = extra("nir", "nir"), extra("h5py", "nir")
    content = io.BytesIO(Path(path).read_bytes())  # OSError names the path
    try:
        with h5py.File(content, "r") as file:
            types = {n: node["type"][()].decode() for n, node in file["node"]["nodes"].items()}
        check_types(types)  # first, as the package does not say which node it does not know
        return nir.read(content)
    except Unsupported as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # h5py and nir each have several
        raise ValueError(f"{path}: no NIR graph, or damaged ({error!r})") from None


class Unsupported(ValueError):
    """A node that can't be run here."""


def check_types(types: Mapping[str, str]) -> None:
    for name, kind in types.items():
        if kind not in RUN:
            raise Unsupported(f"node {name}: got type {kind}, want one of {', '.join(RUN)}")
    for kind in ("Input", "Output"):
        count = list(types.values()).count(kind)
        if count != 1:
            raise Unsupported(f"graph: got {count} nodes of type {kind}, want 1")


def run_nir(graph: Any, x_seq: Array, dt: float | None = None, readout: str | None = None) -> Array:
    """Logits (N, K) of the input sequence (T, N, H, W, C), or (T, N, features), in its dtype.

    `dt` and `readout` are the metadata's where they are not given.
    """
    outputs = node_outputs(graph, x_seq, dt)
    readout = readout or graph.metadata.get("readout")
    validate.one_of("readout", readout, READOUTS)
    (last,) = (outputs[n] for n, node in graph.nodes.items() if type(node).__name__ == "Output")
    logits: Array = last.sum(axis=0)
    return logits / len(last) if readout == "mean" else logits


def node_outputs(graph: Any, x_seq: Array, dt: float | None = None) -> dict[str, Array]:
    """What every node gives, (T, N, H, W, C) or (T, N, features), by its name.

    Neurons start at 0 (D6). ValueError names what is not supported.
    """
    validate.floating("x_seq", x_seq)
    check_types({name: type(node).__name__ for name, node in graph.nodes.items()})
    step = graph.metadata.get("dt") if dt is None else dt
    if step is None:
        raise ValueError("dt: got None, and the graph's metadata has none; want seconds a step")
    validate.positive("dt", float(step))
    before: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        before[target].append(source)
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise ValueError(f"graph: got the cycle {' -> '.join(error.args[1])}, want none") from None
    outputs: dict[str, Array] = {}
    for name in order:
        node, sources = graph.nodes[name], [outputs[source] for source in before[name]]
        kind = type(node).__name__
        if not sources and kind != "Input":
            raise ValueError(f"node {name}: got no edge that leads to it, want at least one")
        x = x_seq if kind == "Input" else sources[0]
        for other in sources[1:]:
            x = x + other
        try:
            outputs[name] = RUN[kind](node, x, float(step))
        except (ValueError, TypeError) as error:
            raise ValueError(f"node {name} ({kind}): {error}") from None
    return outputs


def run_input(node: Any, x_seq: Array, dt: float) -> Array:
    """NIR's shapes have no T and N."""
    channels, *size = map(int, node.input_type["input"])
    want = (*size, channels)  # channels are last here
    if x_seq.ndim < 3 or x_seq.shape[2:] != want:
        raise ValueError(f"x_seq: got {x_seq.shape}, want (T, N, {', '.join(map(str, want))})")
    return x_seq


def run_output(node: Any, x_seq: Array, dt: float) -> Array:
    return x_seq


def run_conv(node: Any, x_seq: Array, dt: float) -> Array:
    if isinstance(node.padding, str | bytes):
        raise ValueError(f"padding: got {node.padding!r}, want numbers of pixels")
    groups, dilation = int(node.groups), pair(node.dilation)
    if groups != 1 or dilation != (1, 1):
        raise ValueError(f"got groups {groups} and dilation {dilation}, want 1 and (1, 1)")
    weight = param_from_torch(np.asarray(node.weight, x_seq.dtype))
    p = Conv(pair(node.stride), pair(node.padding))
    bias = np.asarray(0 if node.bias is None else node.bias, x_seq.dtype)
    return each_image(lambda x: NUMPY.conv_forward(x, weight, p)[0] + bias, x_seq)


def run_pool(node: Any, x_seq: Array, dt: float) -> Array:
    kernel, stride, padding = map(pair, (node.kernel_size, node.stride, node.padding))
    if kernel == x_seq.shape[2:4] and padding == (0, 0):
        return each_image(lambda x: NUMPY.global_avgpool_forward(x)[0][:, None, None, :], x_seq)
    if any(a != b for a, b in (kernel, stride, padding)):
        raise ValueError(
            f"got kernel {kernel}, stride {stride}, padding {padding}, want square ones"
        )
    p = AvgPool(kernel[0], stride[0], padding[0])
    return each_image(lambda x: NUMPY.avgpool_forward(x, p)[0], x_seq)


def run_flatten(node: Any, x_seq: Array, dt: float) -> Array:
    start, end, axes = int(node.start_dim), int(node.end_dim), x_seq.ndim - 2
    if start != 0 or end % axes != axes - 1:
        raise ValueError(f"got start_dim {start} and end_dim {end}, want 0 and -1")
    if x_seq.ndim == 5:
        return each_image(lambda x: image_to_torch(x).reshape(len(x), -1), x_seq)
    return x_seq


def run_affine(node: Any, x_seq: Array, dt: float) -> Array:
    weight = param_from_torch(np.asarray(node.weight, x_seq.dtype))
    bias = getattr(node, "bias", np.zeros(weight.shape[-1:])).astype(x_seq.dtype)
    return each_image(lambda x: NUMPY.linear_forward(x, weight, bias)[0], x_seq)


def run_lif(node: Any, x_seq: Array, dt: float) -> Array:
    """tau dv/dt = (v_leak - v) + r c, by forward Euler."""
    rate = float(node.tau.dtype.type(dt)) / like_input(node.tau)  # dt rounded as tau was
    return euler(node, x_seq, 1 - rate, rate * like_input(node.r), rate * like_input(node.v_leak))


def run_if(node: Any, x_seq: Array, dt: float) -> Array:
    """dv/dt = r c, by forward Euler."""
    gain = float(node.r.dtype.type(dt)) * like_input(node.r)
    return euler(node, x_seq, np.ones_like(gain), gain, np.zeros_like(gain))


def euler(node: Any, c_seq: Array, decay: Array, gain: Array, shift: Array) -> Array:
    """Spikes; the potential moves, fires above v_threshold, and is set to v_reset."""
    v_th = like_input(node.v_threshold)  # in its own precision: a float next to v_th counts
    decay, gain, shift, v_reset = (
        value.astype(c_seq.dtype) for value in (decay, gain, shift, like_input(node.v_reset))
    )
    if v_th.shape != c_seq.shape[2:]:
        raise ValueError(f"got parameters for {v_th.shape}, want {c_seq.shape[2:]} like the input")
    o_seq, u = np.empty_like(c_seq), np.zeros_like(c_seq[0])
    for t in range(len(c_seq)):
        u_pre = decay * u + gain * c_seq[t] + shift
        o_seq[t] = u_pre > v_th
        u = np.where(o_seq[t] == 1, v_reset, u_pre)
    return o_seq


def like_input(x: Array) -> Array:
    """A neuron's parameter (C, H, W) as (H, W, C), in float64."""
    x = np.asarray(x, np.float64)
    return image_from_torch(x[None])[0] if x.ndim == 3 else x


def each_image(of: Callable[[Array], Array], x_seq: Array) -> Array:
    """T and N as one axis."""
    y = of(x_seq.reshape(-1, *x_seq.shape[2:]))
    return y.reshape(*x_seq.shape[:2], *y.shape[1:])


def pair(value: Any) -> tuple[int, int]:
    rows, columns = np.broadcast_to(np.asarray(value), 2)
    return int(rows), int(columns)


#: type of node -> what runs it
RUN: dict[str, Callable[[Any, Array, float], Array]] = {
    "Input": run_input, "Output": run_output, "Conv2d": run_conv, "AvgPool2d": run_pool,
    "Flatten": run_flatten, "Affine": run_affine, "Linear": run_affine, "LIF": run_lif,
    "IF": run_if,
}  # fmt: skip
