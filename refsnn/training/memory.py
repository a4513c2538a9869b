"""How much memory a training step takes, and whether that is there."""

import numpy as np

from refsnn.network import Network
from refsnn.ops import get_ops
from refsnn.system import available_memory
from refsnn.training.config import TrainConfig

GRADIENTS = 5  # arrays of a layer's size that a backward pass holds at a time
COPIES = {"sgd": 5, "adamw": 7}  # of the parameters in an update: gradients, old and new numbers


def step_bytes(net: Network, config: TrainConfig, shape: tuple[int, ...]) -> int:
    """Estimate the bytes that the arrays of a training step take, where all is kept.

    The forward pass keeps each convolution's output (in NumPy some more arrays of its size) and the
    spikes; the backward pass holds a few arrays of the largest layer.
    """
    size = 4 if config.dtype == "float32" else 8
    ops, numbers = get_ops(config.ops), config.dtype
    fused = ops.fuses(np.dtype(numbers), net.lif, net.norm_constants, net.neuron_model)
    fused = fused and config.objective.make_potential_loss() is None
    each = size + 1 if fused else 6 * size
    passes_spikes = net.block in ("basic", "sew_and", "sew_iand")
    if not passes_spikes or (net.neuron_model is not None and not net.neuron_model.binary):
        each += size
    layers = layer_sizes(net, *shape[-3:-1])
    elements = [config.steps * config.batch_size * n for n in layers]
    kept, largest = each * sum(elements), GRADIENTS * size * max(elements)
    parameters = COPIES[config.optimizer.optimizer] * size * net.count_parameters()
    return kept + largest + parameters


def layer_sizes(net: Network, height: int, width: int) -> list[int]:
    """Return the number of elements of each convolution's output, for one image and step."""
    stem, sizes = net.arch.stem, []
    for index in range(stem.convs):
        if index == 0:
            height, width = -(-height // stem.stride), -(-width // stem.stride)
        sizes.append(height * width * net.arch.stem_width)
    if (pool := stem.pool) is not None:
        height, width = (
            (n + 2 * pool.padding - pool.kernel) // pool.stride + 1 for n in (height, width)
        )
    for block in net.blocks():
        height, width = -(-height // block.stride), -(-width // block.stride)
        sizes += [height * width * block.c_out] * (3 if net.has_projection(block) else 2)
    return sizes


def keeps_all(net: Network, config: TrainConfig, shape: tuple[int, ...]) -> bool:
    """Tell whether a step keeps all that its backward pass needs, or computes it again.

    `shape` is that of the images, (..., H, W, C). Source: the setting `memory`, whose `auto`
    compares a step's memory with what is available.
    """
    if config.memory != "auto":
        return config.memory == "normal"
    return step_bytes(net, config, shape) < available_memory()
