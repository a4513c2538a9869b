"""Export of a trained network as a graph of NIR, the exchange format of neuromorphic frameworks.

The graph is the network as evaluation computes it, folded (`network.fold`) and without side
branches. NIR describes neurons by differential equations, which forward Euler with the
metadata's `dt` turns into Eq. 1. Node parameters are in PyTorch's axis order, as NIR requires.

NIR adds up what leads to a node, and has no node for a sum. Where blocks pass on sums (SEW ADD and
MS), edges lead from each of the terms to each layer that takes the sum. It has no product either,
which SEW AND and IAND would need.

Tests show that SpikingJelly 2.0 and snnTorch 1.0 import the graph and compute the same. snnTorch
does so only with a leak and dt = 1e-4, which its importer assumes. Norse 1.1 leaves out average
pooling.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.export.nir_read import read_nir
from refsnn.export.nir_run import node_outputs, run_nir
from refsnn.export.parameters import state_dict
from refsnn.files.extras import import_extra
from refsnn.files.writing import write_atomic
from refsnn.network import Block, Network, Params, fold
from refsnn.ops import Array, AvgPool, Conv, Neuron, Norm, Thresholds, is_gated, validate

__all__ = ["node_outputs", "read_nir", "run_nir", "to_nir", "write_nir"]

DT = 1e-4  # seconds; what importers assume if they are not told

OTHER_FILES = "a .npz or .safetensors file holds it"
Terms = tuple[str, ...]  # the nodes whose outputs a layer takes the sum of


@dataclass
class Draft:
    """An unfinished graph, to which `add` adds nodes."""

    nir: Any
    net: Network
    state: Params  # in PyTorch's order
    dt: float
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of the nodes' outputs

    def add(self, name: str, node: Any, shape: tuple[int, ...], *before: str) -> str:
        """Add a node after the nodes `before`, whose outputs NIR adds up; return its name."""
        self.nodes[name], self.shapes[name] = node, shape
        self.edges += [(source, name) for source in before]
        return name


def to_nir(
    net: Network,
    params: Params,
    buffers: Params,
    size: tuple[int, int],
    dt: float = DT,
    about: Mapping[str, Any] | None = None,
) -> Any:
    """Return the `nir.NIRGraph` of the main branch, for images of `size` (H, W).

    Numbers keep the parameters' dtype. The metadata holds `dt` (seconds per time step), `readout`
    (how logits are combined over time, D10, for which NIR has no node), and `about`.
    """
    for value in size:
        validate.whole("size", value, 1)
    validate.positive("dt", dt)
    if net.lif.smooth:
        raise ValueError("net: fires the surrogate's primitive, for which NIR has no node")
    if net.lif.reset != "zero":
        raise ValueError(f"net: reset {net.lif.reset}, for which NIR has no node")
    if net.block in ("sew_and", "sew_iand"):
        raise ValueError(
            f"net: block {net.block} multiplies spikes, for which NIR has no node; {OTHER_FILES}"
        )
    if net.norm_model is not None and net.norm_model.by_step:
        raise no_node(net.norm_model)
    if not net.is_folded:
        net, params = fold(net, params, buffers)
    nir = import_extra("nir", "nir")
    draft = Draft(nir, net, state_dict(net, params, {}), dt)
    shape = (net.in_channels, *size)
    at = draft.add("input", nir.Input(np.array(shape)), shape)
    stem = net.arch.stem
    for index in range(stem.convs):
        at = add_conv(draft, f"stem.conv{index}", stem.conv(index), (at,))
        if index < net.fired_in_stem:
            at = add_neuron(draft, f"stem.lif{index}", at)
    if stem.pool is not None:
        at = add_pool(draft, "stem.pool", stem.pool, (at,))
    x: Terms = (at,)
    for block in net.blocks():
        x = add_block(draft, block, x)
    at = add_head(draft, x)
    draft.add("output", nir.Output(np.array(draft.shapes[at])), draft.shapes[at], at)
    metadata = dict(about or {}) | {"dt": float(dt), "readout": net.readout}
    return nir.NIRGraph(draft.nodes, draft.edges, metadata)


def no_node(model: Neuron | Norm) -> ValueError:
    """Return the error for neurons or batch norms that NIR can't describe."""
    return ValueError(f"net: has {type(model).__name__}, for which NIR has no node; {OTHER_FILES}")


