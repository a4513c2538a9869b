"""Teachers: what a network learns beside the labels, from a run or from a file (KDSNN)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refsnn.data import Dataset
from refsnn.files.arrays import read_whole
from refsnn.network import (
    Params,
    encode,
    forward,
    init_buffers,
    init_params,
    without_branches,
)
from refsnn.ops import Array, get_ops
from refsnn.training.config import TrainConfig
from refsnn.training.folder import open_run


@dataclass(frozen=True)
class Teacher:
    """A teacher's answers, logits (N, K) or features (N, H, W, C)."""

    #: answers to images as the network sees them, of these indices in the training split
    answers: Callable[[Array, Array], Array]
    shape: tuple[int, ...]  # of the answer to one image
    identity: Params  # arrays that the answers follow from


def load_teacher(config: TrainConfig, dataset: Dataset) -> Teacher | None:
    """Return the teacher that the settings name, or None.

    ValueError or OSError says what does not fit: another number of classes, images or steps, or a
    file's answers to images that augmentation changes.
    """
    if not config.objective.teacher:
        return None
    path = Path(config.objective.teacher)
    make = from_run if path.is_dir() else from_file
    teacher = make(path, config, dataset)
    if not config.objective.learns_features and teacher.shape != (dataset.num_classes,):
        raise ValueError(
            f"teacher: {path} knows {teacher.shape[-1]} classes, but {dataset.name} has "
            f"{dataset.num_classes}"
        )
    if config.objective.learns_features:
        pixels = pixels_of_features(config, dataset)
        if (got := teacher.shape[:2]) != pixels:
            raise ValueError(
                f"teacher: {path} has features of {got[0]}x{got[1]} pixels, but the last block has "
                f"{pixels[0]}x{pixels[1]}"
            )
    return teacher


def pixels_of_features(config: TrainConfig, dataset: Dataset) -> tuple[int, ...]:
    """Return the rows and columns of what the network's last block passes on."""
    height, width = dataset.train.images.shape[-3:-1]
    thin = replace(config.changed(width=1e-9).build_network(1, 2), branches="none")
    params = init_params(thin, np.random.default_rng(0), np.float32)
    x_seq = np.zeros((max(thin.steps, 1), 1, height, width, 1), np.float32)
    buffers = init_buffers(thin, np.float32)
    rates = forward(thin, params, buffers, x_seq, get_ops("numpy"), training=False).rates
    assert rates is not None
    return rates.shape[1:3]


def features_of(teacher: Teacher | None, config: TrainConfig) -> int:
    """Return how many channels the features have that are learnt, 0 where none are."""
    return teacher.shape[-1] if teacher is not None and config.objective.learns_features else 0


def from_run(path: Path, config: TrainConfig, dataset: Dataset) -> Teacher:
    """Return the trained network of a run as a teacher; it gets the same augmented images."""
    its, net, state = open_run(path)
    net, params = without_branches(net, state.params)
    if config.objective.learns_features:
        net = replace(net, aligned=net.arch.widths[-1])
    if not state.mean.size:
        raise ValueError(f"teacher: {path} is of version 0.1, which kept no mean of the images")
    ops, dtype = get_ops(its.ops), np.dtype(its.dtype)
    scale = (dataset.std / state.std).astype(dtype)
    shift = ((dataset.mean - state.mean) / state.std).astype(dtype)
    same = not shift.any() and (scale == 1).all()

    def answers(images: Array, indices: Array) -> Array:
        x = images.astype(dtype, copy=False)
        x = x if same else x * scale + shift
        x_seq = encode(x, its.steps)
        run = forward(net, params, state.buffers, x_seq, ops, training=False, keep="nothing")
        return (run.branches[-1] if run.rates is None else run.rates).astype(images.dtype)

    try:
        shape = answers(np.zeros((1, *dataset.train.images.shape[1:]), dtype), np.zeros(1)).shape
    except ValueError as error:
        raise ValueError(f"teacher: {path} does not take these images: {error}") from None
    arrays = {f"params/{name}": x for name, x in params.items()}
    arrays |= {f"buffers/{name}": x for name, x in state.buffers.items()}
    return Teacher(answers, shape[1:], arrays | {"mean": state.mean, "std": state.std})


def from_file(path: Path, config: TrainConfig, dataset: Dataset) -> Teacher:
    """Return the answers of a .npz file to all training images, in order, as a teacher."""
    objective, images = config.objective, len(dataset.train.labels)
    name = objective.teacher_loss
    if not path.exists():
        raise FileNotFoundError(f"teacher: {path}: no such file or folder")
    if dataset.augment or getattr(dataset.train.images, "crops", False):
        raise ValueError(
            f"teacher: {path} has answers to the images as they are, but augmentation changes "
            "them; want augment none and no cutout, or the folder of a run"
        )
    found = read_whole(path, names=[name]).get(name)
    dims = 4 if objective.learns_features else 2
    if found is None or found.ndim != dims or len(found) != images or found.dtype.kind != "f":
        got = "none" if found is None else f"{found.dtype} {found.shape}"
        want = f"({images}, H, W, C)" if objective.learns_features else f"({images}, K)"
        raise ValueError(f"teacher: {path}: {name}: got {got}, want floats {want}")
    if not np.isfinite(found).all():
        raise ValueError(f"teacher: {path}: {name}: got NaN or infinity, want finite numbers")
    with np.errstate(over="ignore"):
        held = np.isfinite(found.astype(config.dtype)).all()
    if not held:
        largest = float(np.abs(found).max())
        raise ValueError(
            f"teacher: {path}: {name}: got {largest:.3g}, want numbers that {config.dtype} holds"
        )

    def answers(x: Array, indices: Array) -> Array:
        return found[indices].astype(x.dtype)

    return Teacher(answers, found.shape[1:], {name: found})
