"""What a neuron with parameters has."""

from dataclasses import dataclass
from typing import Any, ClassVar

from refsnn.equations.batchnorm import Running
from refsnn.equations.lif import LIF
from refsnn.equations.surrogate import Array

Shapes = dict[str, tuple[int, ...]]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Neuron:
    """A layer of neurons with parameters, as a network takes it; subclasses say what it computes.

    `p` are the settings of the layer's LIF: its surrogate, how it fires and resets, and where its
    constants start. Sequences are (T, N, ..., C), and potentials start at 0 (D6).
    """

    #: whether some parameters belong to one step each, so that T is fixed
    by_step: ClassVar[bool] = False
    #: whether it passes on 0 and 1 alone
    binary: ClassVar[bool] = True
    #: whether each layer keeps running statistics, (C,) each
    has_statistics: ClassVar[bool] = False

    def check(self, p: LIF) -> None:
        """Check that the neuron can start from these settings; ValueError says why not."""

    def shapes(self, channels: int, steps: int) -> Shapes:
        """Return the shape of each of a layer's parameters by name."""
        raise NotImplementedError

    def initial(self, p: LIF, channels: int, steps: int) -> Arrays:
        """Return a layer's parameters before training, as float64."""
        raise NotImplementedError

    def limited(self, params: Arrays) -> Arrays:
        """Return a layer's parameters after an update, or some of them, inside of their limits."""
        return params

    def forward(
        self, c_seq: Array, params: Arrays, running: Running | None, p: LIF, training: bool
    ) -> tuple[Array, Running | None, Any]:
        """Compute what the layer passes on, (T, N, ..., C), its statistics after it, and a cache.

        The cache has `u_pre_seq`, the potentials before firing, and `o_seq`, the spikes.
        """
        raise NotImplementedError

    def backward(self, dy_seq: Array, cache: Any) -> tuple[Array, Arrays]:
        """Compute dL/dc, (T, N, ..., C), and the parameters' gradients by name."""
        raise NotImplementedError