def add_block(draft: Draft, block: Block, x: Terms) -> Terms:
    """Add a residual block; return the nodes whose sum it passes on.

    In the paper's (Eq. 5) edges into the outer neuron add f(x) and the skip. SEW ADD's passes on
    both terms' spikes, and MS's both terms' currents, the skip's first.
    """
    net, name, stride = draft.net, block.name, block.stride
    inner, first = "lif1", x
    if net.passes_currents:
        inner, first = "lif2", (add_neuron(draft, f"{name}.lif1", *x),)
    at = add_conv(draft, f"{name}.conv1", Conv((stride, stride), (1, 1)), first)
    at = add_neuron(draft, f"{name}.{inner}", at)
    projected = net.has_projection(block)
    f = add_conv(draft, f"{name}.conv2", Conv((1, 1), (1, 1)), (at,))
    skip = add_projection(draft, block, x) if projected else x
    if not projected and net.norm_identity:
        skip = (add_scale(draft, f"{name}.skip.bn", x),)  # M2
    if net.passes_currents:
        return (*skip, f)  # MS
    if net.block == "basic":
        return (add_neuron(draft, f"{name}.lif2", f, *skip),)  # Eq. (5)  # D9
    if projected:
        skip = (add_neuron(draft, f"{name}.skip.lif", *skip),)
    return (*skip, add_neuron(draft, f"{name}.lif2", f))  # SEW


def add_projection(draft: Draft, block: Block, x: Terms) -> Terms:
    """Add the skip's pooling, if any, and convolution."""
    name, stride = block.name, block.stride
    if draft.net.downsample == "avgpool" and stride > 1:
        x, stride = (add_pool(draft, f"{name}.skip.pool", AvgPool(stride, stride), x),), 1
    conv = Conv((stride, stride))
    return (add_conv(draft, f"{name}.skip.conv", conv, x),)


def add_conv(draft: Draft, name: str, conv: Conv, x: Terms) -> str:
    """Add a convolution."""
    weight, bias = draft.state[f"{name}.weight"], draft.state[f"{name}.bias"]
    return add_weights(draft, name, weight, bias, conv, x)


def add_scale(draft: Draft, name: str, x: Terms) -> str:
    """Add a factor and a bias of each channel, as a 1x1 convolution, which all importers know."""
    weight = np.diag(draft.state[f"{name}.weight"])[:, :, None, None]
    return add_weights(draft, name, weight, draft.state[f"{name}.bias"], Conv(), x)


def add_weights(draft: Draft, name: str, weight: Array, bias: Array, conv: Conv, x: Terms) -> str:
    node = draft.nir.Conv2d(
        input_shape=draft.shapes[x[0]][1:],
        weight=weight,
        stride=conv.stride,
        padding=conv.padding,
        dilation=(1, 1),
        groups=1,
        bias=bias,
    )
    shape = tuple(map(int, node.output_type["output"]))
    return draft.add(name, node, shape, *x)


def add_neuron(draft: Draft, name: str, *before: str) -> str:
    """Add a layer of neurons after the nodes `before`.

    NIR's u_pre = u + dt/tau_nir (r c - u) is Eq. 1 with tau = 1 - dt/tau_nir and r = tau_nir/dt,
    or where the currents have a factor, this times as large. ValueError for other neurons.
    """
    lif, nir, dt = draft.net.lif, draft.nir, draft.dt
    shape = draft.shapes[before[0]]
    dtype = next(iter(draft.state.values())).dtype
    tau, gain, threshold = constants_of(draft, name, shape[0])
    v_th = np.asarray(threshold, dtype)
    if lif.fire_at_threshold:
        v_th = np.nextafter(v_th, np.asarray(-np.inf, dtype))  # NIR's > fires where >= would  # D2

    def full(value: Any) -> Array:
        value = np.reshape(value, (-1, *[1] * (len(shape) - 1))) if np.ndim(value) else value
        return np.full(shape, value, dtype)

    fires = {"v_threshold": full(v_th), "v_reset": full(0)}
    if tau == 1:
        node = nir.IF(r=full(gain / dt), **fires)
    else:
        leak = 1 - tau
        node = nir.LIF(tau=full(dt / leak), r=full(gain / leak), v_leak=full(0), **fires)
    return draft.add(name, node, shape, *before)


