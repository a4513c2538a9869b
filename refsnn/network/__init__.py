"""Spiking ResNets with side branches: structure, parameters, forward and backward."""

from refsnn.network.architecture import ARCHITECTURES, Architecture, Stem, architecture
from refsnn.network.fold import fold
from refsnn.network.model import (
    Forward,
    backward,
    encode,
    forward,
    neuron_caches,
    outputs,
    potential_value,
)
from refsnn.network.network import (
    ALIGN,
    BLOCKS,
    Block,
    Network,
    Params,
    check_params,
    init_buffers,
    init_params,
    is_neuron,
    is_norm,
    is_side,
    limited,
    without_branches,
)

__all__ = [
    "ALIGN",
    "ARCHITECTURES",
    "BLOCKS",
    "Architecture",
    "Block",
    "Forward",
    "Network",
    "Params",
    "Stem",
    "architecture",
    "backward",
    "check_params",
    "encode",
    "fold",
    "forward",
    "init_buffers",
    "init_params",
    "is_neuron",
    "is_norm",
    "is_side",
    "limited",
    "neuron_caches",
    "outputs",
    "potential_value",
    "without_branches",
]
