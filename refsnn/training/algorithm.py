"""Algorithm 1 of the paper: one iteration of training, and inference."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from refsnn.network import (
    ALIGN,
    Forward,
    Network,
    Params,
    backward,
    encode,
    forward,
    limited,
    outputs,
    potential_value,
    without_branches,
)
from refsnn.network.head import read_out
from refsnn.ops import Array, ObjectiveCache, Ops, choose_shape, feature_loss, loss_value
from refsnn.training.checkpoint import State
from refsnn.training.config import TrainConfig
from refsnn.training.monitor import firing_rates, require_finite, require_finite_update
from refsnn.training.optimizer import OPTIMIZERS, Stepped, cosine


class Step(NamedTuple):
    """The figures of an iteration; its activations are gone by then."""

    loss: float
    side: float  # the side branches' weight, lambda(i)
    lr: float
    logits: Array  # the main branch's, (N, K)
    rates: dict[str, float]  # firing rate of each layer, spikes per neuron and step
    grads: Params


class Objective(NamedTuple):
    """A loss, its forward pass, and what its gradients follow from."""

    loss: float
    run: Forward
    cache: ObjectiveCache
    of_features: tuple[Array, Array | None] | None  # `feature_loss`'s gradients, if there is one


def objective(
    net: Network,
    params: Params,
    buffers: Params,
    config: TrainConfig,
    ops: Ops,
    batch: tuple[Array, Array],
    side: float,
    keeps_all: bool = True,
    answers: Array | None = None,
) -> Objective:
    """Compute the loss of a batch, with the side branches weighted by `side`.

    `answers` are the teacher's to these images, logits (N, K) or features (N, H, W, C). Without
    `keeps_all`, the gradients take less memory and more time (`network.kept`).
    """
    images, labels = batch  # Alg. 1 line 2
    x_seq = encode(images, config.steps)
    keep = "all" if keeps_all else "spikes"
    settings, criterion = config.objective, config.make_loss()
    if settings.teacher and answers is None:
        raise ValueError("teacher: want its answers to these images")
    of_potentials = settings.make_potential_loss()
    run = forward(
        net, params, buffers, x_seq, ops, keep=keep, potential_loss=of_potentials
    )  # Alg. 1 line 3
    if answers is not None and run.rates is None:
        criterion = settings.make_distillation(answers)
    loss, cache = ops.objective_forward(
        outputs(run, criterion), labels, side, settings.branch_sum, criterion
    )  # Alg. 1 line 5
    loss += potential_value(run)
    if answers is None or run.rates is None:
        return Objective(loss, run, cache, None)
    weight = settings.feature_weight
    value, drates, dalign = feature_loss(run.rates, answers, params.get(ALIGN), weight)
    return Objective(loss + value, run, cache, (drates, dalign))


def gradients(
    net: Network,
    params: Params,
    buffers: Params,
    config: TrainConfig,
    ops: Ops,
    batch: tuple[Array, Array],
    side: float,
    keeps_all: bool = True,
    answers: Array | None = None,
) -> tuple[float, Forward, Params]:
    """Compute loss, forward pass and gradients; the arguments are those of `objective`."""
    found = objective(net, params, buffers, config, ops, batch, side, keeps_all, answers)
    db = ops.objective_backward(found.cache)
    grads = backward(found.run, db, *(found.of_features or ()))  # Alg. 1 line 7
    return found.loss, found.run, grads


def search_shape(
    state: State,
    net: Network,
    config: TrainConfig,
    ops: Ops,
    batch: tuple[Array, Array],
    batches: int,
    answers: Array | None = None,
) -> float | None:
    """Return the surrogate's number for the epoch that begins with this batch, None if it stays.

    The weights that are moved are the first layer's. Source: DSPIKE, M9.
    """
    search = config.neuron.search()
    if search is None:
        return None
    side, name = config.side_coefficient(state.iteration + 1, batches), "stem.conv0.weight"

    given = state.buffers, config, ops, batch, side, True, answers

    def loss(w: Array) -> float:
        return objective(net, state.params | {name: w}, *given).loss

    def gradient(shape: float) -> Array:
        return gradients(config.in_epoch(net, 0, shape), state.params, *given)[2][name]

    w, shape = state.params[name], state.surrogate_shape or config.neuron.first_shape()
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(4, state.iteration)))
    return choose_shape(loss, gradient, w, search.indices(w, rng), shape, search)


def train_step(
    state: State,
    net: Network,
    config: TrainConfig,
    ops: Ops,
    batch: tuple[Array, Array],
    batches: int,
    keeps_all: bool = True,
    answers: Array | None = None,
) -> Step:
    """Do iteration i = state.iteration + 1 of I = epochs * batches, and move `state` on.

    `answers` are the teacher's. Diverged is raised before anything has moved. Without `keeps_all`,
    the step takes less memory and more time, and its results have the same bits; another error
    while parameters are updated leaves some of them moved. Source: Algorithm 1.
    """
    i = state.iteration + 1
    net = config.in_epoch(net, (i - 1) // batches, state.surrogate_shape)
    side = config.side_coefficient(i, batches)  # Alg. 1 line 4
    loss, run, grads = gradients(
        net, state.params, state.buffers, config, ops, batch, side, keeps_all, answers
    )
    require_finite(i, loss, run, grads)
    logits, rates, buffers = run.branches[-1], firing_rates(run), run.buffers
    del run  # its memory serves the update, which holds old and new numbers at once
    lr = cosine(config.optimizer.lr, i, config.epochs * batches)
    update = OPTIMIZERS[config.optimizer.optimizer]

    def stepped(names: Iterable[str]) -> Stepped:
        given = ({name: x[name] for name in names} for x in (state.params, grads))
        moved, moments = update(*given, state.optimizer, i, lr, config.optimizer, ops)
        return limited(net, moved), moments  # Alg. 1 line 8

    if keeps_all:
        params, moments = stepped(list(state.params))
        require_finite_update(i, loss, params, moments)
        state.params, state.optimizer = params, moments
    else:
        for name in state.params:
            require_finite_update(i, loss, *stepped([name]))
        order: list[str] = []
        for name in list(state.params):  # again, one after the other: no two copies of all at once
            moved, moments = stepped([name])
            state.params, state.optimizer = state.params | moved, state.optimizer | moments
            order += moments
        state.optimizer = {name: state.optimizer[name] for name in order}
    state.buffers, state.iteration = buffers, i
    return Step(loss, side, lr, logits, rates, grads)


def main_logits(
    net: Network, params: Params, buffers: Params, images: Array, steps: int, ops: Ops
) -> Array:
    """Compute the main branch's logits (N, K), by running statistics.

        o_final = b_n(x)

    The side branches are removed before computing. Source: Algorithm 1, inference.
    """
    run = main_forward(net, params, buffers, images, steps, ops)
    return run.branches[-1]  # Alg. 1 inference line 5


def main_forward(
    net: Network, params: Params, buffers: Params, images: Array, steps: int, ops: Ops
) -> Forward:
    """Compute the forward pass of the main branch, by running statistics."""
    net, params = without_branches(net, params)
    return forward(net, params, buffers, encode(images, steps), ops, training=False, keep="nothing")


def logits_by_step(run: Forward) -> Iterator[Array]:
    """Yield the main branch's logits (N, K) after the first 1, 2, … T steps.

    A step's output depends on the steps until then alone, so one forward pass gives them all. The
    last ones are the logits of `main_logits`.
    """
    y_seq = run.heads[-1].y_seq
    for steps in range(1, len(y_seq) + 1):
        yield read_out(y_seq[:steps], run.context.net.readout)


def evaluate(
    state: State,
    net: Network,
    config: TrainConfig,
    ops: Ops,
    batches: Iterable[tuple[Array, Array]],
) -> dict[str, Any]:
    """Compute accuracy, mean loss and each class's accuracy of the main branch over batches.

    A batch is images and labels. The accuracy of a class without an image is None.
    """
    criterion = config.make_loss()
    images_of, correct_of = np.zeros((2, net.num_classes), np.int64)  # each class
    loss = 0.0
    for images, labels in batches:
        run = main_forward(net, state.params, state.buffers, images, config.steps, ops)
        logits = run.branches[-1]
        right = labels[logits.argmax(axis=1) == labels]  # Alg. 1 inference line 6
        images_of += np.bincount(labels, minlength=net.num_classes)
        correct_of += np.bincount(right, minlength=net.num_classes)
        loss += loss_value(criterion, outputs(run, criterion)[-1], labels)[0] * len(labels)
    total = int(images_of.sum())
    return {
        "accuracy": int(correct_of.sum()) / total,
        "loss": loss / total,
        "class_accuracy": [
            int(correct) / int(count) if count else None
            for correct, count in zip(correct_of, images_of, strict=True)
        ],
    }
