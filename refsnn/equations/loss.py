"""Cross-entropy of logits, averaged over the batch. logits (N, K), labels (N,) integers."""

from typing import NamedTuple

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
