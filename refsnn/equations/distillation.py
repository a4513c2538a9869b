"""Losses with a teacher, a trained network whose numbers are constants (KDSNN; Xu et al., 2023)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refsnn.equations.loss import CrossEntropyCache, cross_entropy_backward, cross_entropy_forward
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import finite, like, number, positive, shown


class DistillationCache(NamedTuple):
    """The values that the backward pass needs."""

    p: Array  # (N, K), softmax of the logits over the temperature
    q: Array  # the same of the teacher's logits
    cross_entropy: CrossEntropyCache


@dataclass(frozen=True)
class Distillation:
    """The cross-entropy, and how far the softened probabilities are from a teacher's."""

    teacher: Array  # (N, K), the teacher's logits of the batch
    temperature: float = 4.0  # M16
    alpha: float = 0.7  # M16: weight of the teacher

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)
        if not (finite(number("alpha", self.alpha)) and 0 <= self.alpha <= 1):
            raise ValueError(f"alpha: got {shown(self.alpha)}, want a weight in [0, 1]")

    def forward(self, logits: Array, labels: Array) -> tuple[float, DistillationCache]:
        """Return the loss of logits z (N, K) and labels (N,), and the cache for its gradient.

            logits: L = alpha H^2 KL(q, p) + (1 - alpha) CE(z, y)

        q and p are softmax(z/H) of the teacher's and these logits, H is the temperature, and
        KL(q, p) = sum q ln(q/p)/N. Source: KDSNN, M16.
        """
        like("logits", logits, self.teacher.shape, logits.dtype, "the teacher's")
        entropy, cache = cross_entropy_forward(logits, labels)
        log_p, log_q = (log_softmax(z / self.temperature) for z in (logits, self.teacher))
        q = np.exp(log_q)
        divergence = float((q * (log_q - log_p)).sum(axis=1).mean())
        loss = self.alpha * self.temperature**2 * divergence + (1 - self.alpha) * entropy  # KDSNN
        return loss, DistillationCache(np.exp(log_p), q, cache)

    def backward(self, cache: DistillationCache) -> Array:
        """Compute dL/dz, (N, K).

            dL/dz = alpha H (p - q)/N + (1 - alpha) dCE/dz

        Source: KDSNN.
        """
        p, q, entropy = cache
        by_teacher = self.alpha * self.temperature * (p - q) / len(p)
        return by_teacher + (1 - self.alpha) * cross_entropy_backward(entropy)  # KDSNN


def log_softmax(logits: Array) -> Array:
    """Return ln(softmax(logits)), (N, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)  # no overflow
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def feature_loss(
    rates: Array, teacher: Array, align: Array | None, beta: float
) -> tuple[float, Array, Array | None]:
    """Return the loss of features, dL/drates like rates, and dL/dalign.

        features: L = beta sum((A rates - F)^2)/N

    `rates` (N, H, W, C) is the mean over time of what the last block passes on, `teacher` are the
    teacher's features F (N, H, W, C'), and `align` is A, the weights (1, 1, C, C') of a 1x1
    convolution, or None where C' = C and A is the identity. Source: KDSNN.
    """
    w = None if align is None else align[0, 0]
    found = rates if w is None else rates @ w
    like("teacher", teacher, found.shape, found.dtype, "these features")
    excess = found - teacher
    loss = beta * float((excess * excess).sum()) / len(rates)  # KDSNN
    d = 2 * beta / len(rates) * excess
    if w is None:
        return loss, d, None
    channels = (-1, rates.shape[-1])
    dw = rates.reshape(channels).T @ d.reshape(-1, d.shape[-1])
    return loss, d @ w.T, dw[None, None]
