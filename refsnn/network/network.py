"""The structure of a spiking ResNet: blocks, branches, names and shapes of all parameters."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from refsnn.network.architecture import Architecture
from refsnn.ops import LIF, Array, BatchNorm, validate

Params = dict[str, Array]


class Block(NamedTuple):
    """A residual block: its name, channels in and out, stride, and its branch's name or None."""

    name: str
    c_in: int
    c_out: int
    stride: int
    branch: str | None


@dataclass(frozen=True)
class Network:
    """A spiking ResNet's structure and settings; its parameters are a separate dict."""

    arch: Architecture
    in_channels: int
    num_classes: int
    branches: str = "stage"  # D11: none, stage, block
    lif: LIF = field(default_factory=LIF)
    norm: BatchNorm = field(default_factory=BatchNorm)
    downsample: str = "conv"  # D9: conv, or avgpool before a 1x1 conv of stride 1
    readout: str = "mean"  # D10: mean or sum of the logits over time

    def __post_init__(self) -> None:
        validate.whole("in_channels", self.in_channels, 1)
        validate.whole("num_classes", self.num_classes, 2)
        validate.one_of("branches", self.branches, ("none", "stage", "block"))
        validate.one_of("downsample", self.downsample, ("conv", "avgpool"))
        validate.one_of("readout", self.readout, ("mean", "sum"))

    def blocks(self) -> list[Block]:
        """List the residual blocks in order; the last one carries the main branch, `head`."""
        arch, blocks, c_in = self.arch, [], self.arch.stem_width
        for stage, (depth, width) in enumerate(zip(arch.depths, arch.widths, strict=True), 1):
            for index in range(depth):
                name, last = f"stage{stage}.block{index}", index == depth - 1
                stride = 2 if stage > 1 and index == 0 else 1
                if last and stage == len(arch.depths):
                    branch: str | None = "head"
                elif self.branches == "block" or (self.branches == "stage" and last):  # D11
                    branch = f"branch.{name if self.branches == 'block' else f'stage{stage}'}"
                else:
                    branch = None
                blocks.append(Block(name, c_in, width, stride, branch))
                c_in = width
        return blocks

    def segments(self) -> list[list[Block]]:
        """Return the blocks cut after every branch: segment l leads from b_{l-1} to b_l."""
        segments: list[list[Block]] = [[]]
        for block in self.blocks():
            segments[-1].append(block)
            if block.branch not in (None, "head"):
                segments.append([])
        return segments

    def neurons(self) -> list[str]:
        """Return the names of the layers of neurons, from input to output."""
        names = [f"stem.lif{index}" for index in range(self.arch.stem.convs)]
        names += [f"{block.name}.{lif}" for block in self.blocks() for lif in ("lif1", "lif2")]
        return names + ["head.lif"] * bool(self.arch.hidden)  # D20

    def has_projection(self, block: Block) -> bool:
        """Tell whether the block changes the shape, so that its skip needs a convolution."""
        return block.stride != 1 or block.c_in != block.c_out

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return every parameter's shape by name, from input to output, side branches last."""
        arch = self.arch
        shapes: dict[str, tuple[int, ...]] = {}

        def conv_norm(conv: str, norm: str, kernel: int, c_in: int, c_out: int) -> None:
            shapes[f"{conv}.weight"] = (kernel, kernel, c_in, c_out)
            shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (c_out,)

        def linear(name: str, c_in: int, c_out: int) -> None:
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (c_in, c_out), (c_out,)

        c_in = self.in_channels
        for index in range(arch.stem.convs):
            conv_norm(
                f"stem.conv{index}", f"stem.bn{index}", arch.stem.kernel, c_in, arch.stem_width
            )
            c_in = arch.stem_width
        for block in self.blocks():
            conv_norm(f"{block.name}.conv1", f"{block.name}.bn1", 3, block.c_in, block.c_out)
            conv_norm(f"{block.name}.conv2", f"{block.name}.bn2", 3, block.c_out, block.c_out)
            if self.has_projection(block):
                skip = f"{block.name}.skip"
                conv_norm(f"{skip}.conv", f"{skip}.bn", 1, block.c_in, block.c_out)
        features = arch.widths[-1]
        if arch.hidden:
            linear("head.hidden", features, arch.hidden)  # D20
            features = arch.hidden
        linear("head.fc", features, self.num_classes)
        for block in self.blocks():
            if block.branch not in (None, "head"):
                linear(f"{block.branch}.fc", block.c_out, self.num_classes)
        return shapes

    def count_parameters(self) -> int:
        """Count the elements of all parameters."""
        return sum(int(np.prod(shape)) for shape in self.shapes().values())


def is_side(name: str) -> bool:
    """Tell whether this parameter belongs to a side branch."""
    return name.startswith("branch.")


def init_params(net: Network, rng: np.random.Generator, dtype: Any = np.float64) -> Params:
    """Draw initial weights from normal distributions of mean 0, and set biases to 0.

        std(W_conv) = sqrt(2/(k^2 C_out))
        std(W_FC) = 1/n_in

    Batch norm starts at weight 1 and bias 0. The side branches are drawn last, so that with the
    same seed networks with and without branches have the same main path. Source: D18.
    """
    params: Params = {}
    for name, shape in net.shapes().items():
        if len(shape) == 4:
            std = np.sqrt(2 / (shape[0] * shape[1] * shape[3]))  # D18
            params[name] = rng.normal(0, std, shape).astype(dtype)
        elif len(shape) == 2:
            params[name] = rng.normal(0, 1 / shape[0], shape).astype(dtype)  # D18
        elif name.split(".")[-2].startswith("bn") and name.endswith(".weight"):
            params[name] = np.ones(shape, dtype)
        else:
            params[name] = np.zeros(shape, dtype)
    return params


def init_buffers(net: Network, dtype: Any = np.float64) -> Params:
    """Return initial running statistics, mean 0 and variance 1 for every batch norm."""
    buffers: Params = {}
    for name, shape in net.shapes().items():
        owner = name.rsplit(".", 1)[0]
        if owner.split(".")[-1].startswith("bn"):
            buffers[f"{owner}.running_mean"] = np.zeros(shape, dtype)
            buffers[f"{owner}.running_var"] = np.ones(shape, dtype)
    return buffers


def without_branches(net: Network, params: Params) -> tuple[Network, Params]:
    """Return the network and the parameters without the side branches (Algorithm 1, inference)."""
    main = {name: value for name, value in params.items() if not is_side(name)}
    return replace(net, branches="none"), main


def check_params(net: Network, params: Params) -> None:
    """Check names and shapes; ValueError names the first missing, unknown or wrong parameter."""
    shapes = net.shapes()
    for name, shape in shapes.items():
        if name not in params:
            raise ValueError(f"params: {name} is missing, want an array of shape {shape}")
        if params[name].shape != shape:
            raise ValueError(f"params: {name} has shape {params[name].shape}, want {shape}")
    for name in params:
        if name not in shapes:
            raise ValueError(f"params: {name} is not part of this network")
