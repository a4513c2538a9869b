"""Training and using a network from Python, without files or a command line: `fit` and `load`."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsnn import data
from refsnn.data import Dataset, Loader
from refsnn.data.arrays import check_channels_last, from_arrays, labels_of
from refsnn.data.dataset import standardize
from refsnn.data.load import augmented
from refsnn.export.network_json import MissingConfig
from refsnn.export.parameters import Trained, load_trained, save_parameters, trained_in
from refsnn.network import Network, Params, encode, forward, neuron_caches, without_branches
from refsnn.ops import Array, Ops, get_ops, validate
from refsnn.training.algorithm import gradients, logits_by_step, main_forward, main_logits
from refsnn.training.config import TrainConfig, make_config
from refsnn.training.folder import BEST, LAST, open_run, read_metrics
from refsnn.training.trainer import Trainer

BATCH = 128  # images that are computed at a time where nothing is trained


class Activity(NamedTuple):
    """Spikes (0 or 1) of a layer of neurons, and its potentials u_pre before firing."""

    spikes: Array  # (T, N, H, W, C)
    potentials: Array  # the same


@dataclass(frozen=True)
class Model:
    """A trained network, with all that it takes to use it on images.

    Images are (N, H, W, C), (N, H, W) where there is one channel, or sequences of frames
    (N, T, H, W, C), in the unit of the training images: they are standardised here.
    """

    config: TrainConfig
    net: Network
    params: Params = field(repr=False)
    buffers: Params = field(repr=False)  # running statistics of batch norm
    mean: Array  # (C,), in the unit of the pixels
    std: Array  # (C,)
    iteration: int  # iterations of training so far
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)  # each epoch's figures

    @property
    def ops(self) -> Ops:
        """Return the operations that the model computes with."""
        return get_ops(self.config.ops)

    def predict(self, images: Any) -> Array:
        """Return the class (N,) with the highest logit for each image."""
        return self.predict_logits(images).argmax(axis=1)

    def predict_proba(self, images: Any) -> Array:
        """Return the classes' probabilities (N, K), the softmax of the logits."""
        logits = self.predict_logits(images)
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def predict_logits(self, images: Any) -> Array:
        """Return the logits (N, K) of the main branch, by running statistics (Algorithm 1)."""
        net, steps = self.net, self.config.steps
        with np.errstate(all="ignore"):
            logits = [
                main_logits(net, self.params, self.buffers, batch, steps, self.ops)
                for batch in self.batches_of(images)
            ]
        return np.concatenate(logits)

    def predict_by_step(self, images: Any) -> Array:
        """Return the class (T, N) with the highest logit after the first 1, 2, … T steps.

        The last row is `predict`; one forward pass gives them all.
        """
        net, steps = self.net, self.config.steps
        found = []
        with np.errstate(all="ignore"):
            for batch in self.batches_of(images):
                run = main_forward(net, self.params, self.buffers, batch, steps, self.ops)
                found.append(np.stack([b.argmax(axis=1) for b in logits_by_step(run)]))
        return np.concatenate(found, axis=1)

    def score(self, images: Any, labels: Any) -> float:
        """Return the accuracy, the share of images whose predicted class is the label."""
        predicted = self.predict(images)
        labels = self.checked_labels(labels, len(predicted))
        return float((predicted == labels).mean())

    def spikes(self, images: Any) -> dict[str, Activity]:
        """Return every layer's spikes and potentials by name, from input to output.

        The side branches are left out and batch norm uses its running statistics, as in
        `predict`. All images are held at once.
        """
        net, params = without_branches(self.net, self.params)
        found: dict[str, list[Activity]] = {}
        for batch in self.batches_of(images):
            x_seq = encode(batch, self.config.steps)
            run = forward(net, params, self.buffers, x_seq, self.ops, training=False)
            for name, cache in neuron_caches(run):
                activity = Activity(cache.o_seq.astype(batch.dtype), cache.u_pre_seq)
                found.setdefault(name, []).append(activity)
        return {
            name: Activity(*(np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)))
            for name, pieces in found.items()
        }

    def gradients(self, images: Any, labels: Any, side: float | None = None) -> Params:
        """Return dL/dW of every parameter by name, on one batch of images and labels (N,).

        L is the objective of the training, with the batch's statistics, and where the surrogate
        changes from epoch to epoch, with that of the last one. `side` is the weight of the
        side branches, by default that of the start of training: 0 for vanilla, `shortcut_weight` or
        `lam` (Eq. 10).
        """
        x = self.standardized(self.checked(images))
        labels = self.checked_labels(labels, len(x))
        if side is None:
            side = self.config.initial_side_coefficient()
        validate.at_least("side", side, 0)
        side = float(side)
        if self.config.objective.teacher:
            raise ValueError(
                "gradients: the loss has a teacher, whose answers to these images are not known"
            )
        shape = self.history[-1].get("surrogate_shape") if self.history else None
        if self.config.neuron.surrogate_search and shape is None:
            raise ValueError(
                "gradients: the surrogate's number was chosen in each epoch, and is in the history "
                "of the run, which this model does not have"
            )
        net = self.config.in_epoch(self.net, self.config.epochs - 1, shape)
        numbers = net, self.params, self.buffers
        return gradients(*numbers, self.config, self.ops, (x, labels), side)[2]

    def save(self, path: Path | str) -> None:
        """Write the model to a `.npz` or `.safetensors` file, which `load` reads.

        The history is not kept. ValueError where the surrogate or the loss is the user's own.
        """
        trained = Trained(self.config, self.iteration, self.mean, self.std)
        save_parameters(path, self.net, self.params, self.buffers, trained)

    def checked(self, images: Any) -> Array:
        """Return images as an array with channels; TypeError or ValueError says what is wrong."""
        images = np.asarray(images)
        if images.dtype.kind not in "fiub":
            raise TypeError(f"images: got dtype {images.dtype}, want real numbers")
        channels = self.net.in_channels
        if images.ndim not in (3, 4, 5) or len(images) == 0:
            wanted = f"(N, H, W, {channels}) with at least one image"
            raise ValueError(f"images: got shape {images.shape}, want {wanted}")
        if images.ndim == 3:
            if images.shape[-1] == channels < min(images.shape[:2]):
                raise ValueError(
                    f"images: got shape {images.shape}, which looks like one image; want "
                    f"(N, H, W, {channels}), as images[None] makes"
                )
            images = images[..., None]
        if images.shape[-1] != channels:
            check_channels_last("images", images.shape)
            raise ValueError(f"images: got {images.shape[-1]} channels, want {channels}")
        if not np.isfinite(images).all():
            raise ValueError("images: got NaN or infinity, want finite numbers")
        return images

    def checked_labels(self, labels: Any, count: int) -> Array:
        """Return labels as an array (N,); TypeError or ValueError says what is wrong."""
        labels = labels_of("labels", np.asarray(labels))
        validate.labels("labels", labels, count, self.net.num_classes)
        return labels

    def standardized(self, images: Array) -> Array:
        """Return checked images as the network sees them."""
        return standardize(images, self.mean, self.std, self.config.dtype)

    def batches_of(self, images: Any) -> Iterator[Array]:
        """Give the standardised images in batches."""
        images = self.checked(images)
        for first in range(0, len(images), BATCH):
            yield self.standardized(images[first : first + BATCH])


