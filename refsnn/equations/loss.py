"""Cross-entropy of logits, averaged over the batch. logits (N, K), labels (N,) integers."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from refsnn.equations.surrogate import Array
from refsnn.equations.validate import labels as check_labels
from refsnn.equations.validate import ndim


class CrossEntropyCache(NamedTuple):
    """The values that the backward pass needs."""

    p: Array  # (N, K) softmax of the logits
    labels: Array  # (N,)


def cross_entropy_forward(logits: Array, labels: Array) -> tuple[float, CrossEntropyCache]:
    """Return the mean cross-entropy of the batch, in nats.

        L = -1/N sum_n ln(p[n, y[n]]),  p = softmax(logits)

    ValueError where a label is not in 0 … K-1.
    """
    ndim("logits", logits, 2, "(N, K)")
    check_labels("labels", labels, len(logits), logits.shape[1])
    shifted = logits - logits.max(axis=1, keepdims=True)  # no overflow
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    log_p = shifted - np.log(total)
    loss = -log_p[np.arange(len(logits)), labels].mean()
    return float(loss), CrossEntropyCache(e / total, labels)


def cross_entropy_backward(cache: CrossEntropyCache) -> Array:
    """Compute dL/dlogits = (p - y)/N, (N, K), with the labels y one-hot."""
    dlogits = cache.p.copy()
    dlogits[np.arange(len(dlogits)), cache.labels] -= 1
    return dlogits / len(dlogits)


class Loss(Protocol):
    """A loss of logits (N, K) and labels (N,): its mean over the batch, and its gradient.

    One with an attribute `per_step` that is true gets the logits of every step, (T, N, K), instead
    of their mean or sum over time.
    """

    def forward(self, logits: Array, labels: Array, /) -> tuple[float, Any]:
        """Return the loss, and the cache for its gradient."""

    def backward(self, cache: Any, /) -> Array:
        """Return dL/dlogits, of the logits' shape and dtype."""


class CrossEntropy:
    """The cross-entropy as a `Loss`."""

    def forward(self, logits: Array, labels: Array) -> tuple[float, CrossEntropyCache]:
        """Return the loss, and the cache for its gradient."""
        return cross_entropy_forward(logits, labels)

    def backward(self, cache: CrossEntropyCache) -> Array:
        """Return dL/dlogits."""
        return cross_entropy_backward(cache)


CROSS_ENTROPY = CrossEntropy()


def is_per_step(loss: Loss) -> bool:
    """Tell whether the loss takes the logits of every step."""
    return bool(getattr(loss, "per_step", False))


def loss_value(loss: Loss, logits: Array, labels: Array) -> tuple[float, Any]:
    """Return the loss as a Python float, and its cache.

    TypeError where a loss of the user's own gives no pair of a number and a cache.
    """
    made: Any = loss.forward(logits, labels)
    try:
        value, cache = made
        return float(value), cache
    except (TypeError, ValueError) as error:
        name = type(loss).__name__
        raise TypeError(f"loss: want (number, cache) from {name}.forward ({error})") from None


def loss_gradient(loss: Loss, cache: Any, logits: Array) -> Array:
    """Return dL/dlogits as `loss` gives it, in the logits' dtype.

    ValueError where a loss of the user's own gives no array of their shape.
    """
    dlogits = loss.backward(cache)
    if not isinstance(dlogits, np.ndarray) or dlogits.shape != logits.shape:
        name, got = type(loss).__name__, getattr(dlogits, "shape", type(dlogits).__name__)
        raise ValueError(f"loss: got {got} from {name}.backward, want {logits.shape}")
    return dlogits.astype(logits.dtype, copy=False)
