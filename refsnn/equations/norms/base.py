"""What a batch norm with other parameters than gamma and beta has."""

from dataclasses import dataclass, replace
from typing import ClassVar

from refsnn.equations.batchnorm import BatchNorm
from refsnn.equations.surrogate import Array

Arrays = dict[str, Array]


@dataclass(frozen=True)
class Norm:
    """A batch norm that is a map from its parameters to gamma and beta; subclasses have the map.

    gamma and beta may differ from step to step, (T, C): `batchnorm` normalises with them.
    """

    #: whether some parameters belong to one step each, so that T is fixed
    by_step: ClassVar[bool] = True
    #: whether each step has its own running statistics
    running_by_step: ClassVar[bool] = False
    #: whether it is of what a convolution takes, and not of what it gives
    of_inputs: ClassVar[bool] = False

    def check(self, p: BatchNorm) -> None:
        """Raise ValueError for constants of a batch norm that this one does not have."""

    def constants(self, p: BatchNorm) -> BatchNorm:
        """Return the batch norm's constants: those given, but what the method fixes."""
        return p

    def shapes(self, channels: int, steps: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each of a layer's parameters by name."""
        raise NotImplementedError

    def initial(self, channels: int, steps: int) -> Arrays:
        """Return a layer's parameters before training, as float64."""
        raise NotImplementedError

    def affine(self, params: Arrays) -> tuple[Array, Array]:
        """Return gamma and beta, (C,) or (T, C)."""
        raise NotImplementedError

    def gradients(self, dgamma: Array, dbeta: Array, params: Arrays) -> Arrays:
        """Return the parameters' gradients from those of gamma and beta."""
        raise NotImplementedError


def per_step(p: BatchNorm, eps: float) -> BatchNorm:
    """Return the constants with statistics per step, and this eps."""
    return replace(p, statistics="per_step", eps=eps)
