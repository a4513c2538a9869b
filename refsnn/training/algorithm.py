"""Algorithm 1 of the paper: one iteration of training, and inference."""

from typing import Any, NamedTuple

import numpy as np

from refsnn.network import Forward, Network, Params, backward, encode, forward, without_branches
from refsnn.ops import Array, Ops
from refsnn.training.checkpoint import State
from refsnn.training.config import TrainConfig
from refsnn.training.monitor import require_finite
from refsnn.training.optimizer import OPTIMIZERS, cosine


class Step(NamedTuple):
    loss: float
    side: float  # the side branches' weight, lambda(i)
    lr: float
    run: Forward
    grads: Params


def train_step(
    state: State, net: Network, config: TrainConfig, ops: Ops, batch: tuple[Array, Array],
    batches: int,
) -> Step:  # fmt: skip
    """Iteration i = state.iteration + 1 of I = epochs * batches; moves `state` on.

    Diverged is raised before anything has moved.
    """
    i = state.iteration + 1
    images, labels = batch  # Alg. 1 line 2
    x_seq = encode(images, config.steps)
    run = forward(net, state.params, state.buffers, x_seq, ops)  # Alg. 1 line 3
    side = config.side_coefficient(i, batches)  # Alg. 1 line 4
    loss, cache = ops.objective_forward(run.branches, labels, side, config.sum_of)  # Alg. 1 line 5
    grads = backward(run, ops.objective_backward(cache))  # Alg. 1 line 7
    lr = cosine(config.lr, i, config.epochs * batches)
    update = OPTIMIZERS[config.optimizer]
    params, moments = update(
        state.params, grads, state.optimizer, i, lr, config, ops
    )  # Alg. 1 line 8
    require_finite(i, loss, run, grads, params)
    state.params, state.optimizer, state.buffers, state.iteration = params, moments, run.buffers, i
    return Step(loss, side, lr, run, grads)


def main_logits(
    net: Network, params: Params, buffers: Params, images: Array, steps: int, ops: Ops
) -> Array:
    """Inference: o_final = b_n(x) (N, K), by running statistics; side branches are taken off."""
    net, params = without_branches(net, params)
    run = forward(net, params, buffers, encode(images, steps), ops, training=False)
    return run.branches[-1]  # Alg. 1 inference line 5


def evaluate(
    state: State, net: Network, config: TrainConfig, ops: Ops, dataset: Any, batch_size: int = 128
) -> dict[str, float]:
    """Accuracy and mean cross-entropy of the main branch on the test split."""
    split, correct, loss = dataset.test, 0, 0.0
    total = len(split.labels)
    for first in range(0, total, batch_size):
        which = np.arange(first, min(first + batch_size, total))
        images, labels = dataset.batch(split, which, config.dtype)
        logits = main_logits(net, state.params, state.buffers, images, config.steps, ops)
        correct += int((logits.argmax(axis=1) == labels).sum())  # Alg. 1 inference line 6
        loss += ops.cross_entropy_forward(logits, labels)[0] * len(labels)
    return {"test_accuracy": correct / total, "test_loss": loss / total}
