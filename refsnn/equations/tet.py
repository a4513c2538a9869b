"""The loss of temporal efficient training (TET; Deng et al., 2022), taken at every time step."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from refsnn.equations.loss import CrossEntropyCache, cross_entropy_backward, cross_entropy_forward
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import as_floats, finite, ndim, number, shown
from refsnn.equations.validate import labels as check_labels


class TETCache(NamedTuple):
    """The values that the backward pass needs."""

    excess: Array  # (T, N, K) logits minus phi
    cross_entropy: CrossEntropyCache  # of all steps, (T N, K)


@dataclass(frozen=True)
class TET:
    """The cross-entropy of every step's logits, and a pull of all logits towards phi.

    It takes logits b (T, N, K); a network's answer is still the class with the highest mean.
    """

    lam: float = 1e-3  # M3: weight of the pull
    phi: float = 1.0  # M3: the threshold
    per_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= number("lam", self.lam) <= 1:
            raise ValueError(f"lam: got {shown(self.lam)}, want a weight in [0, 1]")
        if not finite(number("phi", self.phi)):
            raise ValueError(f"phi: got {shown(self.phi)}, want a finite number")
        as_floats(self, "lam", "phi")

    def forward(self, logits: Array, labels: Array) -> tuple[float, TETCache]:
        """Return the loss of logits (T, N, K) and labels (N,), and the cache for its gradient.

            L = lambda mean((b - phi)^2) + (1 - lambda)/T sum_t CE(b[t], y)

        The mean is over steps, images and classes. Source: TET, M3.
        """
        ndim("logits", logits, 3, "(T, N, K)")
        steps, images, classes = logits.shape
        if not steps:
            raise ValueError(f"logits: got shape {logits.shape}, want at least one time step")
        check_labels("labels", labels, images, classes)
        flat = logits.reshape(-1, classes)
        entropy, cache = cross_entropy_forward(flat, np.tile(labels, steps))
        excess = logits - self.phi
        pull = float((excess * excess).mean())
        return (1 - self.lam) * entropy + self.lam * pull, TETCache(excess, cache)  # TET  # M3

    def backward(self, cache: TETCache) -> Array:
        """Compute dL/db, (T, N, K).

            dL/db[t] = (1 - lambda) (p[t] - y)/(T N) + 2 lambda (b[t] - phi)/(T N K)

        p = softmax(b), with the labels y one-hot. Source: TET.
        """
        excess, of_steps = cache
        # forward: the mean over all steps and images
        entropy = cross_entropy_backward(of_steps).reshape(excess.shape)
        return (1 - self.lam) * entropy + (2 * self.lam / excess.size) * excess  # TET  # M3
