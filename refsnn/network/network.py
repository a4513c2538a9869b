"""The structure of a spiking ResNet: blocks, branches, names and shapes of all parameters."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from refsnn.network.architecture import Architecture
from refsnn.ops import LIF, Array, BatchNorm, Folded, Neuron, Norm, validate

Params = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]
#: the paper's block (Eq. 5), those of SEW-ResNet by how they join spikes, and MS-ResNet's
BLOCKS = ("basic", "sew_add", "sew_and", "sew_iand", "ms")
ALIGN = "align.conv.weight"  # of the convolution before features are compared with a teacher's
POSITIONS = ("none", "stage", "block")  # D11: of side branches, besides blocks by name


def check_kind(name: str, value: Any, kind: type) -> None:
    """Check that a value is an object of a class; TypeError names the class, and how to make it."""
    if not isinstance(value, kind):
        got = validate.shown(value)
        made = f": architecture({got})" if name == "arch" and isinstance(value, str) else ""
        raise TypeError(f"{name}: got {got}, want an object of class {kind.__name__}{made}")


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
    branches: str = "stage"  # D11: none, stage, block, or names of blocks with commas in between
    lif: LIF = field(default_factory=LIF)
    norm: BatchNorm = field(default_factory=BatchNorm)
    downsample: str = "conv"  # D9: conv, or avgpool before a 1x1 conv of stride 1
    readout: str = "mean"  # D10: mean or sum of the logits over time
    neuron_model: Neuron | None = None  # with parameters that start at `lif`; None: plain LIFs
    norm_model: Norm | None = None  # with other parameters than gamma and beta; None: `norm` alone
    block: str = "basic"  # one of BLOCKS
    zero_init: bool = False  # blocks start as their skips: their last batch norm's weight at 0
    merge_scale: float = 1.0  # M2: factor on both batch norms that meet in a block's sum
    norm_identity: bool = False  # M2: a batch norm on skips without a convolution too
    steps: int = 0  # T, where parameters belong to one step each; 0: any T
    aligned: int = 0  # channels of the teacher's features that the last block's are compared with

    def __post_init__(self) -> None:
        for name, kind in (("arch", Architecture), ("lif", LIF), ("norm", BatchNorm)):
            check_kind(name, getattr(self, name), kind)
        validate.whole("in_channels", self.in_channels, 1)
        validate.whole("num_classes", self.num_classes, 2)
        self.check_branches()
        validate.one_of("downsample", self.downsample, ("conv", "avgpool"))
        validate.one_of("readout", self.readout, ("mean", "sum"))
        validate.one_of("block", self.block, BLOCKS)
        validate.positive("merge_scale", self.merge_scale)
        for name in ("norm_identity", "zero_init"):
            validate.flag(name, getattr(self, name))
        if self.zero_init:
            self.check_zero_init()
        if self.block.startswith("sew") and (self.norm_identity or self.merge_scale != 1):
            name = "norm_identity" if self.norm_identity else "merge_scale"
            got = validate.shown(getattr(self, name))
            raise ValueError(f"{name}: got {got}, but block {self.block} adds no normalised terms")
        validate.as_floats(self, "merge_scale")
        if self.neuron_model is not None:
            check_kind("neuron_model", self.neuron_model, Neuron)
            self.neuron_model.check(self.lif)
        if self.norm_model is not None:
            check_kind("norm_model", self.norm_model, Norm)
            self.norm_model.check(self.norm)
            if self.norm_model.of_inputs and (self.norm_identity or self.merge_scale != 1):
                name = "norm_identity" if self.norm_identity else "merge_scale"
                got = validate.shown(getattr(self, name))
                raise ValueError(f"{name}: got {got}, but PSP-BN normalises no terms of sums")
        if self.by_step:
            validate.whole("steps", self.steps, 1)
        validate.whole("aligned", self.aligned, 0)

    @property
    def by_step(self) -> bool:
        """Tell whether parameters belong to one step each, so that T is `steps`."""
        models = self.neuron_model, self.norm_model
        return any(model is not None and model.by_step for model in models)

    @property
    def is_folded(self) -> bool:
        """Tell whether batch norms are folded, so that it serves inference alone."""
        return isinstance(self.norm_model, Folded)

    @property
    def norm_constants(self) -> BatchNorm:
        """Return the constants of its batch norms: `norm`, but what `norm_model` fixes."""
        return self.norm if self.norm_model is None else self.norm_model.constants(self.norm)

    def check_branches(self) -> None:
        """Check where side branches attach; ValueError says where they can."""
        if self.branches in POSITIONS:
            return
        *names, last = [
            f"stage{stage}.block{index}"
            for stage, depth in enumerate(self.arch.depths, 1)
            for index in range(depth)
        ]
        given = [name.strip() for name in str(self.branches).split(",")]
        for name in given:
            if name == last:
                raise ValueError(f"branches: got {last}, the last block, which has the main branch")
            if name not in names:
                hint = validate.nearest(name, [*POSITIONS, *names])
                raise ValueError(f"branches: got {validate.shown(name)}{hint}")
        if len(set(given)) < len(given):
            raise ValueError(f"branches: got {self.branches}, want each block once")

    def check_zero_init(self) -> None:
        """Check that blocks can start as their skips; ValueError says why not."""
        if self.block == "basic":
            raise ValueError(
                "zero_init: got True, but a basic block fires its skip again; want block sew_add, "
                "sew_and, sew_iand or ms"
            )
        if self.block == "sew_and" and (self.neuron_model is not None or self.norm_model):
            raise ValueError(
                "zero_init: got True, but block sew_and then needs neurons that fire at every step "
                "of a current of 1.5 v_th: plain LIFs after the paper's batch norm"
            )

    def ends_block(self, neurons: str) -> bool:
        """Tell whether this layer of neurons is in the stem, or takes what leaves a block."""
        if neurons.startswith("stem.") or neurons == "final.lif":
            return True
        last = "lif1" if self.block == "ms" else "lif2"
        return neurons.endswith(f".{last}") and "skip" not in neurons

    def has_branch(self, block: str, ends_stage: bool) -> bool:
        """Tell whether a side branch attaches to the block of this name (D11)."""
        if self.branches in POSITIONS:
            return self.branches == "block" or (self.branches == "stage" and ends_stage)
        return block in map(str.strip, self.branches.split(","))

    def blocks(self) -> list[Block]:
        """List the residual blocks in order; the last one carries the main branch, `head`."""
        arch, blocks, c_in = self.arch, [], self.arch.stem_width
        for stage, (depth, width) in enumerate(zip(arch.depths, arch.widths, strict=True), 1):
            for index in range(depth):
                name, last = f"stage{stage}.block{index}", index == depth - 1
                stride = 2 if stage > 1 and index == 0 else 1
                if last and stage == len(arch.depths):
                    branch: str | None = "head"
                elif self.has_branch(name, last):  # D11
                    branch = f"branch.{f'stage{stage}' if self.branches == 'stage' else name}"
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
        names = [f"stem.lif{index}" for index in range(self.fired_in_stem)]
        for block in self.blocks():
            names += [f"{block.name}.{layer}" for layer in self.neurons_of(block)]
        names += ["final.lif"] * self.passes_currents
        return names + ["head.lif"] * bool(self.arch.hidden)  # D20

    @property
    def passes_currents(self) -> bool:
        """Tell whether blocks pass on currents; then neurons follow the last one."""
        return self.block == "ms"

    @property
    def fired_in_stem(self) -> int:
        """Return how many of the stem's convolutions neurons follow."""
        return self.arch.stem.convs - self.passes_currents

    def neurons_of(self, block: Block) -> dict[str, int]:
        """Return the channels of a block's layers of neurons by name, from input to output."""
        layers = {"lif1": block.c_in if self.passes_currents else block.c_out, "lif2": block.c_out}
        if self.block.startswith("sew") and self.has_projection(block):
            layers["skip.lif"] = block.c_out
        return layers

    def has_projection(self, block: Block) -> bool:
        """Tell whether the block changes the shape, so that its skip needs a convolution."""
        return block.stride != 1 or block.c_in != block.c_out

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return every parameter's shape by name, from input to output, side branches last."""
        arch = self.arch
        shapes: dict[str, tuple[int, ...]] = {}

        def conv_norm(conv: str, norm: str, kernel: int, c_in: int, c_out: int) -> None:
            shapes[f"{conv}.weight"] = (kernel, kernel, c_in, c_out)
            of_inputs = self.norm_model is not None and self.norm_model.of_inputs
            norm_only(conv if self.is_folded else norm, c_in if of_inputs else c_out)

        def norm_only(norm: str, channels: int) -> None:
            own: Shapes = {"weight": (channels,), "bias": (channels,)}
            if self.norm_model is not None:
                own = self.norm_model.shapes(channels, self.steps)
            shapes.update((f"{norm}.{key}", shape) for key, shape in own.items())

        def linear(name: str, c_in: int, c_out: int) -> None:
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (c_in, c_out), (c_out,)

        def neurons(name: str, channels: int) -> None:
            if self.neuron_model is not None:
                own = self.neuron_model.shapes(channels, self.steps)
                shapes.update((f"{name}.{key}", shape) for key, shape in own.items())

        c_in = self.in_channels
        for index in range(arch.stem.convs):
            conv_norm(
                f"stem.conv{index}", f"stem.bn{index}", arch.stem.kernel, c_in, arch.stem_width
            )
            if index < self.fired_in_stem:
                neurons(f"stem.lif{index}", arch.stem_width)
            c_in = arch.stem_width
        for block in self.blocks():
            conv_norm(f"{block.name}.conv1", f"{block.name}.bn1", 3, block.c_in, block.c_out)
            layers = self.neurons_of(block)
            neurons(f"{block.name}.lif1", layers["lif1"])
            conv_norm(f"{block.name}.conv2", f"{block.name}.bn2", 3, block.c_out, block.c_out)
            if self.has_projection(block):
                skip = f"{block.name}.skip"
                conv_norm(f"{skip}.conv", f"{skip}.bn", 1, block.c_in, block.c_out)
            elif self.norm_identity:
                name, channels = f"{block.name}.skip.bn", block.c_out
                if self.is_folded:
                    assert self.norm_model is not None
                    shape = (self.steps, channels) if self.norm_model.by_step else (channels,)
                    shapes |= {f"{name}.weight": shape, f"{name}.bias": shape}
                else:
                    norm_only(name, channels)  # M2
            neurons(f"{block.name}.lif2", layers["lif2"])
            if "skip.lif" in layers:
                neurons(f"{block.name}.skip.lif", layers["skip.lif"])
        features = arch.widths[-1]
        if self.passes_currents:
            neurons("final.lif", features)
        if arch.hidden:
            linear("head.hidden", features, arch.hidden)  # D20
            neurons("head.lif", arch.hidden)
            features = arch.hidden
        linear("head.fc", features, self.num_classes)
        for block in self.blocks():
            if block.branch not in (None, "head"):
                linear(f"{block.branch}.fc", block.c_out, self.num_classes)
        if self.aligned not in (0, arch.widths[-1]):
            shapes[ALIGN] = (1, 1, arch.widths[-1], self.aligned)  # KDSNN
        return shapes

    def buffer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every batch norm's running statistics by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in self.shapes().items():
            layer, _, kind = name.rpartition(".")
            channels = shape[-1:]
            if is_norm(name) and self.is_folded:
                continue
            if is_norm(name):
                by_step = self.norm_model is not None and self.norm_model.running_by_step
                kept = (self.steps, *channels) if by_step else channels
            elif is_neuron(name) and self.neuron_model is not None:
                kept = channels if self.neuron_model.has_statistics else ()
            else:
                continue
            if kind == "weight" and kept:
                shapes |= {f"{layer}.running_mean": kept, f"{layer}.running_var": kept}
        return shapes

    def count_parameters(self) -> int:
        """Count the elements of all parameters."""
        return sum(int(np.prod(shape)) for shape in self.shapes().values())


