"""The same network in PyTorch, with the neurons of SpikingJelly, of snnTorch, or of a plain loop.

Only the neuron differs. Everything works on (T N, C, H, W), time major, as PyTorch's
convolutions and batch norm want it; modules are named so that the state dict has
refsnn's names.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from refsnn.bench.peer_neurons import NEURONS
from refsnn.bench.workload import Spec, batch_of, check_stem, config_of, network_of
from refsnn.network import Block, Network, Params
from refsnn.ops import Array, Conv


def conv2d(c_in: int, c_out: int, kernel: int, conv: Conv) -> Any:
    return nn.Conv2d(c_in, c_out, kernel, conv.stride, conv.padding, bias=False)


class ResidualBlock(nn.Module):
    """conv-BN-LIF-conv-BN, plus the skip, then LIF (Eq. 5, D9)."""

    def __init__(self, block: Block, net: Network, neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        c_in, c_out, stride = block.c_in, block.c_out, (block.stride, block.stride)
        self.conv1 = conv2d(c_in, c_out, 3, Conv(stride, (1, 1)))
        self.bn1, self.lif1 = batch_norm(c_out, net), neuron()
        self.conv2 = conv2d(c_out, c_out, 3, Conv((1, 1), (1, 1)))
        self.bn2, self.lif2 = batch_norm(c_out, net), neuron()
        self.skip = nn.Sequential()
        if net.has_projection(block):
            self.skip.add_module("conv", conv2d(c_in, c_out, 1, Conv(stride)))
            self.skip.add_module("bn", batch_norm(c_out, net))

    def forward(self, x: Any) -> Any:
        y = self.lif1(self.bn1(self.conv1(x)))
        return self.lif2(self.bn2(self.conv2(y)) + self.skip(x))


def batch_norm(channels: int, net: Network) -> Any:
    return nn.BatchNorm2d(channels, eps=net.norm.eps, momentum=net.norm.momentum)


class SpikingResNet(nn.Module):
    """A vanilla network for sequences of `steps` (T N, C, H, W): logits (N, K)."""

    def __init__(self, net: Network, library: str, steps: int) -> None:
        super().__init__()
        check(net)
        arch, self.steps = net.arch, steps

        def neuron() -> nn.Module:
            return NEURONS[library](steps, net.lif)

        self.stem = nn.Sequential()
        self.stem.add_module(
            "conv0", conv2d(net.in_channels, arch.stem_width, arch.stem.kernel, arch.stem.conv(0))
        )
        self.stem.add_module("bn0", batch_norm(arch.stem_width, net))
        self.stem.add_module("lif0", neuron())
        self.stages = [f"stage{index}" for index in range(1, len(arch.depths) + 1)]
        for stage in self.stages:
            self.add_module(stage, nn.Sequential())
        for block in net.blocks():
            stage, name = block.name.split(".")
            self.get_submodule(stage).add_module(name, ResidualBlock(block, net, neuron))
        self.head, features = nn.Sequential(), arch.widths[-1]
        if arch.hidden:
            self.head.add_module("hidden", nn.Linear(features, arch.hidden))
            self.head.add_module("lif", neuron())
            features = arch.hidden
        self.head.add_module("fc", nn.Linear(features, net.num_classes))

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.head(x.mean((2, 3))).unflatten(0, (self.steps, -1)).mean(0)


def check(net: Network) -> None:
    """ValueError for what is not built here."""
    check_stem(net.arch)
    if net != Network(net.arch, net.in_channels, net.num_classes, branches="none"):
        raise ValueError(f"net: got {net}, want one without branches and all else by default")


def torch_order(value: Array) -> Any:
    """A copy as PyTorch has it: images and weights channels first, linear (out, in)."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim, tuple(range(value.ndim)))
    return torch.from_numpy(np.array(value.transpose(axes), order="C"))


def build(net: Network, library: str, steps: int, numbers: Params, channels_last: bool) -> Any:
    """The model with these parameters and running statistics, in their dtype.

    Channels last is the quicker on one core (AVX-512): resnet20 trained 4 to 14 % faster with
    each of the three neurons, resnet18 about as fast as with (N, C, H, W) in memory.
    """
    model = SpikingResNet(net, library, steps)
    (dtype,) = {value.dtype for value in numbers.values()}
    model = model.to(getattr(torch, str(dtype)))
    state = {name: torch_order(value) for name, value in numbers.items()}
    own, surplus = model.load_state_dict(state, strict=False)
    assert not surplus, surplus
    assert all(".lif" in name or name.endswith("num_batches_tracked") for name in own), own
    return model.to(memory_format=torch.channels_last) if channels_last else model


def reset(model: Any, library: str) -> None:
    """Forget all potentials."""
    if library == "spikingjelly":
        from spikingjelly.activation_based import functional

        functional.reset_net(model)


def to_images(images: Array, channels_last: bool) -> Any:
    """(N, H, W, C) -> (N, C, H, W)"""
    x = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def encode(x: Any, steps: int) -> Any:
    """(N, C, H, W) -> (T N, C, H, W), the same image at every step (D7)."""
    return torch.cat([x] * steps)  # keeps the memory format


def peer_step(spec: Spec, params: Params, buffers: Params) -> Callable[[], Any]:
    """One step of the library's: logits or loss, without the graph, which is freed within."""
    library, config = spec.library, config_of(spec)
    images, labels = batch_of(spec)
    model = build(network_of(spec), library, spec.steps, params | buffers, spec.channels_last)
    x, targets = to_images(images, spec.channels_last), torch.from_numpy(labels)

    def infer() -> Any:
        reset(model, library)
        with torch.no_grad():
            return model(encode(x, spec.steps))

    def train() -> Any:
        reset(model, library)
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(encode(x, spec.steps)), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    if spec.phase == "inference":
        model.eval()
        return infer
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        fused=True,  # the quickest on CPUs
    )
    return train
