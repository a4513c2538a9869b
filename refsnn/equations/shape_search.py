"""The choice of a surrogate's number by differences of the loss (Dspike; Li et al., 2021)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refsnn.equations.surrogate import Array
from refsnn.equations.validate import as_floats, positive, whole

LEAST = 0.1  # M9: of the number


@dataclass(frozen=True)
class ShapeSearch:
    """How the number of a surrogate is chosen anew, such as the b of `Dspike`."""

    eps: float = 0.1  # M9: how far weights are moved, in their standard deviations
    step: float = 0.2  # M9: how far the number may move at a time
    weights: int = 0  # how many weights are moved, drawn at random; 0: all

    def __post_init__(self) -> None:
        positive("eps", self.eps)
        positive("step", self.step)
        as_floats(self, "eps", "step")
        whole("weights", self.weights, 0)

    def indices(self, w: Array, rng: np.random.Generator) -> Array:
        """Return the places in w.ravel() of the weights that are moved, in order."""
        if not self.weights or self.weights >= w.size:
            return np.arange(w.size)
        return np.sort(rng.choice(w.size, self.weights, replace=False))


def choose_shape(
    loss: Callable[[Array], float],
    gradient: Callable[[float], Array],
    w: Array,
    indices: Array,
    shape: float,
    search: ShapeSearch,
) -> float:
    """Return the one of three numbers whose surrogate gradient is most along the loss's slope.

        d[i] = (L(w + e_i) - L(w - e_i))/(2 eps)

    `loss` is L, the loss of the spiking network as a function of these weights, in which there is
    no surrogate; `gradient(number)` is dL/dw by back-propagation. The numbers are `shape`, a step
    above and a step below, not under LEAST; the largest cosine of the gradient with d wins, and
    where two are equal the first one. e_i is eps at one of the `indices`, and 0 elsewhere.
    Source: DSPIKE, M9.
    """
    eps = search.eps * float(w.std())  # M9
    if eps == 0:
        raise ValueError("w: got equal weights, want some that differ")
    d = np.empty(len(indices))
    for n, index in enumerate(indices):
        at = []
        for moved in (eps, -eps):
            x = w.copy()
            x.flat[index] += moved
            at.append(loss(x))
        d[n] = (at[0] - at[1]) / (2 * eps)  # DSPIKE
    numbers = [max(shape + move, LEAST) for move in (0.0, search.step, -search.step)]  # M9
    cosines = [cosine(d, gradient(number).ravel()[indices]) for number in numbers]
    return numbers[int(np.argmax(cosines))]


def cosine(a: Array, b: Array) -> float:
    """Return the cosine of the angle between two vectors, or 0 where one has no direction."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else 0.0