def owner(name: str) -> str:
    """Return the last name of the layer that a parameter belongs to, such as bn1."""
    return name.rpartition(".")[0].rpartition(".")[2]


def is_norm(name: str) -> bool:
    """Tell whether this parameter belongs to a batch norm."""
    return owner(name).startswith("bn")


def is_neuron(name: str) -> bool:
    """Tell whether this parameter belongs to a layer of neurons."""
    return owner(name).startswith("lif")


def is_side(name: str) -> bool:
    """Tell whether this parameter serves training alone: a side branch's, or a teacher's."""
    return name == ALIGN or name.startswith("branch.")


def init_params(net: Network, rng: np.random.Generator, dtype: Any = np.float64) -> Params:
    """Draw initial weights from normal distributions of mean 0, and set biases to 0.

        std(W_conv) = sqrt(2/(k^2 C_out))
        std(W_FC) = 1/n_in

    Batch norm starts at weight 1 and bias 0, and the parameters of a neuron or batch norm model
    where it says. The side branches are drawn last, so that with the same seed networks with and
    without branches have the same main path. ValueError for a folded network. Source: D18, M4.
    """
    if net.is_folded:
        raise ValueError("net: is folded, and has no parameters to be trained")
    params: Params = {}
    for name, shape in net.shapes().items():
        if is_neuron(name) or (is_norm(name) and net.norm_model is not None):
            params[name] = initial(net, name, shape).astype(dtype)
        elif len(shape) == 4:
            std = np.sqrt(2 / (shape[0] * shape[1] * shape[3]))  # D18
            params[name] = rng.normal(0, std, shape).astype(dtype)
        elif len(shape) == 2:
            params[name] = rng.normal(0, 1 / shape[0], shape).astype(dtype)  # D18
        elif is_norm(name) and name.endswith(".weight"):
            params[name] = np.ones(shape, dtype)
        else:
            params[name] = np.zeros(shape, dtype)
    if net.zero_init:
        for block in net.blocks():
            params[f"{block.name}.bn2.weight"][...] = 0
            if net.block == "sew_and":  # spikes at every step let the skip through
                params[f"{block.name}.bn2.bias"][...] = 1.5 * net.lif.v_th  # M4
    return params


