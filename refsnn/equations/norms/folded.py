"""What batch norms are for inference: a bias of the convolution, whose weights are scaled."""

from dataclasses import dataclass
from typing import ClassVar

from refsnn.equations.norms.base import Norm


@dataclass(frozen=True)
class Folded(Norm):
    """No batch norm: convolutions have a bias, as `network.fold` makes them; not to be trained.

    c[t] = conv(x[t]) + bias
    """

    by_step: ClassVar[bool] = False

    def shapes(self, channels: int, steps: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of a convolution's bias, (C,)."""
        return {"bias": (channels,)}


@dataclass(frozen=True)
class FoldedByStep(Folded):
    """As `Folded`, with a bias and a factor for each step: that of the weights W[t] = gain[t] W.

    c[t] = gain[t] conv(x[t]) + bias[t]
    """

    by_step: ClassVar[bool] = True

    def shapes(self, channels: int, steps: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a convolution's gain and bias, (T, C) both."""
        return {"gain": (steps, channels), "bias": (steps, channels)}
