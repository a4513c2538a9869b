"""The workload that is timed: a training step or an inference of a network on random images."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.network import Network, Params, architecture, init_buffers, init_params
from refsnn.ops import CONV_METHODS, Array, Ops, get_ops, validate
from refsnn.training.algorithm import main_logits, train_step
from refsnn.training.checkpoint import State
from refsnn.training.config import TrainConfig, make_config
from refsnn.training.optimizer import init_state
from refsnn.training.recipes import recipe_settings

LIBRARIES = ("refsnn", "torch.compile", "spikingjelly", "snntorch", "torch")
PHASES = ("train", "inference")
LINEAR_LIF = "linear-lif"  # the name of the workload without a network
CHANNELS, CLASSES = 3, 10
LR = 1e-8  # so low that firing rates do not change, with the same arithmetic
BATCHES = 10**6  # batches per epoch: so many that LR does not decay


@dataclass(frozen=True)
class Spec:
    """The task of a worker process, which is passed to it as JSON."""

    arch: str = "resnet8"
    recipe: str = ""  # a method of the literature; none: the paper's network
    phase: str = "train"
    library: str = "refsnn"
    steps: int = 4
    batch_size: int = 16
    size: int = 32  # height and width in pixels
    density: float | None = None  # spikes per neuron and step; None: as initialised
    threads: int | None = None  # None: as set by the environment
    ops: str = "numba"
    conv: str = "auto"
    memory: str = "normal"  # or low, as in training
    channels_last: bool = True  # memory format in PyTorch
    numbers: str = ""  # file of parameters and running statistics
    task: str = "steps"  # or prepare, peaks, choices
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.is_linear:
            architecture(self.arch)
        validate.one_of("phase", self.phase, PHASES)
        validate.one_of("library", self.library, LIBRARIES)
        validate.one_of("ops", self.ops, ("numba", "numpy"))
        validate.one_of("conv", self.conv, CONV_METHODS)
        validate.one_of("memory", self.memory, ("normal", "low"))
        if self.memory == "low" and self.is_linear:
            raise ValueError(f"memory: got 'low', but {self.arch} has no layers to compute again")
        if self.ops == "numpy" and self.conv != "auto":
            raise ValueError(f"conv: got {self.conv!r}, but ops numpy has one algorithm")
        for name in ("steps", "batch_size", "size"):
            validate.whole(name, getattr(self, name), 1)
        if self.threads is not None:
            validate.whole("threads", self.threads, 1)
        if self.recipe:
            recipe_settings(self.recipe)
            if self.is_linear:
                raise ValueError(f"recipe: got {self.recipe}, but {self.arch} is no network")
            if self.density is not None:
                raise ValueError(
                    f"density: got {self.density!r}, but recipes run at the rates that they start "
                    "with"
                )
        if self.density is not None and not 0 < self.density < 1:
            raise ValueError(
                f"density: got {self.density!r}, want spikes per neuron and step in (0, 1)"
            )

    @property
    def is_linear(self) -> bool:
        """Tell whether it is one linear layer and one of neurons (`bench.linear_lif`)."""
        return self.arch.partition(":")[0] == LINEAR_LIF

    @property
    def is_low(self) -> bool:
        """Tell whether it is a training step that keeps only spikes."""
        return self.memory == "low" and self.phase == "train"

    def to_json(self) -> str:
        """Return the spec as JSON."""
        return json.dumps(asdict(self))


def config_of(spec: Spec) -> TrainConfig:
    """Return the training settings: the recipe's, or the paper's; no side branches."""
    recipe = {"recipe": spec.recipe} if spec.recipe else {}
    return make_config(
        **recipe,
        method="vanilla",
        arch=spec.arch,
        steps=spec.steps,
        batch_size=spec.batch_size,
        epochs=1,
        lr=LR,
        ops=spec.ops,
    )


def network_of(spec: Spec) -> Network:
    """Return the network."""
    return config_of(spec).build_network(CHANNELS, CLASSES)


def ops_of(spec: Spec) -> Ops:
    """Return refsnn's operations."""
    return get_ops(spec.ops, spec.conv)


def batch_of(spec: Spec) -> tuple[Array, Array]:
    """Return images (N, H, W, C) and labels (N,), the same in every process."""
    rng = np.random.default_rng(spec.seed)
    images = rng.normal(size=(spec.batch_size, spec.size, spec.size, CHANNELS))
    return images.astype(np.float32), rng.integers(CLASSES, size=spec.batch_size)


def fresh_numbers(spec: Spec) -> tuple[Params, Params]:
    """Return initial parameters and running statistics."""
    net = network_of(spec)
    params = init_params(net, np.random.default_rng(spec.seed), np.float32)
    return params, init_buffers(net, np.float32)


def save_numbers(path: str, params: Params, buffers: Params) -> None:
    """Write parameters and running statistics to a file."""
    numbers: dict[str, Any] = {**params, **buffers}
    np.savez(Path(path), **numbers)


def read_numbers(spec: Spec) -> Params:
    """Read the arrays of the spec's file."""
    with np.load(spec.numbers) as archive:
        return {name: archive[name] for name in archive.files}


def load_numbers(spec: Spec) -> tuple[Params, Params]:
    """Read parameters and running statistics from the spec's file."""
    numbers, shapes = read_numbers(spec), network_of(spec).shapes()
    params = {name: numbers[name] for name in shapes}
    return params, {name: value for name, value in numbers.items() if name not in shapes}


def refsnn_step(spec: Spec, params: Params, buffers: Params) -> Callable[[Ops], None]:
    """Return a function that computes one step with given operations, and frees its arrays."""
    net, config, (images, labels) = network_of(spec), config_of(spec), batch_of(spec)
    if spec.phase == "inference":

        def infer(ops: Ops) -> None:
            main_logits(net, params, buffers, images, spec.steps, ops)

        return infer
    state = State(params, buffers, init_state(params, config.optimizer), np.random.default_rng(0))

    def train(ops: Ops) -> None:
        train_step(state, net, config, ops, (images, labels), BATCHES, not spec.is_low)

    return train


def with_batch_statistics(net: Network) -> Network:
    """Return the network whose running statistics become those of the last batch."""
    return replace(net, norm=replace(net.norm, momentum=1.0))