def initial(net: Network, name: str, shape: tuple[int, ...]) -> Array:
    """Return a parameter of the neurons' or the batch norms' model before training."""
    key, channels = name.rpartition(".")[2], shape[-1]
    if is_norm(name):
        assert net.norm_model is not None
        return net.norm_model.initial(channels, net.steps)[key]
    assert net.neuron_model is not None
    return net.neuron_model.initial(net.lif, channels, net.steps)[key]


def limited(net: Network, params: Params) -> Params:
    """Return parameters after an update, those of neurons inside of their limits."""
    if net.neuron_model is None:
        return params
    layers: dict[str, Params] = {}
    for name in filter(is_neuron, params):
        layer, _, key = name.rpartition(".")
        layers.setdefault(layer, {})[key] = params[name]
    return params | {
        f"{layer}.{key}": value
        for layer, own in layers.items()
        for key, value in net.neuron_model.limited(own).items()
    }


def init_buffers(net: Network, dtype: Any = np.float64) -> Params:
    """Return initial running statistics, mean 0 and variance 1 for every batch norm."""
    return {
        name: (np.ones if name.endswith("var") else np.zeros)(shape, dtype)
        for name, shape in net.buffer_shapes().items()
    }


def without_branches(net: Network, params: Params) -> tuple[Network, Params]:
    """Return the network and the parameters without the side branches (Algorithm 1, inference).

    What compares features with a teacher's is left out too.
    """
    main = {name: value for name, value in params.items() if not is_side(name)}
    return replace(net, branches="none", aligned=0), main


def check_params(net: Network, params: Params) -> None:
    """Check names and shapes; ValueError names the first that is missing, surplus or different."""
    check_shapes("params", params, net.shapes())
    for name in params.keys() - net.shapes().keys():
        raise ValueError(f"params: {name} is not part of this network")


def check_buffers(net: Network, buffers: Params) -> None:
    """Check the running statistics' names and shapes; ValueError names the first that is wrong."""
    try:
        check_shapes("buffers", buffers, net.buffer_shapes())
    except ValueError as error:
        hint = "" if buffers else "; init_buffers(net) makes them"
        raise ValueError(f"{error}{hint}") from None


def check_shapes(group: str, arrays: Params, shapes: dict[str, tuple[int, ...]]) -> None:
    """Check that there is an array of each shape; ValueError names the first that is wrong."""
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"{group}: {name} is missing, want an array of shape {shape}")
        if arrays[name].shape != shape:
            raise ValueError(f"{group}: {name} has shape {arrays[name].shape}, want {shape}")