def fit(
    images: Any = None,
    labels: Any = None,
    *,
    validation: tuple[Any, Any] | float | None = None,
    callback: Callable[[Model], object] | None = None,
    progress: bool = True,
    preset: str = "digits",
    **settings: Any,
) -> Model:
    """Train a network on images (N, H, W, C) and labels (N,) 0 … K-1, and return the model.

    Instead of arrays, `dataset` names a data set, or is a `Dataset` or a function that returns one
    for the data's `Options`. The settings are those of
    `refsnn train` and `config.json` by name, such as `method`, `arch`, `steps`, `epochs`, `lr` and
    `seed`, over those of the preset; equal settings and data give the same bits. `surrogate` and
    `loss` may be objects.

    With `validation`, a pair (images, labels), the history has `test_accuracy` and `test_loss` of
    each epoch. As a number it is the setting of this name: that share of the training images is
    left out, the history has `validation_accuracy` and `validation_loss`, and with `patience=N`
    training ends where the accuracy has not become better for N epochs. The model is that of the
    last epoch, not of the best one.

    `callback` is called with the model after each epoch; training ends early where it
    returns True. `progress` shows a bar on stderr.

    TypeError or ValueError names the argument or setting that is wrong; `Diverged` is raised where
    a loss, a gradient, a parameter or the optimizer's state is not finite.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: got {validate.shown(callback)}, want a function of the model")
    if isinstance(validation, int | float):
        settings, validation = settings | {"validation": validation}, None
    config, dataset = prepare_fit(images, labels, validation, make_config(preset), settings)
    trainer = Trainer(config, dataset, tests=validation is not None or images is None)
    history: list[dict[str, Any]] = []
    with trainer.progress_bar(not progress) as bar, Loader(dataset, lambda: dataset, 0) as loader:
        for row in trainer.train_epochs(loader, bar):
            history.append(row)
            if callback is not None and callback(model_of(trainer, history)) is True:
                break
    return model_of(trainer, history)


def prepare_fit(
    images: Any, labels: Any, validation: Any, preset: TrainConfig, settings: dict[str, Any]
) -> tuple[TrainConfig, Dataset]:
    """Return the settings and the data set of a call of `fit`."""
    given = settings.pop("dataset", None)
    if isinstance(images, str | Path | Dataset):
        got = validate.shown(images) if isinstance(images, str) else type(images).__name__
        raise TypeError(f"images: got {got}, want an array; a data set is given as dataset=")
    if images is not None:
        if given is not None:
            raise TypeError("dataset: given beside images, want one of the two")
        if labels is None:
            raise TypeError("labels: missing, want an array (N,) beside the images")
        config = preset.changed(**settings, dataset="arrays")
        dataset = from_arrays(images, labels, validation, config.dtype, config.data.any_range)
        return config, augmented(dataset, config.data_options())
    for name, value in (("labels", labels), ("validation", validation)):
        if value is not None:
            raise TypeError(f"images: missing, but {name} given")
    if given is None:
        raise TypeError("images: missing; want images and labels, or dataset")
    if callable(given):
        given = given(preset.changed(**settings).data_options())
    if isinstance(given, Dataset):
        config = preset.changed(**settings, dataset=given.name)
        return config, augmented(given, config.data_options())
    if not isinstance(given, str | Path):
        got = type(given).__name__
        raise TypeError(f"dataset: got {got}, want a name, a file, a Dataset or a function of one")
    config = preset.changed(**settings, dataset=given)
    return config, data.load(config.data.dataset, config.data_options())


def model_of(trainer: Trainer, history: list[dict[str, Any]]) -> Model:
    """Return the model as it is after the trainer's last iteration."""
    state, dataset = trainer.state, trainer.dataset
    mean, std = (np.asarray(x, np.float64) for x in (dataset.mean, dataset.std))
    numbers = state.params, state.buffers, mean, std, state.iteration
    return Model(trainer.config, trainer.net, *numbers, list(history))


