"""The step that is timed in PyTorch: the network of `refsnn.pytorch` with a library's neurons."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from refsnn import pytorch
from refsnn.bench.peer_neurons import NEURONS
from refsnn.bench.workload import Spec, batch_of, config_of, network_of
from refsnn.network import Network, Params
from refsnn.ops import LIF, Array


def describe(net: Network) -> dict[str, Any]:
    """Return the description of the network that `refsnn.pytorch.Network` reads."""
    arch, stem, pool = net.arch, net.arch.stem, net.arch.stem.pool
    return {
        "in_channels": net.in_channels,
        "num_classes": net.num_classes,
        "stem": {
            "convs": stem.convs,
            "kernel": stem.kernel,
            "stride": stem.stride,
            "width": arch.stem_width,
            "pool": pool and (pool.kernel, pool.stride, pool.padding),
        },
        "depths": arch.depths,
        "widths": arch.widths,
        "hidden": arch.hidden,
        "branches": net.branches,
        "downsample": net.downsample,
        "readout": net.readout,
        "norm": asdict(net.norm),
    }


def build(net: Network, library: str, steps: int, numbers: Params, channels_last: bool) -> Any:
    """Return the model with these parameters and running statistics, in their dtype.

    Channels last is the faster memory format on one core (AVX-512): training resnet20 takes 4 to
    14 % less time with each of the three neurons, training resnet18 about as much as with
    (N, C, H, W). ValueError for another neuron than the paper's.
    """
    models = net.neuron_model, net.norm_model
    plain = models == (None, None) and net.block == "basic" and net.merge_scale == 1
    if net.lif != LIF() or not plain or net.norm_identity:
        raise ValueError(f"net: got {net}, want the default neuron and norm, as all libraries have")
    neuron = NEURONS[library]
    model = pytorch.Network(describe(net), steps, lambda steps: neuron(steps, net.lif))
    (dtype,) = {value.dtype for value in numbers.values()}
    model = model.to(getattr(torch, str(dtype)))
    state = {name: pytorch.to_torch(value) for name, value in numbers.items()}
    own, surplus = model.load_state_dict(state, strict=False)
    assert not surplus, surplus
    assert all(".lif" in name or name.endswith("num_batches_tracked") for name in own), own
    return model.to(memory_format=torch.channels_last) if channels_last else model


def reset(model: Any, library: str) -> None:
    """Set all potentials that a library keeps between calls to zero."""
    if library == "spikingjelly":
        from spikingjelly.activation_based import functional

        functional.reset_net(model)


def to_images(images: Array, channels_last: bool) -> Any:
    """Copy images (N, H, W, C) into a tensor (N, C, H, W)."""
    x = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def encode(x: Any, steps: int) -> Any:
    """Return (T, N, C, H, W): the images (N, C, H, W) at every step (D7)."""
    return torch.cat([x] * steps).unflatten(0, (steps, -1))  # keeps the memory format


def peer_step(spec: Spec, params: Params, buffers: Params) -> Callable[[], Any]:
    """Return a function that computes one step in the library, and returns its logits or loss.

    The graph of a step is freed within the call.
    """
    library, config = spec.library, config_of(spec)
    images, labels = batch_of(spec)
    model: Any = build(network_of(spec), library, spec.steps, params | buffers, spec.channels_last)
    x, targets = to_images(images, spec.channels_last), torch.from_numpy(labels)

    if library == "torch.compile":
        model = torch.compile(model)  # in its default mode, when it is first called

    def infer() -> Any:
        reset(model, library)
        with torch.no_grad():
            return model(encode(x, spec.steps))["head"]

    def train() -> Any:
        reset(model, library)
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(encode(x, spec.steps))["head"], targets)
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