def constants_of(draft: Draft, name: str, channels: int) -> tuple[float, float, Array | float]:
    """Return the leak factor, the factor on the currents and the threshold of a layer.

    The threshold may be one of each channel. ValueError for neurons with parameters that are no
    LIFs with one of each.
    """
    net, model = draft.net, draft.net.neuron_model
    if model is None:
        return net.lif.tau, 1.0, net.lif.v_th
    if isinstance(model, Thresholds):
        return net.lif.tau, 1.0, thresholds_of(draft, name)
    if not is_gated(model):
        raise no_node(model)
    params = {key: draft.state[f"{name}.{key}"].astype(np.float64) for key in model.shapes(1, 1)}
    k = model.constants(params, net.lif, channels, max(net.steps, 1))
    wanted = {"clear": 1, "amount": 0, "drop": 0, "amplitude": 1}
    plain = all((getattr(k, part) == value).all() for part, value in wanted.items())
    alike = all((x == x.flat[0]).all() for x in (k.leak, k.gain, k.v_th))
    if not (plain and alike and model.binary):
        raise no_node(model)
    return float(k.leak[0]), float(k.gain[0, 0]), float(k.v_th[0])


def thresholds_of(draft: Draft, name: str) -> Array:
    """Return the threshold of each channel; ValueError where a neuron fires below it."""
    sign, threshold = draft.state[f"{name}.sign"], draft.state[f"{name}.threshold"]
    if (sign < 0).any():
        count = int((sign < 0).sum())
        raise ValueError(
            f"net: {count} channels of {name} fire below a threshold (a negative gamma of MPBN), "
            f"for which NIR has no node; {OTHER_FILES}"
        )
    most = np.finfo(threshold.dtype).max
    return np.where(sign == 0, most * np.sign(threshold), threshold)  # always, or never


def add_pool(draft: Draft, name: str, p: AvgPool, x: Terms) -> str:
    channels, *size = draft.shapes[x[0]]
    out = [(n + 2 * p.padding - p.kernel) // p.stride + 1 for n in size]
    if min(out) < 1:
        raise ValueError(f"size: got {tuple(size)} pixels at {name}, want at least {p.kernel}")
    return add_window(draft, name, (p.kernel,) * 2, (p.stride,) * 2, p.padding, (channels, *out), x)


def add_window(
    draft: Draft,
    name: str,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: int,
    shape: tuple[int, ...],
    x: Terms,
) -> str:
    node = draft.nir.AvgPool2d(np.array(kernel), np.array(stride), np.array((padding, padding)))
    return draft.add(name, node, shape, *x)


def add_head(draft: Draft, x: Terms) -> str:
    """Add global average pooling and FC (D10), with a hidden layer of neurons between in D20.

    Where blocks pass on currents, neurons come first.
    """
    if draft.net.passes_currents:
        x = (add_neuron(draft, "final.lif", *x),)
    channels, *size = draft.shapes[x[0]]
    window = (size[0], size[1])
    at = add_window(draft, "head.pool", window, window, 0, (channels, 1, 1), x)
    # axes counted from the end, so that importers keep a batch axis where there is one
    flatten = draft.nir.Flatten({"input": np.array((channels, 1, 1))}, start_dim=-3, end_dim=-1)
    at = draft.add("head.flatten", flatten, (channels,), at)
    if draft.net.arch.hidden:
        at = add_neuron(draft, "head.lif", add_affine(draft, "head.hidden", at))
    return add_affine(draft, "head.fc", at)


def add_affine(draft: Draft, name: str, x: str) -> str:
    weight, bias = draft.state[f"{name}.weight"], draft.state[f"{name}.bias"]
    return draft.add(name, draft.nir.Affine(weight, bias), bias.shape, x)


def write_nir(path: Path | str, graph: Any) -> None:
    buffer = io.BytesIO()
    import_extra("nir", "nir").write(buffer, graph)
    write_atomic(Path(path), buffer.getvalue())