def load(path: Path | str, best: bool = False) -> Model:
    """Read a model from the folder of a run, or from a file that `Model.save` or `refsnn export`
    wrote.

    Of a run it is the last epoch's, or with `best` that of the epoch with the best accuracy on the
    images left out.
    OSError where there is none; ValueError or TypeError say what is wrong with it. A run that
    stopped or diverged before its last iteration is read with a warning.
    """
    path = Path(path)
    if path.is_dir():
        config, net, state = open_run(path, best)
        if not (path / "summary.json").exists():
            unfinished = f"{path}: not trained to its end: {state.iteration} iterations"
            warnings.warn(unfinished, stacklevel=2)
        trained, history = trained_in(config, state), read_metrics(path)
        return model_from(net, state.params, state.buffers, trained, history)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if best:
        raise ValueError(f"best: {path} is a file, which holds one epoch; want a run's folder")
    try:
        net, params, buffers, how = load_trained(path)
    except MissingConfig:
        if path.name in (BEST, LAST):
            text = "is the checkpoint of a run, want the run's folder"
        else:
            text = "not written by Model.save or refsnn export"
        raise ValueError(f"{path}: {text}") from None
    if how is None:
        raise ValueError(
            f"{path}: does not say how the network was trained; load_parameters of "
            "refsnn.export.parameters reads its numbers"
        )
    return model_from(net, params, buffers, how, [])


def model_from(
    net: Network, params: Params, buffers: Params, trained: Trained, history: list[dict[str, Any]]
) -> Model:
    """Return the model of a file or run."""
    numbers = trained.mean, trained.std, trained.iteration
    return Model(trained.config, net, params, buffers, *numbers, history)
