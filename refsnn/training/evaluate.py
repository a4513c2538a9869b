"""Inference on a run: Algorithm 1's second half, with the side branches removed."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsnn.data import Dataset, Loader, in_order, load, load_images
from refsnn.network import Forward, Network, encode, forward, without_branches
from refsnn.network import outputs as network_outputs
from refsnn.ops import Array, get_ops, loss_value
from refsnn.training.algorithm import logits_by_step, main_forward
from refsnn.training.checkpoint import State
from refsnn.training.config import TrainConfig
from refsnn.training.folder import load_state, open_run, read_config
from refsnn.training.trainer import network_for

BATCH = 32  # images whose activations are held at a time


class Outputs(NamedTuple):
    """A network's outputs for images, in their order."""

    labels: Array  # (N,)
    logits: Array  # (N, K), of the main branch
    predictions: Array  # (T, N): the class with the highest logit after the first 1 … T steps
    loss: float  # the mean


def compute_outputs(
    state: State, net: Network, config: TrainConfig, batches: Iterable[tuple[Array, Array]]
) -> Outputs:
    """Compute the main branch's outputs for batches of images and labels."""
    criterion, ops = config.make_loss(), get_ops(config.ops)
    all_labels, all_logits, predictions, loss, count = [], [], [], 0.0, 0
    for images, labels in batches:
        run = main_forward(net, state.params, state.buffers, images, config.steps, ops)
        *_, logits = by_step = list(logits_by_step(run))
        predictions.append(np.stack([some.argmax(axis=1) for some in by_step]))
        loss += loss_value(criterion, network_outputs(run, criterion)[-1], labels)[0] * len(labels)
        all_labels.append(labels)
        all_logits.append(logits)
        count += len(labels)
    return Outputs(
        np.concatenate(all_labels),
        np.concatenate(all_logits),
        np.concatenate(predictions, axis=1),
        loss / count,
    )


def confusion_matrix(labels: Array, predictions: Array, classes: int) -> Array:
    """Return the number of images (K, K) of each label for which each class was predicted."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions), np.ones(len(labels), np.int64))
    return matrix


def figures(outputs: Outputs) -> dict[str, Any]:
    """Return accuracy and loss, accuracy by time step and by class, and the confusion matrix."""
    labels, _, predictions, loss = outputs
    matrix = confusion_matrix(labels, predictions[-1], outputs.logits.shape[1])
    images = matrix.sum(axis=1)
    return {
        "test_accuracy": int(matrix.trace()) / len(labels),
        "test_loss": loss,
        "images": len(labels),
        "accuracy_by_step": [float((some == labels).mean()) for some in predictions],
        "classes": [
            {
                "class": index,
                "images": int(count),
                "accuracy": int(matrix[index, index]) / int(count) if count else None,
            }
            for index, count in enumerate(images)
        ],
        "confusion": matrix.tolist(),
    }


def evaluate_run(
    folder: Path, workers: int | None = None, data: str | None = None, best: bool = False
) -> tuple[dict[str, Any], Outputs]:
    """Compute the outputs of a run's network for the held-out images, and figures of them.

    The network is that of the last checkpoint, or with `best` of the best one by validation.

    `data` names another data set than the run's, or a file of images and labels (`load_images`);
    its images are standardised as those of the training. ValueError says what does not fit.
    """
    config, net, state, dataset, make = open_for_test(folder, data, best)
    with Loader(dataset, make, workers) as loader:
        batches = loader.batches("test", in_order(len(dataset.test.labels)), config.dtype)
        outputs = compute_outputs(state, net, config, batches)
    kept = without_branches(net, state.params)[0].count_parameters()
    return figures(outputs) | {
        "dataset": dataset.name,
        "arch": config.network.arch,
        "method": config.objective.method,
        "iteration": state.iteration,
        "parameters": kept,
        "parameters_removed": net.count_parameters() - kept,
    }, outputs


class Opened(NamedTuple):
    """A run with images to test it on, and what loads these in another process."""

    config: TrainConfig
    net: Network
    state: State
    dataset: Dataset
    make: Callable[[], Dataset]


def open_for_test(folder: Path, data: str | None, best: bool = False) -> Opened:
    """Read a run, and the images that it is tested on: its own held-out ones, or `data`."""
    if data is not None:
        config, net, state = open_run(folder, best)
        make = partial(other_data, data, config, net, state)
        return Opened(config, net, state, make(), make)
    config = read_config(folder)
    make = partial(load, config.data.dataset, config.data_options(begun=True))
    dataset = make()
    features = config.objective.learns_features
    net = network_for(config, dataset, open_run(folder, best)[1].aligned if features else 0)
    return Opened(config, net, load_state(folder, config, net, best), dataset, make)


def other_data(name: str, config: TrainConfig, net: Network, state: State) -> Dataset:
    """Load other images for a run's network, standardised as those of its training."""
    if state.mean.size == 0:
        raise ValueError(
            "data: the run is of version 0.1, which did not keep the mean and the standard "
            "deviation of its images"
        )
    split, label = load_images(name, config.data_options(), net.num_classes)
    channels = split.images.shape[-1]
    if channels != net.in_channels:
        raise ValueError(f"data: {name}: got images of {channels} channels, want {net.in_channels}")
    frames = split.images.shape[1] if len(split.images.shape) == 5 else config.steps
    if frames != config.steps:
        raise ValueError(f"data: {name}: got sequences of {frames} frames, want {config.steps}")
    return Dataset(label, split, split, net.num_classes, state.mean, state.std)


class Tested(NamedTuple):
    """The run whose network is tested, and the data set's name."""

    config: TrainConfig
    dataset: str


def forward_passes(
    folder: Path,
    data: str | None,
    images: int | None,
    workers: int | None,
    best: bool = False,
) -> Iterator[tuple[Tested, Forward, Array]]:
    """Yield forward passes of a run's network that keep all caches, with the images' labels.

    They are those of the first `images` (None: all) of the held-out ones, or of `data` as for
    `evaluate_run`. The network is that of the last epoch, or with `best` of the best one. The side
    branches are removed, and batch norm uses its running statistics.
    """
    config, net, state, dataset, make = open_for_test(folder, data, best)
    ops = get_ops(config.ops)
    net, params = without_branches(net, state.params)
    count = len(dataset.test.labels)
    plan = in_order(count if images is None else min(images, count), BATCH)
    with Loader(dataset, make, workers) as loader:
        for batch, labels in loader.batches("test", plan, config.dtype):
            x_seq = encode(batch, config.steps)
            run = forward(net, params, state.buffers, x_seq, ops, training=False)
            yield Tested(config, dataset.name), run, labels
