"""Temporal effective batch norm (TEBN; Duan et al., 2022): a learnt factor for each step."""

from dataclasses import dataclass

import numpy as np

from refsnn.equations.norms.base import Arrays, Norm
from refsnn.equations.surrogate import Array


@dataclass(frozen=True)
class TEBN(Norm):
    """A batch norm whose output is multiplied by a parameter p[t] at every step.

        y[t] = p[t] (gamma x_hat[t] + beta)

    p starts at 1. Source: TEBN.
    """

    def shapes(self, channels: int, steps: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of gamma and beta, (C,), and of p, (T,)."""
        return {"weight": (channels,), "bias": (channels,), "p": (steps,)}

    def initial(self, channels: int, steps: int) -> Arrays:
        """Return gamma = 1, beta = 0 and p = 1."""
        return {"weight": np.ones(channels), "bias": np.zeros(channels), "p": np.ones(steps)}

    def affine(self, params: Arrays) -> tuple[Array, Array]:
        """Return p[t] gamma and p[t] beta, (T, C)."""
        p = params["p"][:, None]
        return p * params["weight"], p * params["bias"]  # TEBN

    def gradients(self, dgamma: Array, dbeta: Array, params: Arrays) -> Arrays:
        """Return the gradients from those of gamma[t] = p[t] gamma and beta[t] = p[t] beta.

        dL/dp[t] = sum_c (dL/dgamma[t] gamma + dL/dbeta[t] beta)
        """
        p, gamma, beta = params["p"][:, None], params["weight"], params["bias"]
        return {
            "weight": (p * dgamma).sum(axis=0),
            "bias": (p * dbeta).sum(axis=0),
            "p": (dgamma * gamma + dbeta * beta).sum(axis=1),
        }
