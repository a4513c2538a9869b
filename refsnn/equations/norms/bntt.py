"""Batch norm through time (BNTT; Kim and Panda, 2021): every step has a batch norm of its own."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refsnn.equations.batchnorm import BatchNorm
from refsnn.equations.norms.base import Arrays, Norm, per_step
from refsnn.equations.surrogate import Array


@dataclass(frozen=True)
class BNTT(Norm):
    """A batch norm with statistics, running statistics and gamma[t] of every step, without beta.

        y[t] = gamma[t] x_hat[t]

    gamma starts at 1, and eps is 1e-4. Source: BNTT.
    """

    running_by_step: ClassVar[bool] = True

    def constants(self, p: BatchNorm) -> BatchNorm:
        """Return the constants with statistics per step and the method's eps."""
        return per_step(p, 1e-4)

    def shapes(self, channels: int, steps: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of gamma, (T, C)."""
        return {"weight": (steps, channels)}

    def initial(self, channels: int, steps: int) -> Arrays:
        """Return gamma = 1."""
        return {"weight": np.ones((steps, channels))}

    def affine(self, params: Arrays) -> tuple[Array, Array]:
        """Return gamma (T, C), and 0 for beta."""
        return params["weight"], np.zeros_like(params["weight"])  # BNTT

    def gradients(self, dgamma: Array, dbeta: Array, params: Arrays) -> Arrays:
        """Return dL/dgamma."""
        return {"weight": dgamma}
